"""The outline of a mask as an SVG path: along the edges of its pixels, so that it is true at any size."""

from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

# A corner (x, y), and the sign of the step that leaves it: along x for horizontal runs, along y for vertical ones.
_Start = tuple[int, int, int]


def outline_path(mask: NDArray[np.bool_]) -> str:
    """Every outline of a mask (height, width), closed, as `M8 10H18V20H8Z`; empty for an empty mask.

    Coordinates are pixels from the upper left corner of the image. Outlines of parts run clockwise, those of holes the
    other way; pixels that touch at a corner alone have an outline each.
    """
    padded = np.pad(mask, 1).astype(np.int8)
    horizontal = _runs(np.diff(padded, axis=0)[:, 1:-1])
    # A mask begins at a left edge, along which a clockwise outline goes up.
    vertical = _runs(-np.diff(padded, axis=1)[1:-1].T)
    ends = {(x, y, step): end for y, x, end, step in horizontal}
    turns: dict[_Start, int] = {(x, y, step): end for x, y, end, step in vertical}
    steps_at = defaultdict(list)
    for x, y, step in turns:
        steps_at[x, y].append(step)
    paths = []
    for start in sorted(ends, key=lambda start: (start[1], start[0])):
        if start in ends:
            paths.append(_outline(start, ends, turns, steps_at))
    return "".join(paths)


def _outline(
    start: _Start, ends: dict[_Start, int], turns: dict[_Start, int], steps_at: dict[tuple[int, int], list[int]]
) -> str:
    """The outline through `start`, whose runs are taken out of `ends` and `turns`."""
    x, y, step = start
    path = f"M{x} {y}"
    while (x, y, step) in ends:
        x = ends.pop((x, y, step))
        # Where two pixels touch at a corner, a right turn stays with the pixel that the outline is about.
        turn = step if step in steps_at[x, y] else -step
        steps_at[x, y].remove(turn)
        end = turns.pop((x, y, turn))
        step = -turn if (end_step := (x, end, -turn)) in ends or end_step == start else turn
        y = end
        path += f"H{x}" if (x, y) == start[:2] and (x, y, step) not in ends else f"H{x}V{y}"
    return f"{path}Z"


def _runs(changes: NDArray[np.int8]) -> list[tuple[int, int, int, int]]:
    """Line, start, end and step of every stretch of equal changes in a line; a stretch of -1 runs backwards."""
    found = []
    bounds = np.diff(np.pad(changes, ((0, 0), (1, 1))), axis=1) != 0
    for line in np.flatnonzero(bounds.any(axis=1)):
        places = np.flatnonzero(bounds[line])
        for first, last in zip(places, places[1:], strict=False):
            step = int(changes[line, first])
            if step:
                begin, end = (first, last) if step > 0 else (last, first)
                found.append((int(line), int(begin), int(end), step))
    return found
