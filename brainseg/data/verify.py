"""Checks a data folder, file by file, and doesn't stop at the first problem."""

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainseg.config import DataConfig
from brainseg.data.decode import (
    MaskKind,
    binary_mask,
    levels_of,
    mask_kind,
    not_a_mask,
    read_image,
    read_mask_file,
    size_text,
)
from brainseg.data.findings import Finding, Severity, collect
from brainseg.data.folder import folder_findings, slice_infos, survey
from brainseg.data.layout import Pair
from brainseg.data.near_duplicates import COARSE_PX, FINE_PX, Thumbnail, equal_groups, near_duplicates, thumbnail
from brainseg.data.people import people_with_several_ids, person_of
from brainseg.data.set_masks import SetMasks
from brainseg.data.source import PATIENT, TUMOR_TYPE, SliceInfo
from brainseg.errors import DataError

REPORT_SCHEMA = 1
GREY = DataConfig(channels="grey")


@dataclass(frozen=True, kw_only=True)
class TumorFraction:
    """Share of a slice's pixels that are tumour, in [0, 1], over the readable masks."""

    min: float
    median: float
    max: float


@dataclass(frozen=True, kw_only=True)
class FolderReport:
    """What `verify` found; counts are of slices that have an image and a mask."""

    root: str
    layout: str
    slices: int
    patient_ids: int
    people: int  # patient ids that look like one person counted once
    tumor_types: Mapping[str, int]  # type -> slices
    sizes: Mapping[str, int]  # width x height -> readable images
    tumor_fraction: TumorFraction | None  # None where no mask is readable
    findings: tuple[Finding, ...]  # errors first

    @property
    def errors(self) -> int:
        """How many checks found errors."""
        return sum(finding.severity is Severity.ERROR for finding in self.findings)

    @property
    def warnings(self) -> int:
        """How many checks found something to warn of."""
        return len(self.findings) - self.errors

    def as_json(self) -> dict[str, Any]:
        """The report in types that JSON has."""
        fraction = self.tumor_fraction
        return {
            "schema_version": REPORT_SCHEMA,
            "root": self.root,
            "layout": self.layout,
            "slices": self.slices,
            "patient_ids": self.patient_ids,
            "people": self.people,
            "tumor_types": dict(self.tumor_types),
            "sizes": dict(self.sizes),
            "tumor_fraction": fraction and {"min": fraction.min, "median": fraction.median, "max": fraction.max},
            "errors": self.errors,
            "warnings": self.warnings,
            "findings": [
                {
                    "check": finding.check,
                    "severity": str(finding.severity),
                    "count": len(finding.items),
                    "title": finding.title,
                    "remedy": finding.remedy,
                    "items": list(finding.items),
                }
                for finding in self.findings
            ],
        }


@dataclass(frozen=True, kw_only=True)
class _Inspection:
    """What reading one slice gave."""

    problems: tuple[tuple[str, str], ...] = ()  # (check, item)
    size: str | None = None
    tumor_fraction: float | None = None
    digest: bytes | None = None  # of the image's size and pixels
    thumbnail: Thumbnail | None = None  # None for constant images as well


def verify(root: Path) -> FolderReport:
    """Every finding in the folder. Raises DataError where it can't be checked at all."""
    listing, metadata = survey(root)
    infos = slice_infos(listing, metadata)
    masks = SetMasks(root, [pair.mask for pair in listing.pairs], GREY)
    # Threads: PIL and NumPy release the interpreter's lock for most of this.
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        inspections = list(pool.map(lambda pair: _inspect(root, pair, masks), listing.pairs))
    seen = {pair.id: inspection for pair, inspection in zip(listing.pairs, inspections, strict=True)}
    problems: dict[str, list[str]] = defaultdict(list)
    for inspection in inspections:
        for check, item in inspection.problems:
            problems[check].append(item)
    if masks.problem is not None:
        problems["mask_not_binary"].append(masks.problem)
    problems["no_patient_id"] = [info.id for info in infos if PATIENT not in info.columns]
    patient_ids = {info.columns[PATIENT] for info in infos if PATIENT in info.columns}
    problems["several_ids"] = [
        f"{person}: {', '.join(ids)}" for person, ids in people_with_several_ids(patient_ids).items()
    ]
    problems.update(_copies(root, listing.pairs, infos, seen))
    findings = (*folder_findings(listing, metadata), *collect(problems))
    return FolderReport(
        root=str(root),
        layout=listing.kind,
        slices=len(listing.pairs),
        patient_ids=len(patient_ids),
        people=len({person_of(patient_id) for patient_id in patient_ids}),
        tumor_types=_counts([info.columns[TUMOR_TYPE] for info in infos if TUMOR_TYPE in info.columns]),
        sizes=_counts([item.size for item in inspections if item.size is not None]),
        tumor_fraction=_fractions([item.tumor_fraction for item in inspections if item.tumor_fraction is not None]),
        findings=tuple(sorted(findings, key=lambda finding: finding.severity is Severity.WARNING)),
    )


def _inspect(root: Path, pair: Pair, masks: SetMasks) -> _Inspection:
    """Reads one slice; what is wrong with one of its files doesn't hide the other."""
    problems: list[tuple[str, str]] = []
    image = mask = None
    try:
        image = read_image(root / pair.image, GREY)
    except DataError as error:
        problems.append(("unreadable_file", _relative(root, error)))
    try:
        mask = _inspect_mask(root, pair, masks, problems)
    except DataError as error:
        problems.append(("unreadable_file", _relative(root, error)))
    fraction = None if mask is None else float(mask.mean())
    if image is None:
        return _Inspection(problems=tuple(problems), tumor_fraction=fraction)
    if mask is not None and mask.shape != image.shape[:2]:
        problems.append(("size_mismatch", f"{pair.mask}: {size_text(mask.shape)}, image {size_text(image.shape)}"))
    coarse = thumbnail(image[..., 0], COARSE_PX)
    if image.min() == image.max():
        problems.append(("constant_image", pair.image))
    return _Inspection(
        problems=tuple(problems),
        size=size_text(image.shape),
        tumor_fraction=fraction,
        digest=hashlib.sha256(f"{image.shape}".encode() + image.tobytes()).digest(),
        thumbnail=coarse,
    )


def _inspect_mask(root: Path, pair: Pair, masks: SetMasks, problems: list[tuple[str, str]]) -> NDArray[np.uint8] | None:
    """The mask in {0, 1}, or None where it isn't one, or the set holds labels. Raises DataError where it can't be read.

    masks: of the set, which decides at which value soft edges are cut.
    """
    file = read_mask_file(root / pair.mask, reading=GREY.reading)
    values, levels = file.values, levels_of(file.values)
    top = levels.top if file.is_plain else masks.survey().top(values)
    if masks.problem is not None:
        return None
    kind = mask_kind(levels, top)
    if kind is MaskKind.OTHER:
        problems.append(("mask_not_binary", f"{pair.mask} {not_a_mask(levels)}"))
        return None
    if kind is MaskKind.SOFT:
        problems.append(("soft_mask", pair.mask))
    mask = binary_mask(values, top)
    if not mask.any():
        problems.append(("empty_mask", pair.mask))
    elif mask.all():
        problems.append(("full_mask", pair.mask))
    return mask


def _copies(
    root: Path, pairs: Sequence[Pair], infos: Sequence[SliceInfo], seen: Mapping[str, _Inspection]
) -> dict[str, list[str]]:
    """Equal slices and near duplicates, without constant images, which have a check of their own."""
    patient_of = {info.id: info.columns[PATIENT] for info in infos if PATIENT in info.columns}
    image_of = {pair.id: pair.image for pair in pairs}
    thumbnails = {key: item.thumbnail for key, item in seen.items() if item.thumbnail is not None}
    digests = {key: seen[key].digest or b"" for key in thumbnails}

    def label(slice_id: str) -> str:
        return f"{slice_id} (patient {patient_of[slice_id]})" if slice_id in patient_of else slice_id

    def fine(slice_id: str) -> Thumbnail | None:
        return thumbnail(read_image(root / image_of[slice_id], GREY)[..., 0], FINE_PX)

    people = {slice_id: person_of(patient_id) for slice_id, patient_id in patient_of.items()}
    near = near_duplicates(thumbnails, people, fine)
    return {
        "equal_slices": [" = ".join(label(item) for item in group) for group in equal_groups(digests)],
        "near_copies": [
            f"{label(first)} and {label(second)}: correlation {correlation:.3f}"
            for first, second, correlation in near
            if digests[first] != digests[second]
        ],
    }


def _relative(root: Path, error: DataError) -> str:
    return str(error).removeprefix(str(root / "_").removesuffix("_"))


def _counts(values: Sequence[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items(), key=lambda item: (-item[1], item[0])))


def _fractions(values: Sequence[float]) -> TumorFraction | None:
    if not values:
        return None
    return TumorFraction(min=min(values), median=float(np.median(values)), max=max(values))
