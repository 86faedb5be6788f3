"""Which annotations a folder has: one COCO file, or LabelMe's files beside the images."""

import os
from pathlib import Path

from brainseg.cli.literal import printable
from brainseg.data.annotations.annotated import Annotations
from brainseg.data.annotations.coco import coco_annotations
from brainseg.data.annotations.json_file import MAX_BYTES
from brainseg.data.annotations.labelme import LABELME, labelme_annotations, read_labelme
from brainseg.data.names import Part, is_hidden, is_image, is_utf8, nfc, part_of, stem
from brainseg.data.scan import below
from brainseg.errors import DataError
from brainseg.keys import as_line

_COCO_FOLDERS = ("", "annotations", "images")  # where a COCO file is looked for
_MARKS = (b'"annotations"', b'"categories"', b'"images"')  # any of them may be far behind the others


def named_annotations(root: Path, given: str) -> Annotations:
    """The annotations that `data.annotations` names. Raises DataError for a file that isn't what it has to be."""
    if given != LABELME:
        return coco_annotations(root, given)
    files = _beside_images(root)
    if not files:
        raise DataError(f"{root} has no .json file with the name of an image beside it; leave data.annotations out")
    return _labelme(root, files)


def has_annotations(root: Path, given: str | None) -> bool:
    """Whether what `data.annotations` names is there; of masks in files it isn't."""
    if given == LABELME:
        return bool(_beside_images(root))
    return given is not None and (root / given).is_file()


def find_annotations(root: Path) -> Annotations | None:
    """The annotations that the folder has; None if there are none. Raises DataError where there are several."""
    labelme = _beside_images(root)
    if not any(map(_is_labelme, (root / file for file in labelme))):
        labelme = []
    files = [file for folder in _COCO_FOLDERS for file in _json_files(root, folder)]
    coco = [file for file in files if file not in labelme and _looks_like_coco(root / file)]
    found = [*coco, *([LABELME] if labelme else [])]
    if len(found) > 1:
        example = as_line([f"data.annotations={found[0]}"])
        shown = ", ".join(map(printable, found))
        raise DataError(f"{root} has several annotations ({shown}); choose by {printable(example)}")
    if coco:
        return coco_annotations(root, coco[0])
    return _labelme(root, labelme) if labelme else None


def folder_with_annotations(root: Path) -> Path | None:
    """The first folder of the root that has annotations of its own, training parts before others; None without one."""
    for folder in sorted(_folders(root), key=lambda folder: part_of(folder) is not Part.TRAIN):
        try:
            if find_annotations(root / folder) is not None:
                return root / folder
        except DataError:  # too many, or broken ones
            return root / folder
    return None


def _folders(root: Path) -> list[str]:
    return [name for name in _names(root) if os.path.isdir(root / name)]


def _names(folder: Path) -> list[str]:
    """What lies in a folder, sorted; nothing for one that can't be listed: who lists its images will say so."""
    try:
        return sorted(name for name in os.listdir(folder) if is_utf8(name) and not is_hidden(name))
    except OSError:
        return []


def _beside_images(root: Path) -> list[str]:
    """JSON files with the name of an image in the same folder: in the root, and in its folders."""
    found = []
    for folder in ("", *_folders(root)):
        files = _json_files(root, folder)
        images = {nfc(stem(name)) for name in _names(root / folder) if is_image(name)} if files else set()
        found += [file for file in files if nfc(stem(Path(file).name)) in images]
    return found


def _json_files(root: Path, folder: str) -> list[str]:
    """Paths below the root."""
    files = [below(folder, name) for name in _names(root / folder) if name.lower().endswith(".json")]
    return [file for file in files if os.path.isfile(root / file)]


def _labelme(root: Path, beside: list[str]) -> Annotations:
    """Those of LabelMe's files, in whose folders further ones are of images that are gone."""
    folders = dict.fromkeys(file.rpartition("/")[0] for file in beside)
    every, known = [file for folder in folders for file in _json_files(root, folder)], set(beside)
    return labelme_annotations(root, [file for file in every if file in known or _is_labelme(root / file)])


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
