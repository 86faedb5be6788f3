"""Which annotations a folder has: one COCO file, or LabelMe's files beside the images."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from brainseg.data.annotations.annotated import Annotations
from brainseg.data.annotations.coco import coco_annotations
from brainseg.data.annotations.json_file import MAX_BYTES
from brainseg.data.annotations.labelme import LABELME, labelme_annotations, read_labelme
from brainseg.data.names import Part, is_hidden, is_image, is_utf8, nfc, part_of, stem
from brainseg.data.scan import below
from brainseg.errors import DataError

_COCO_FOLDERS = ("", "annotations", "images")  # where a COCO file is looked for
_MARKS = (b'"annotations"', b'"categories"', b'"images"')  # any of them may be far behind the others


def named_annotations(root: Path, given: str) -> Annotations:
    """The annotations that `data.annotations` names. Raises DataError for a file that isn't what it has to be."""
    if given != LABELME:
        return coco_annotations(root, given)
    files = _beside_images(root)
    if not files:
        raise DataError(f"{root} has no .json file with the name of an image beside it; leave data.annotations out")
    return labelme_annotations(root, files)


def has_annotations(root: Path, given: str | None) -> bool:
    """Whether what `data.annotations` names is there; of masks in files it isn't."""
    if given == LABELME:
        return root.is_dir() and bool(_beside_images(root))
    return given is not None and (root / given).is_file()


def find_annotations(root: Path) -> Annotations | None:
    """The annotations that the folder has; None if there are none. Raises DataError where there are several."""
    labelme = _beside_images(root)
    if not any(map(_is_labelme, (root / file for file in labelme))):
        labelme = []
    coco = [file for file in _json_files(root, _COCO_FOLDERS) if file not in labelme and _looks_like_coco(root / file)]
    found = [*coco, *([LABELME] if labelme else [])]
    if len(found) > 1:
        example = shlex.quote(f"data.annotations={found[0]}")
        raise DataError(f"{root} has several annotations ({', '.join(found)}); choose by {example}")
    if coco:
        return coco_annotations(root, coco[0])
    return labelme_annotations(root, labelme) if labelme else None


def folder_with_annotations(root: Path) -> Path | None:
    """A folder of the root that has annotations of its own, if there is one; that of a training part goes first."""
    for folder in sorted(_folders(root), key=lambda folder: part_of(folder) is not Part.TRAIN):
        try:
            if find_annotations(root / folder) is not None:
                return root / folder
        except DataError:  # too many, or broken ones
            return root / folder
    return None


def _folders(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir() if path.is_dir() and not is_hidden(path.name))


def _beside_images(root: Path) -> list[str]:
    """JSON files with the name of an image in the same folder: in the root, and in its folders."""
    return [file for folder in ("", *_folders(root)) for file in _json_files(root, [folder], of_images=True)]


def _json_files(root: Path, folders: Sequence[str], *, of_images: bool = False) -> list[str]:
    """Paths below the root, sorted in each folder. of_images: those alone that lie beside an image of their name."""
    found = []
    for folder in folders:
        if not (root / folder).is_dir():
            continue
        every = (path.name for path in (root / folder).iterdir())
        names = sorted(name for name in every if is_utf8(name) and not is_hidden(name))
        images = {nfc(stem(name)) for name in names if is_image(name)}
        json_names = [name for name in names if name.lower().endswith(".json") and (root / folder / name).is_file()]
        found += [below(folder, name) for name in json_names if not of_images or nfc(stem(name)) in images]
    return found


def _is_labelme(path: Path) -> bool:
    try:
        read_labelme(path)
    except DataError:
        return False
    return True


def _looks_like_coco(path: Path) -> bool:
    """By its names alone: a broken file is one that has to be repaired, and not passed over."""
    try:
        content = path.read_bytes() if path.stat().st_size <= MAX_BYTES else b""
    except OSError:
        return False
    return all(mark in content for mark in _MARKS)
