"""What the files of labelling tools have in common: shapes of categories, image by image."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainseg.data.annotations.regions import Region, ShapeError

_FAR = 1e9  # from any image
_BEYOND = 1.0  # pixels that tools put points outside by rounding


class OutsideError(ShapeError):
    """The shape isn't in its image."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawing:
    """A shape as pixels."""

    regions: Sequence[Region]  # together
    is_cut: bool = False  # at the border of the image


@dataclass(frozen=True, kw_only=True, eq=False)
class Shape:
    """One annotation of an image."""

    called: str  # for people: `annotation 7`
    category: str | None  # None: its pixels are ignored
    draw: Callable[[int, int], Drawing]  # of the image's height and width; raises ShapeError


@dataclass(frozen=True, kw_only=True)
class AnnotatedImage:
    """What is known of an image before its annotations are drawn."""

    file: str  # where they are, below the root
    size: tuple[int, int] | None  # height and width, where the file says


@dataclass(frozen=True, kw_only=True, eq=False)
class Annotations:
    """What a labelling tool wrote for a folder. An image is known by its name without folder and extension."""

    about: str  # for people: `annotations.json (COCO)`
    setting: str  # what `data.annotations` says to name them
    categories: tuple[str, ...]  # that are declared, in the order of their classes
    has_ignored: bool
    files: tuple[str, ...]  # below the root, or absolute
    images: Mapping[str, AnnotatedImage]
    problems: Mapping[str, list[str]]  # by key of findings.CHECKS
    shapes: Callable[[str], Iterator[Shape]]  # of an image, in the order of the file; may raise DataError


def size_of(height: Any, width: Any) -> tuple[int, int] | None:
    """The size that a file gives, if it gives one."""
    return (height, width) if isinstance(height, int) and isinstance(width, int) else None


def points_of(given: Any) -> NDArray[np.float64]:
    """x and y of a list of numbers or of pairs, (n, 2). Raises ShapeError for anything else."""
    try:
        numbers = np.asarray(given, np.float64)
    except (TypeError, ValueError, OverflowError):
        numbers = np.full(1, np.nan)
    if numbers.size % 2 or not (np.abs(numbers) < _FAR).all():  # nor what is no number
        raise ShapeError("has points that aren't pairs of numbers")
    return numbers.reshape(-1, 2)


def reaches_beyond(low: NDArray[np.float64], high: NDArray[np.float64], height: int, width: int) -> bool:
    """Whether a shape from `low` to `high` (x, y) reaches beyond the image's border.

    Raises OutsideError where no part of it lies within, or a part further away than the image is large.
    """
    size = np.array([width, height], np.float64)
    if (high <= 0).any() or (low >= size).any() or (low < -size).any() or (high > 2 * size).any():
        spans = ", ".join(f"{axis} {low[at]:g} to {high[at]:g}" for at, axis in enumerate("xy"))
        raise OutsideError(f"spans {spans}, and the image is {width}x{height}")
    return bool((low < -_BEYOND).any() or (high > size + _BEYOND).any())
