"""Masks in memory as the masks of their classes, and the names that classes have in files and metrics."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from brainseg.classes import IGNORED, Labels
from brainseg.config import DataConfig

LARGEST = 255  # value in a label image of 8 bits
# Pixels that touch at a corner belong to one part.
NEIGHBOURS = np.ones((3, 3), dtype=np.bool_)


@dataclass(frozen=True, kw_only=True)
class LabelValues:
    """Which values the pixels of a label image have."""

    classes: tuple[int, ...]  # of the classes, in their order
    background: int  # of a pixel without a class


def label_values(data: DataConfig) -> LabelValues:
    """The values of written label images: those of `data.classes`, so that one can train on them, or else 1, 2, ...

    Else is where a class has several values or colours, or a value above 255. data: with exclusive classes.
    """
    classes = data.mask_classes
    assert classes is not None
    each = tuple(value for values in classes.values.values() for value in values)
    background = (0,) if classes.categories else classes.background[:1] or _unused(each, ignore=data.ignore)
    if classes.are_colours or len(each) > len(classes.values) or max(*each, *background) > LARGEST:
        return LabelValues(classes=tuple(range(1, len(classes.values) + 1)), background=0)
    return LabelValues(classes=each, background=background[0])


def _unused(values: Sequence[int], *, ignore: int | None) -> tuple[int]:
    """What stands for no class where every pixel has one: small parts that were removed have none."""
    if ignore is not None:
        return (ignore,)
    return (next(value for value in range(LARGEST, -1, -1) if value not in values),)


def class_masks(mask: NDArray[np.uint8], labels: Labels) -> NDArray[np.bool_]:
    """The mask of each class, (..., classes). mask: as `labels` says, (..., mask channels)."""
    own = np.arange(1, len(labels.names) + 1, dtype=np.uint8) if labels.exclusive else 1
    found: NDArray[np.bool_] = mask == own
    return found


def foreground_pixels(mask: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which pixels of a mask in memory are of a class, in its shape: those neither of the background nor ignored."""
    found: NDArray[np.bool_] = (mask != 0) & (mask != IGNORED)
    return found


def ignored_pixels(mask: NDArray[np.uint8], labels: Labels) -> NDArray[np.bool_] | None:
    """The pixels that are left out of loss and scores, (...); None if the set has none."""
    if not labels.has_ignored:
        return None
    found: NDArray[np.bool_] = mask[..., 0] == IGNORED
    return found


def as_file_name(name: str) -> str:
    """A class's name in that of a file, a metric or a tag: letters, digits, `.`, `-` and `_` stay."""
    return re.sub(r"[^\w.-]", "_", name)


def file_names(names: Sequence[str]) -> dict[str, str]:
    """Each name -> its own name of a file or folder, on every system: those that would be the same get a number."""
    found: dict[str, str] = {}
    for name in names:
        stem = re.sub(r"^\.+|\.+$", "_", as_file_name(name))
        taken = {other.lower() for other in found.values()}  # some systems take capitals for small letters
        tries = (stem if number == 1 else f"{stem}_{number}" for number in range(1, len(names) + 1))
        found[name] = next(each for each in tries if each.lower() not in taken)
    return found
