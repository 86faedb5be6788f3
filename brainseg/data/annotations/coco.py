"""A COCO JSON file: `images`, `annotations` and `categories` of a whole set (cocodataset.org/#format-data).

The polygons of an annotation are its parts, and are united. A hole is an outline that goes around it and back along its
own line (what is enclosed twice is outside), or run lengths.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from brainseg.data.annotations.annotated import (
    AnnotatedImage,
    Annotations,
    Drawing,
    Shape,
    points_of,
    reaches_beyond,
    size_of,
)
from brainseg.data.annotations.json_file import read_json
from brainseg.data.annotations.regions import Region, ShapeError, decompress, polygon, run_lengths
from brainseg.data.names import nfc, stem
from brainseg.errors import DataError

_LISTS = ("images", "annotations", "categories")
_REMEDY = "export it again as COCO"


def coco_annotations(root: Path, file: str) -> Annotations:
    """The annotations in a COCO file; a mask is drawn when it is asked for.

    file: its path below `root`, or an absolute one. Raises DataError for what is no COCO file.
    """
    path = root / file
    content = read_json(path, keep=_compact)
    if not isinstance(content, dict) or not all(isinstance(content.get(name), list) for name in _LISTS):
        raise DataError(f"{path} is no COCO file, it lacks a list of {', '.join(_LISTS)}; {_REMEDY}")
    problems: dict[str, list[str]] = defaultdict(list)
    names = _categories(path, content["categories"])
    images = _images(path, content["images"])
    of_image: dict[str, list[dict[str, Any]]] = {image: [] for image in images.values()}
    for each in _objects(path, content["annotations"], "annotation"):
        image, category = each.get("image_id"), each.get("category_id")
        called = f"{file}: annotation {each.get('id')}"
        if image not in images:
            problems["annotation_of_nothing"].append(f"{called} has the image_id {image}")
        elif category not in names and not _is_crowd(each):
            problems["unknown_category"].append(f"{called} has the category_id {category}")
        else:
            of_image[images[image]].append(each)
    sizes = {images[each["id"]]: size_of(each.get("height"), each.get("width")) for each in content["images"]}
    return Annotations(
        about=f"{file} (COCO)",
        setting=file,
        categories=tuple(dict.fromkeys(names.values())),
        has_ignored=any(_is_crowd(each) for annotations in of_image.values() for each in annotations),
        files=(file,),
        images={image: AnnotatedImage(file=file, size=size) for image, size in sizes.items()},
        problems=problems,
        shapes=lambda image: _shapes(of_image[image], names),
    )


def _shapes(annotations: Iterable[Mapping[str, Any]], names: Mapping[Any, str]) -> Iterator[Shape]:
    for each in annotations:
        yield Shape(
            called=f"annotation {each.get('id')}",
            category=None if _is_crowd(each) else names[each["category_id"]],
            draw=partial(_draw, each.get("segmentation")),
        )


def _categories(path: Path, given: Sequence[Any]) -> dict[Any, str]:
    """Category's id -> name."""
    names: dict[Any, str] = {}
    for each in _objects(path, given, "category"):
        name = each.get("name")
        if not isinstance(name, str) or each.get("id") in (None, *names):
            raise DataError(f"{path}: category {name!r} needs a name, and an id of its own; {_REMEDY}")
        names[each["id"]] = nfc(name)
    return names


def _images(path: Path, given: Sequence[Any]) -> dict[Any, str]:
    """Image's id -> its name without folder and extension."""
    images: dict[Any, str] = {}
    for each in _objects(path, given, "image"):
        number, file = each.get("id"), each.get("file_name")
        if not isinstance(file, str) or number is None or number in images:
            raise DataError(f"{path}: image {file!r} needs a file_name, and an id of its own; {_REMEDY}")
        images[number] = nfc(stem(file.replace("\\", "/").rpartition("/")[2]))
    twice = [image for image, count in Counter(images.values()).items() if count > 1]
    if twice:
        raise DataError(f"{path} lists several images called {twice[0]!r}; give each a name of its own")
    return images


def _objects(path: Path, given: Sequence[Any], what: str) -> Iterator[dict[str, Any]]:
    """Raises DataError for anything that is no object with ids that can be one."""
    for each in given:
        ids = [each.get(name) for name in ("id", "image_id", "category_id")] if isinstance(each, dict) else [[]]
        if not all(value is None or isinstance(value, int | str) for value in ids):
            raise DataError(f"{path}: {what} {repr(each)[:100]} is no object with an id; {_REMEDY}")
        yield each


def _is_crowd(annotation: Mapping[str, Any]) -> bool:
    return annotation.get("iscrowd") in (1, True)


def _compact(read: dict[str, Any]) -> dict[str, Any]:
    """An object of the file in little memory: of an annotation what is used, its numbers as arrays."""
    if "segmentation" not in read:
        return read
    kept = {name: read.get(name) for name in ("id", "image_id", "category_id", "iscrowd", "segmentation")}
    parts = kept["segmentation"]
    if isinstance(parts, list):
        kept["segmentation"] = [_array(part) for part in parts]
    elif isinstance(parts, dict) and isinstance(parts.get("counts"), list):
        kept["segmentation"] = {**parts, "counts": _array(parts["counts"])}
    return kept


def _array(numbers: Any) -> Any:
    """A list of numbers as an array; anything else as it is."""
    try:
        return np.asarray(numbers, np.float64)
    except (TypeError, ValueError, OverflowError):
        return numbers


def _draw(segmentation: Any, height: int, width: int) -> Drawing:
    if isinstance(segmentation, dict):
        return Drawing(regions=[_of_runs(segmentation, height, width)])
    if not isinstance(segmentation, list) or not segmentation:
        raise ShapeError("has no segmentation; a box alone is no mask")
    outlines = [points_of(part) for part in segmentation]
    if min(map(len, outlines)) < 3:
        raise ShapeError("has a polygon of less than three points")
    every = np.concatenate(outlines)
    is_cut = reaches_beyond(every.min(axis=0), every.max(axis=0), height, width)
    return Drawing(regions=[polygon(outline, height, width) for outline in outlines], is_cut=is_cut)


def _of_runs(given: Mapping[str, Any], height: int, width: int) -> Region:
    size, counts = given.get("size"), given.get("counts")
    if size != [height, width]:
        raise ShapeError(f"has run lengths of [height, width] {size}, and the image is {width}x{height}")
    if isinstance(counts, str):
        return run_lengths(decompress(counts), height, width)
    if not isinstance(counts, np.ndarray) or not (np.abs(counts) < 2**53).all() or (counts % 1).any():
        raise ShapeError("has run lengths that aren't whole numbers")
    return run_lengths(counts.astype(np.int64), height, width)
