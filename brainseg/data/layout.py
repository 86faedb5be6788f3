"""Which files of a folder are slices and masks, and which belong together.

    ROOT/images/7.png  ROOT/masks/7.png        pairs: one stem, the extensions may differ
    ROOT/P1/7.tif      ROOT/P1/7_mask.tif      patients: a folder per patient, as in kaggle_3m

Names that begin with a dot are passed over.
"""

import os
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from brainseg.data.decode import EXTENSIONS
from brainseg.errors import DataError

METADATA = "metadata.csv"
IMAGES, MASKS = "images", "masks"
MASK_ENDING = "_mask"
_EXPECTED = f"{IMAGES}/7.png with {MASKS}/7.png, or PATIENT/7.tif with PATIENT/7{MASK_ENDING}.tif"


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One slice on disk; paths are relative to the root, with forward slashes."""

    id: str
    image: str
    mask: str
    patient: str | None = None  # the folder's name in the patients layout


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What a folder holds, sorted by id; everything but the pairs is a problem, by key of findings.CHECKS."""

    root: Path
    kind: str  # for people
    pairs: tuple[Pair, ...]
    ids: frozenset[str]  # of the pairs and of the files without a partner
    problems: Mapping[str, list[str]]


# Patient folder or None, and stem -> paths relative to the root.
_Files = dict[tuple[str | None, str], list[str]]


def list_pairs(root: Path) -> Listing:
    """The slices under `root`. Raises DataError where the folder as a whole can't be used."""
    if not root.exists():
        raise DataError(f"{root} doesn't exist; name a folder that holds {_EXPECTED}")
    if not root.is_dir():
        raise DataError(f"{root} is a file; name a folder that holds {_EXPECTED}")
    try:
        listing = _recognise(root)
        if listing is None:
            raise DataError(f"{root} holds neither {_EXPECTED}{_hint(root)}")
    except PermissionError as error:
        raise DataError(f"{error.filename} can't be listed (permission denied); make it readable") from None
    if not listing.ids:
        raise DataError(
            f"{root}: {IMAGES}/ and {MASKS}/ hold no file that ends in {', '.join(EXTENSIONS)}; add slices and masks"
        )
    return listing


def _recognise(root: Path) -> Listing | None:
    if (root / IMAGES).is_dir() and (root / MASKS).is_dir():
        return _list_images_and_masks(root)
    return _list_patient_folders(root)


def _list_images_and_masks(root: Path) -> Listing:
    problems: dict[str, list[str]] = defaultdict(list)
    images: _Files = defaultdict(list)
    masks: _Files = defaultdict(list)
    for folder, found in ((IMAGES, images), (MASKS, masks)):
        for name in _image_names(root, folder, problems):
            found[None, _stem(name)].append(f"{folder}/{name}")
    return _pair(root, f"{IMAGES}/ and {MASKS}/", images, masks, problems)


def _list_patient_folders(root: Path) -> Listing | None:
    problems: dict[str, list[str]] = defaultdict(list)
    images: _Files = defaultdict(list)
    masks: _Files = defaultdict(list)
    for patient in _subfolders(root):
        here: dict[str, list[str]] = defaultdict(list)
        names = _image_names(root, patient, here)
        if not names:
            continue  # not a patient: whatever else it holds is no concern of ours
        for check, items in here.items():
            problems[check] += items
        for name in names:
            stem = _stem(name)
            found = masks if stem.endswith(MASK_ENDING) else images
            found[patient, stem.removesuffix(MASK_ENDING)].append(f"{patient}/{name}")
    if not masks:
        return None  # images alone are no sign of this layout
    return _pair(root, "a folder per patient", images, masks, problems)


def _pair(root: Path, kind: str, images: _Files, masks: _Files, problems: dict[str, list[str]]) -> Listing:
    files_of: dict[str, list[str]] = defaultdict(list)
    for (_, stem), paths in images.items():
        files_of[stem] += paths
    mask_files = [paths for paths in masks.values() if len(paths) > 1]
    clashes = [paths for paths in files_of.values() if len(paths) > 1] + mask_files
    problems["duplicate_id"] = sorted(" and ".join(sorted(paths)) for paths in clashes)
    problems["image_without_mask"] = sorted(path for key in images.keys() - masks.keys() for path in images[key])
    problems["mask_without_image"] = sorted(path for key in masks.keys() - images.keys() for path in masks[key])
    pairs = [
        Pair(id=key[1], image=images[key][0], mask=masks[key][0], patient=key[0])
        for key in images.keys() & masks.keys()
        if len(files_of[key[1]]) == 1 and len(masks[key]) == 1
    ]
    return Listing(
        root=root,
        kind=kind,
        pairs=tuple(sorted(pairs, key=lambda pair: pair.id)),
        ids=frozenset(stem for _, stem in images.keys() | masks.keys()),
        problems=problems,
    )


def _image_names(root: Path, folder: str, problems: dict[str, list[str]]) -> list[str]:
    """Names of the image files in root/folder; what else is there goes to the problems."""
    names = []
    with os.scandir(root / folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if passed_over(entry.name):
                continue
            if entry.is_dir():
                problems["nested_folder"].append(f"{folder}/{entry.name}/")
            elif entry.name.lower().endswith(EXTENSIONS):
                names.append(entry.name)
            else:
                problems["ignored_file"].append(f"{folder}/{entry.name}")
    return names


def _subfolders(root: Path) -> list[str]:
    with os.scandir(root) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not passed_over(entry.name))


def passed_over(name: str) -> bool:
    """Whether a file or folder of this name is none of ours."""
    return name.startswith(".")


def _stem(name: str) -> str:
    return name.rpartition(".")[0]


def _hint(root: Path) -> str:
    """The likely remedy where no layout was recognised."""
    for present, absent in ((IMAGES, MASKS), (MASKS, IMAGES)):
        if (root / present).is_dir():
            return f"; it has {present}/ but no {absent}/"
    for name in _subfolders(root):
        if _recognise(root / name) is not None:
            return f"; did you mean {root / name}?"
    return "; MATLAB files are turned into pairs by `python -m brainseg.data import figshare SRC OUT`"
