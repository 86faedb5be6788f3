"""Annotations as masks in memory: the shapes of an image, each over those before it in the file."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from brainseg.classes import BACKGROUND, IGNORED
from brainseg.config import DataConfig
from brainseg.data.annotations.annotated import Annotations, OutsideError
from brainseg.data.annotations.regions import ShapeError
from brainseg.data.findings import CHECKS, Severity
from brainseg.errors import ConfigError, DataError, printable

VOID = 255  # what data.ignore becomes where annotations have pixels to ignore


@dataclass(frozen=True, kw_only=True, eq=False)
class DrawnMask:
    """The mask of an image, and what was wrong on the way."""

    mask: NDArray[np.uint8]  # as `data.labels` says, (height, width, mask channels)
    categories: tuple[str, ...]  # that are in it
    problems: Mapping[str, Sequence[str]]  # by key of findings.CHECKS


class DrawnMasks:
    """Draws the masks of a set; safe to call from several threads."""

    def __init__(self, root: Path, annotations: Annotations, data: DataConfig) -> None:
        """data: `taken_from` the annotations, so that it has classes."""
        self._root = root
        self._annotations = annotations
        self._data = data
        self._codes = codes_of(data, annotations.categories)

    def draw(self, image: str, height: int, width: int) -> DrawnMask:
        """The mask of an image of this size; what can't be drawn is left out, and a problem."""
        known = self._annotations.images[image]
        problems: dict[str, list[str]] = defaultdict(list)
        if known.size is not None and known.size != (height, width):
            problems["size_mismatch"].append(
                f"{known.file}: {known.size[1]}x{known.size[0]}, image {image} {width}x{height}"
            )
        mask = np.zeros((height, width, self._data.labels.mask_channels), np.uint8)
        categories: dict[str | None, None] = {}  # in their order
        for shape in self._annotations.shapes(image):
            called = f"{known.file}: {shape.called} of image {image}"
            code = IGNORED if shape.category is None else self._codes.get(shape.category)
            if code is None:
                problems["unknown_category"].append(f"{called} is of {shape.category!r}")
                continue
            try:
                drawing = shape.draw(height, width)
            except ShapeError as error:
                check = "annotation_outside" if isinstance(error, OutsideError) else "annotation_broken"
                problems[check].append(f"{called} {error}")
                continue
            if drawing.is_cut:
                problems["annotation_cut"].append(called)
            for region in drawing.regions:
                rows, columns = region.pixels.shape
                mask[region.top : region.top + rows, region.left : region.left + columns][region.pixels] = code
            categories[shape.category] = None
        return DrawnMask(mask=mask, categories=tuple(each for each in categories if each), problems=problems)

    def read(self, image: str, height: int, width: int) -> NDArray[np.uint8]:
        """The mask alone. Raises DataError for the first problem that is an error."""
        drawn = self.draw(image, height, width)
        for check, items in drawn.problems.items():
            if CHECKS[check].severity is Severity.ERROR:
                raise DataError(f"{self._root / printable(items[0])}; {CHECKS[check].remedy}")
        return drawn.mask


def taken_from(annotations: Annotations, data: DataConfig) -> DataConfig:
    """The configuration with what the annotations say where it is left out: classes, and a value to ignore.

    Raises DataError for categories that can't be classes.
    """
    try:
        if data.classes is None:
            names = [name for name in annotations.categories if name != BACKGROUND]
            data = replace(data, classes={name: number for number, name in enumerate(names, start=1)})
        if annotations.has_ignored and data.ignore is None:
            data = replace(data, ignore=VOID)
    except ConfigError as error:
        raise DataError(f"{annotations.about}: its categories can't be classes as they are: {error}") from None
    return replace(data, annotations=annotations.setting)


def codes_of(data: DataConfig, categories: Sequence[str]) -> dict[str, NDArray[np.uint8]]:
    """Category -> what its pixels hold in a mask, (mask channels,); without those that `data.classes` doesn't name."""
    classes = data.mask_classes
    assert classes is not None
    codes = {BACKGROUND: np.zeros(data.labels.mask_channels, np.uint8)}
    for category in categories:
        values = classes.of_category(category)
        if values is not None:
            own = [set(values) <= set(of_class) for of_class in classes.values.values()]
            number = own.index(True) + 1 if any(own) else 0
            codes[category] = np.array([number] if classes.exclusive else own, np.uint8)
    return codes
