"""Masks in memory as the masks of their classes, and the names that classes have in files and metrics."""

import re

import numpy as np
from numpy.typing import NDArray

from brainseg.classes import IGNORED, Labels


def class_masks(mask: NDArray[np.uint8], labels: Labels) -> NDArray[np.bool_]:
    """The mask of each class, (..., classes). mask: as `labels` says, (..., mask channels)."""
    own = np.arange(1, len(labels.names) + 1, dtype=np.uint8) if labels.exclusive else 1
    found: NDArray[np.bool_] = mask == own
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
