"""LabelMe's JSON files, one beside each image: a list of `shapes` with labels (github.com/wkentaro/labelme).

Outlines are filled by COCO's rule. LabelMe's own converters draw the line around them as well.
"""

import base64
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainseg.classes import BACKGROUND
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
from brainseg.data.annotations.regions import Region, ShapeError, circle, polygon
from brainseg.data.names import nfc, stem
from brainseg.data.opening import load_content
from brainseg.errors import DataError

LABELME = "labelme"  # as a value of data.annotations
# What LabelMe's own converters take these labels for.
_BACKGROUND_LABEL, _IGNORE_LABEL = "_background_", "__ignore__"
# Kind of shape -> the points that it needs.
_POINTS = {"polygon": 3, "oriented_rectangle": 4, "rectangle": 2, "circle": 2, "mask": 2}
_WITHOUT_AREA = ("line", "linestrip", "point", "points")


def labelme_annotations(root: Path, files: Sequence[str]) -> Annotations:
    """The annotations in LabelMe's files. One that can't be read is a problem, and its image has no annotations.

    files: their paths below `root`. Each is read again when its mask is drawn: labels and sizes stay in memory.
    """
    problems: dict[str, list[str]] = defaultdict(list)
    images: dict[str, AnnotatedImage] = {}
    labels: set[str | None] = set()
    for file in files:
        try:
            content = read_labelme(root / file)
        except DataError as error:
            problems["unreadable_file"].append(str(error).removeprefix(f"{root}/"))
            continue
        size = size_of(content.get("imageHeight"), content.get("imageWidth"))
        images[nfc(stem(Path(file).name))] = AnnotatedImage(file=file, size=size)
        for each in content["shapes"]:
            if each.get("shape_type") in _WITHOUT_AREA:
                problems["annotation_without_area"].append(f"{file}: a {each['shape_type']} ({each['label']})")
            else:
                labels.add(_category(each))
    return Annotations(
        about=f"{len(files)} .json files (LabelMe)",
        setting=LABELME,
        categories=tuple(sorted(label for label in labels if label is not None and label != BACKGROUND)),
        has_ignored=None in labels,
        files=tuple(files),
        images=images,
        problems=problems,
        shapes=lambda image: _shapes(root / images[image].file),
    )


def read_labelme(path: Path) -> dict[str, Any]:
    """The file, with `shapes` that have labels, and without the image that it may carry. Raises DataError."""
    content = read_json(path, keep=_without_image)
    shapes = content.get("shapes") if isinstance(content, dict) else None
    if not isinstance(shapes, list) or not all(
        isinstance(each, dict) and isinstance(each.get("label"), str) for each in shapes
    ):
        raise DataError(f"{path} has no list of shapes with labels; save it by LabelMe again")
    found: dict[str, Any] = content
    return found


def _shapes(path: Path) -> Iterator[Shape]:
    for number, each in enumerate(read_labelme(path)["shapes"], start=1):
        if each.get("shape_type") not in _WITHOUT_AREA:
            called = f"shape {number} ({each['label']})"
            yield Shape(called=called, category=_category(each), draw=partial(_draw, each))


def _without_image(read: dict[str, Any]) -> dict[str, Any]:
    read.pop("imageData", None)
    return read


def _category(shape: Mapping[str, Any]) -> str | None:
    label = nfc(shape["label"])
    return {_BACKGROUND_LABEL: BACKGROUND, _IGNORE_LABEL: None}.get(label, label)


def _draw(shape: Mapping[str, Any], height: int, width: int) -> Drawing:
    kind = str(shape.get("shape_type") or "polygon")  # the first versions had no other
    if kind not in _POINTS:
        raise ShapeError(f"is a {kind}, and only these are read: {', '.join(_POINTS)}")
    points = points_of(shape.get("points"))
    if len(points) < _POINTS[kind]:
        raise ShapeError(f"is a {kind} of {len(points)} points, and needs {_POINTS[kind]}")
    low, high = points.min(axis=0), points.max(axis=0)
    if kind == "rectangle":
        points = np.array([low, (high[0], low[1]), high, (low[0], high[1])])
    elif kind == "circle":
        centre, radius = points[0], float(np.hypot(*(points[1] - points[0])))
        low, high = centre - radius, centre + radius
    elif kind == "mask":
        high = high + 1  # the corners are pixels
    is_cut = reaches_beyond(low, high, height, width)
    if kind == "circle":
        region = circle(centre, radius, height, width)
    elif kind == "mask":
        region = _pasted(shape.get("mask"), points.astype(int), height, width)
    else:
        region = polygon(points, height, width)
    return Drawing(regions=[region], is_cut=is_cut)


def _pasted(text: Any, corners: NDArray[np.int64], height: int, width: int) -> Region:
    """A picture in base64 whose corner pixels these are."""
    try:
        picture = load_content(base64.b64decode(text, validate=True), called="its mask", reading=1)
    except (TypeError, ValueError):
        raise ShapeError("has a mask that is no picture in base64") from None
    except DataError as error:
        raise ShapeError(f"has a mask that can't be read: {error}") from None
    pixels = np.asarray(picture) != 0
    (left, top), (right, bottom) = corners[:2]
    if (
        pixels.shape != (bottom - top + 1, right - left + 1)
        or left < 0
        or top < 0
        or right >= width
        or bottom >= height
    ):
        raise ShapeError(f"has a mask of {picture.width}x{picture.height} pixels, which don't fit its corners")
    return Region(left=int(left), top=int(top), pixels=pixels)
