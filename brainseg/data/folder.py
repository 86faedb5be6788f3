"""A folder of images and masks on disk as a `Source`."""

import copy
import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from brainseg.config import FIRST_READING, MASK_FILES, DataConfig
from brainseg.data.annotations.annotated import Annotations
from brainseg.data.annotations.dataset_json import DATASET_JSON, of_dataset_json
from brainseg.data.annotations.drawn import DrawnMasks, taken_from
from brainseg.data.annotations.find import find_annotations, folder_with_annotations, named_annotations
from brainseg.data.annotations.listing import list_annotated
from brainseg.data.decode import RULES_VERSION, check_size, holds_colour, read_channels
from brainseg.data.findings import Finding, Severity, collect
from brainseg.data.layout import METADATA, OLD_LAYOUTS, PLAIN, Listing, Pair, list_pairs
from brainseg.data.metadata import Metadata, read_metadata
from brainseg.data.names import breaks_lines
from brainseg.data.set_masks import SetMasks
from brainseg.data.source import PATIENT, SliceInfo
from brainseg.data.spread import in_threads
from brainseg.data.volumes.set import Volumes, VolumeSlices, open_volumes
from brainseg.errors import DataError
from brainseg.keys import as_line

FOLDERS_AND_PATIENTS = ("split_folder", "folder_as_patient")  # what is found where patients are told by their folders
NOTED = (
    "test_left_out",
    "image_not_annotated",
    *("derived_volume", "voxel_sizes", "orientation"),
    *FOLDERS_AND_PATIENTS,
)  # what a training says: it changes which slices and patients there are


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A folder before any pixel is read."""

    listing: Listing
    metadata: Metadata
    data: DataConfig  # how it is read: with what the folder says of masks, classes and channels where it is left out
    taken: str | None  # what that is, for people; None if it is nothing


class FolderSource:
    """The slices of a folder, in one of the layouts of `brainseg.data.layout`, with metadata.csv if it has one."""

    def __init__(self, data: DataConfig) -> None:
        """Lists the folder `data.root`; no pixel is read. data: says how files are read.

        Raises DataError where no layout is recognised, and for the first error among what can be seen
        without reading pixels: files without a partner, ids that clash, metadata that don't fit.
        """
        assert data.root is not None
        self._root = Path(data.root)
        self.location = str(self._root.resolve())
        self.name = Path(self.location).name
        opened = open_folder(self._root, data)
        listing, metadata = opened.listing, opened.metadata
        self.volumes = open_volumes(self._root, listing.pairs, opened.data) if data.is_of_volumes else None
        findings = folder_findings(listing, metadata, self.volumes)
        errors = [finding for finding in findings if finding.severity is Severity.ERROR]
        if errors:
            raise DataError(_first_error(opened.data, errors))
        noted = [_as_line(self._root, finding) for finding in findings if finding.check in NOTED]
        layout = listing.layout
        if opened.taken is not None:
            noted.insert(0, f"{self._root}: {opened.taken}")
        if data.images is None and layout is not None and layout != PLAIN:
            noted.insert(0, f"{self._root}: {listing.kind}, as by {layout.line}")
        self.notes = tuple(noted)
        self._layout = layout
        self._annotations = listing.annotations
        self._pairs = {pair.id: pair for pair in listing.pairs}
        self._slices = slice_infos(listing, metadata, self.volumes)
        self._read_by(opened.data)

    def read_by(self, data: DataConfig) -> "FolderSource":
        """The same files, read as `data` says; the folder isn't listed again."""
        other = copy.copy(self)
        other._read_by(data)
        return other

    def _read_by(self, data: DataConfig) -> None:
        self.data, self.labels = data, data.labels
        self._masks = masks_of(self._root, self._pairs.values(), self._annotations, data)
        self._volume_slices = None
        if self.volumes is not None and isinstance(self._masks, SetMasks):
            self._volume_slices = VolumeSlices(self.volumes, self._pairs.values(), self._masks, data)

    def slices(self) -> tuple[SliceInfo, ...]:
        """Every slice, sorted by id."""
        return self._slices

    def read(self, slice_id: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Image and mask at their stored size; see `Source.read`. Safe to call from several threads."""
        if self._volume_slices is not None:
            return self._volume_slices.read(slice_id)
        pair = self._pairs[slice_id]
        image = read_channels([self._root / path for path in pair.images], self.data)
        if isinstance(self._masks, DrawnMasks):
            return image, self._masks.read(pair.annotated or "", *image.shape[:2])
        mask = self._masks.merged(pair.masks)
        check_size(self._root / pair.mask, mask.shape, pair.image, image.shape)
        return image, mask

    def volume_mask(self, volume_id: str) -> NDArray[np.uint8]:
        """The mask of one of `volumes`, as `labels` says: (slices, height, width, mask channels)."""
        assert self._volume_slices is not None
        return self._volume_slices.mask(volume_id)

    def holds_colour(self) -> bool:
        """Whether any image does, as `decode.holds_colour` has it; of grey files the headers alone are read."""
        if self.volumes is not None:
            return False
        paths = [self._root / path for pair in self._pairs.values() for path in pair.images]
        return any(in_threads(holds_colour, paths))

    def stamp(self) -> str:
        """A digest of every used file's path, size and modification time, metadata.csv included."""
        digest = hashlib.sha256(f"rules {RULES_VERSION}\n".encode())
        digest.update(_how(self.data).encode())
        if self.volumes is not None:
            digest.update(f"axis {self.data.axis}\n".encode())
        if self._layout is not None and self._layout not in OLD_LAYOUTS:
            digest.update(f"{self._layout.images}\0{self._layout.masks}\n".encode())
        paths = [path for pair in self._pairs.values() for path in (*pair.images, *pair.masks)]
        if (self._root / METADATA).exists():
            paths.append(METADATA)
        prefix = os.path.join(self._root, "")
        for path in dict.fromkeys(paths):  # annotations of all images may be one file
            file = os.path.join(prefix, path)  # which may be absolute
            try:
                state = os.stat(file)
            except OSError as error:
                raise DataError(f"{file} can't be read ({error.strerror}); was the folder changed?") from error
            digest.update(f"{path}\0{state.st_size}\0{state.st_mtime_ns}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()


def open_folder(root: Path, data: DataConfig) -> Opened:
    """Raises DataError as `survey` does, and where what is given doesn't fit the folder."""
    given, taken = data, None
    if data.annotations is None:
        data, taken = of_dataset_json(root, data)
    listing, metadata = survey(root, data)
    if taken is not None and DATASET_JSON in listing.problems.get("ignored_file", ()):
        listing.problems["ignored_file"].remove(DATASET_JSON)
    if listing.annotations is not None:
        data = taken_from(listing.annotations, data)
        taken = f"masks are drawn from {listing.annotations.about}"
        if data.classes != given.classes:
            taken += f"; classes {', '.join(data.labels.names)}"
        if data.ignore != given.ignore:
            taken += f"; data.ignore={data.ignore}"
    elif data.mask_classes is not None and data.mask_classes.categories:
        raise DataError(
            f"{root} has masks in files, and data.classes names categories of annotations "
            f"({data.mask_classes.categories[0]}); name the values of the masks, as in data.classes={{tumour: 1}}"
        )
    else:
        data = replace(data, annotations=MASK_FILES)
    return Opened(listing=listing, metadata=metadata, data=data, taken=taken)


def survey(root: Path, data: DataConfig) -> tuple[Listing, Metadata]:
    """The folder's files and its metadata.

    Raises DataError where no layout is recognised, and where there are masks of two kinds and nobody chose.
    """
    listing = _list(root, data)
    return listing, read_metadata(root / METADATA, ids=listing.ids, left_out=listing.left_out)


def _list(root: Path, data: DataConfig) -> Listing:
    """Images with masks in files, or in annotations; of both those that `data.annotations` names."""
    if data.is_of_volumes:  # a JSON file beside one tells how it was scanned
        return list_pairs(root, data)
    if root.is_dir() and data.annotations not in (None, MASK_FILES):
        return list_annotated(root, data, named_annotations(root, data.annotations))
    try:
        listing = list_pairs(root, data)
    except DataError as error:
        annotations = find_annotations(root)
        if annotations is not None:
            return list_annotated(root, data, annotations)
        inside = folder_with_annotations(root)
        if inside is None:
            raise
        raise DataError(f"{error}; {inside} has annotations: name it by data.root") from None
    annotations = None if data.annotations == MASK_FILES else find_annotations(root)
    if annotations is None:
        return listing
    if listing.pairs:
        other = as_line([f"data.annotations={annotations.setting}"])
        raise DataError(
            f"{root} has masks in {listing.kind} and in {annotations.about}; "
            f"choose by data.annotations={MASK_FILES} or {other}"
        )
    return list_annotated(root, data, annotations)


def folder_findings(listing: Listing, metadata: Metadata, volumes: Volumes | None = None) -> tuple[Finding, ...]:
    """What is wrong with the folder as far as it can be seen without reading pixels."""
    of_volumes = {} if volumes is None else volumes.problems
    problems = {check: list(items) for check, items in {**metadata.problems, **listing.problems, **of_volumes}.items()}
    names = dict.fromkeys(name for pair in listing.pairs for name in (pair.id, pair.patient) if name is not None)
    broken = [name for name in names if breaks_lines(name)]
    problems["control_character"] = [*broken, *metadata.problems.get("control_character", ())]
    if all(PATIENT in metadata.rows.get(pair.id, {}) for pair in listing.pairs):
        for check in FOLDERS_AND_PATIENTS:  # the names of folders are of no account
            problems.pop(check, None)
    return collect(problems)


def slice_infos(listing: Listing, metadata: Metadata, volumes: Volumes | None = None) -> tuple[SliceInfo, ...]:
    """The slices, sorted by id; a patient_id in the metadata goes before the folder's name."""
    infos = [SliceInfo(id=pair.id, columns=_columns(pair, metadata), part=pair.part) for pair in listing.pairs]
    return tuple(infos) if volumes is None else volumes.cut(infos)


def masks_of(
    root: Path, pairs: Iterable[Pair], annotations: Annotations | None, data: DataConfig
) -> SetMasks | DrawnMasks:
    """What reads the masks of these slices: of files, or drawn from annotations."""
    if annotations is not None:
        return DrawnMasks(root, annotations, data)
    return SetMasks(root, [path for pair in pairs for path in pair.masks], data)


def _how(data: DataConfig) -> str:
    """How files are read; empty for the rules of version 0.1, whose caches stay."""
    return "" if data.reading_keys == FIRST_READING else json.dumps(data.reading_keys) + "\n"


def _columns(pair: Pair, metadata: Metadata) -> dict[str, str]:
    from_folder = {} if pair.patient is None else {PATIENT: pair.patient}
    return {**from_folder, **metadata.rows.get(pair.id, {})}


def _first_error(data: DataConfig, errors: list[Finding]) -> str:
    first = _as_line(Path(str(data.root)), errors[0])
    if len(errors) == 1:
        return first
    chosen = [f"data={data.name}"] if data.is_of_volumes else []
    named = [f"data.{name}={getattr(data, name)}" for name in ("images", "masks") if getattr(data, name) is not None]
    command = f"python -m brainseg.data verify {as_line([str(data.root), *chosen, *named])}"
    return f"{first} (and {len(errors) - 1} more kind(s): {command})"


def _as_line(root: Path, finding: Finding) -> str:
    return f"{root}: {len(finding.items)} {finding.title}, first: {finding.items[0]}; {finding.remedy}"
