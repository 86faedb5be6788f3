"""The outline of a mask as an SVG path: along the edges of its pixels, so that it is exact at any size."""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

# The start of a straight run: x, y, and its direction, towards higher (1) or lower (-1) coordinates.
_Start = tuple[int, int, int]


def outline_path(mask: NDArray[np.bool_]) -> str:
    """Every outline of a mask (height, width), closed, as `M8 10H18V20H8Z`; empty for an empty mask.

    Coordinates are pixels from the upper left corner of the image. Outer outlines run clockwise, those of holes
    counterclockwise; pixels that touch only at a corner have separate outlines.
    """
    padded = np.pad(mask, 1).astype(np.int8)
    # Clockwise: upper edges go to the right, right edges down.
    across = {(x, y, step): end for y, x, end, step in _runs(np.diff(padded, axis=0)[:, 1:-1])}
    down = {(x, y, step): end for x, y, end, step in _runs(-np.diff(padded, axis=1)[1:-1].T)}
    starts = sorted(across, key=lambda start: (start[1], start[0]))
    return "".join(_outline(start, across, down) for start in starts if start in across)


def outline_paths(masks: NDArray[np.bool_]) -> tuple[str, ...]:
    """`outline_path` of each class. masks: (height, width, classes)."""
    return tuple(outline_path(mask) for mask in np.moveaxis(masks, -1, 0))


def _outline(first: _Start, across: dict[_Start, int], down: dict[_Start, int]) -> str:
    """The outline that begins with the run `first`; its runs are taken out of `across` and `down`."""
    x, y, step = first
    path = f"M{x} {y}"
    while True:
        x = across.pop((x, y, step))
        path += f"H{x}"
        # Where two pixels touch at a corner, the right turn is the one that stays with the same pixel.
        step = step if (x, y, step) in down else -step
        y = down.pop((x, y, step))
        right = x, y, -step
        step = -step if right in across or right == first else step
        if (x, y, step) == first:
            return f"{path}Z"
        path += f"V{y}"


def _runs(changes: NDArray[np.int8]) -> list[tuple[int, int, int, int]]:
    """Line, start, end and step of every stretch of 1 or of -1 in a line; a stretch of -1 runs backwards."""
    found = []
    bounds = np.diff(np.pad(changes, ((0, 0), (1, 1))), axis=1) != 0
    for line in np.flatnonzero(bounds.any(axis=1)):
        places = np.flatnonzero(bounds[line])
        for low, high in pairwise(places):
            if step := int(changes[line, low]):
                start, end = (low, high) if step > 0 else (high, low)
                found.append((int(line), int(start), int(end), step))
    return found
