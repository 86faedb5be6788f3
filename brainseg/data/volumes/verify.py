"""Checks a folder of volumes, and doesn't stop at the first problem."""

import hashlib
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from brainseg.classes import Labels
from brainseg.config import NIFTI, DataConfig
from brainseg.data.decode import levels_of, size_text
from brainseg.data.findings import Severity, collect
from brainseg.data.folder import folder_findings, masks_of, open_folder, slice_infos
from brainseg.data.layout import Pair
from brainseg.data.masks import class_masks, foreground_pixels
from brainseg.data.near_duplicates import equal_groups
from brainseg.data.people import people_with_several_ids, person_of
from brainseg.data.set_masks import SetMasks, read_file
from brainseg.data.source import PATIENT, TUMOR_TYPE
from brainseg.data.verify import FOREGROUND, FolderReport, ForegroundFraction
from brainseg.data.volumes.set import VolumeSlices, open_volumes
from brainseg.data.volumes.volume import Volume
from brainseg.errors import DataError


@dataclass(kw_only=True)
class _Seen:
    """What reading the volumes gave, one after the other."""

    root: Path
    data: DataConfig
    problems: dict[str, list[str]]  # at first those of the headers
    sizes: Counter[str] = field(default_factory=Counter)  # of slices
    values: Counter[str] = field(default_factory=Counter)
    class_voxels: list[NDArray[np.int64]] = field(default_factory=list)
    fractions: list[float] = field(default_factory=list)  # of foreground, of each slice
    voxels: int = 0  # of the masks
    digests: dict[str, bytes] = field(default_factory=dict)

    def add_image(self, volume: Volume, image: NDArray[np.uint8]) -> None:
        self.sizes[size_text(image.shape[1:])] += len(image)
        if (image == image[:1, :1, :1]).all():
            self.problems["constant_image"].append(volume.paths[0].relative_to(self.root).as_posix())
        else:
            self.digests[volume.id] = hashlib.sha256(f"{image.shape}".encode() + image.tobytes()).digest()

    def add_mask(self, pair: Pair, volume: Volume, mask: NDArray[np.uint8]) -> None:
        of_class = class_masks(mask, self.data.labels)
        self.class_voxels.append(np.count_nonzero(of_class, axis=(0, 1, 2)))
        self.voxels += of_class[..., 0].size
        fractions = foreground_pixels(mask).any(axis=-1).mean(axis=(1, 2)).tolist()
        self.fractions += fractions
        self.problems["empty_mask"] += [
            name for name, share in zip(volume.slice_ids, fractions, strict=True) if not share
        ]
        if self.data.classes is None and min(fractions) == 1:
            self.problems["full_mask"].append(pair.mask)

    def add_error(self, check: str, error: DataError) -> None:
        text = str(error).removeprefix(f"{self.root}/")
        if text not in self.problems[check]:  # what is wrong with all masks together comes with each of them
            self.problems[check].append(text)


def verify_volumes(root: Path, data: DataConfig) -> FolderReport:
    """Every finding in the folder. Raises DataError where it can't be checked at all.

    data: how a run would read the files.
    """
    opened = open_folder(root, replace(data, name=NIFTI, root=str(root)))
    listing, metadata, data = opened.listing, opened.metadata, opened.data
    volumes = open_volumes(root, listing.pairs, data)
    infos = slice_infos(listing, metadata, volumes)
    masks = masks_of(root, listing.pairs, listing.annotations, data)
    assert isinstance(masks, SetMasks)
    slices = VolumeSlices(volumes, listing.pairs, masks, data)
    seen = _Seen(
        root=root, data=data, problems=defaultdict(list, {check: [*of] for check, of in volumes.problems.items()})
    )
    for pair in listing.pairs:
        if pair.id in volumes.of_id:
            _read(pair, volumes.of_id[pair.id], slices, seen)
    problems = seen.problems
    if seen.fractions and not any(seen.fractions):
        problems["no_foreground"] = problems.pop("empty_mask")
    classes = _shares(seen, data.labels)
    problems["absent_class"] = [name for name, share in classes.items() if not share and data.labels.are_named]
    patient_ids = {info.columns[PATIENT] for info in infos}
    problems["several_ids"] = [
        f"{person}: {', '.join(ids)}" for person, ids in people_with_several_ids(patient_ids).items()
    ]
    problems["equal_slices"] = [" = ".join(group) for group in equal_groups(seen.digests)]
    findings = (*folder_findings(listing, metadata), *collect(problems))
    return FolderReport(
        root=str(root),
        layout=", ".join(filter(None, (f"{len(volumes.of_id)} volumes", listing.kind, opened.taken))),
        patterns=listing.layout,
        slices=len(infos),
        patient_ids=len(patient_ids),
        people=len({person_of(patient_id) for patient_id in patient_ids}),
        tumor_types=dict(Counter(info.columns[TUMOR_TYPE] for info in infos if TUMOR_TYPE in info.columns)),
        sizes=dict(seen.sizes.most_common()),
        channels=("grey",) if data.channels_are_alike else data.channels,
        colour_images=0,
        classes=classes,
        values=dict(seen.values.most_common()),
        foreground_fraction=_fraction(seen.fractions),
        findings=tuple(sorted(findings, key=lambda finding: finding.severity is Severity.WARNING)),
    )


def _read(pair: Pair, volume: Volume, slices: VolumeSlices, seen: _Seen) -> None:
    try:
        seen.add_image(volume, slices.image(volume.id))
    except DataError as error:
        seen.add_error("unreadable_file", error)
    try:
        found = [levels_of(read_file(seen.root / path, seen.data).values).values for path in pair.masks]
    except DataError as error:
        seen.add_error("unreadable_file", error)
        return
    seen.values.update({f"{value:g}" for values in found for value in values})
    try:
        seen.add_mask(pair, volume, slices.mask(volume.id))
    except DataError as error:
        seen.add_error("mask_not_binary" if seen.data.classes is None else "mask_not_of_classes", error)


def _shares(seen: _Seen, labels: Labels) -> dict[str, float]:
    """Class -> its share of all voxels; empty where no mask can be read."""
    if not seen.voxels:
        return {}
    names = labels.names if labels.are_named else (FOREGROUND,)
    counted = np.sum(seen.class_voxels, axis=0)
    return {name: float(count / seen.voxels) for name, count in zip(names, counted, strict=True)}


def _fraction(fractions: list[float]) -> ForegroundFraction | None:
    if not fractions:
        return None
    return ForegroundFraction(min=min(fractions), median=float(np.median(fractions)), max=max(fractions))
