"""Outlines and run lengths as pixels, by the rules of COCO's own tools (pycocotools 2.0, `common/maskApi.c`).

Equal to them in every pixel. A pixel (x, y) covers x to x + 1 and y to y + 1.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_FINER = 5  # the grid on which COCO walks along an outline
_STEPS_AT_ONCE = 2**20
_MAX_STEPS = 10**8  # of one outline; it bounds the time that a hostile one takes
_CHARACTERS = 12  # of one run in a compressed text: more than any image needs


class ShapeError(ValueError):
    """The shape can't be drawn; the text says why, and follows its name."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Region:
    """Pixels of an image."""

    left: int
    top: int
    pixels: NDArray[np.bool_]  # (rows, columns) from there; within the image


def polygon(points: NDArray[np.float64], height: int, width: int) -> Region:
    """What lies inside an outline, as `rleFrPoly` has it: where it crosses itself, every second area is outside.

    points: x and y, (n, 2), finite. Raises ShapeError for an outline that is far too long.
    """
    starts = np.trunc(_FINER * points + 0.5).astype(np.int64)
    ends = np.roll(starts, -1, axis=0)
    steps = np.abs(ends - starts).max(axis=1)
    if steps.sum() > _MAX_STEPS:
        raise ShapeError(f"has an outline of over {_MAX_STEPS // _FINER} pixels")
    portion = np.cumsum(steps) // _STEPS_AT_ONCE
    edges = np.concatenate([starts, ends], axis=1)
    crossed = [_crossed(edges[portion == each], height, width) for each in np.unique(portion)]
    columns, rows = np.concatenate(crossed).T
    if not columns.size:
        return Region(left=0, top=0, pixels=np.zeros((0, 0), np.bool_))
    left, top = int(columns.min()), int(rows.min())
    turns = np.zeros((int(columns.max()) - left + 1, int(rows.max()) - top + 1), np.bool_)
    places, counts = np.unique((columns - left) * turns.shape[1] + rows - top, return_counts=True)
    turns.flat[places[counts % 2 == 1]] = True
    return Region(left=left, top=top, pixels=np.logical_xor.accumulate(turns, axis=1)[:, :-1].T)


def circle(centre: NDArray[np.float64], radius: float, height: int, width: int) -> Region:
    """The pixels whose centres lie within a circle. centre: x and y."""
    low = np.floor(centre - radius).clip(0, (width, height)).astype(int)
    high = np.ceil(centre + radius).clip(0, (width, height)).astype(int)
    across, down = (np.arange(low[axis], high[axis]) + 0.5 - centre[axis] for axis in (0, 1))
    pixels = down[:, np.newaxis] ** 2 + across**2 <= radius**2
    return Region(left=int(low[0]), top=int(low[1]), pixels=pixels)


def run_lengths(counts: NDArray[np.int64], height: int, width: int) -> Region:
    """Pixels of runs that go down the columns, of background and foreground in turn. Raises ShapeError."""
    if counts.ndim != 1 or (counts < 0).any() or (counts > height * width).any() or counts.sum() != height * width:
        raise ShapeError(f"has run lengths that don't add up to {width}x{height} pixels")
    values = np.arange(counts.size) % 2 == 1
    return Region(left=0, top=0, pixels=np.repeat(values, counts).reshape(width, height).T)


def decompress(text: str) -> NDArray[np.int64]:
    """The run lengths in COCO's compressed text. Raises ShapeError.

    Groups of 5 bits, the lowest first; from the fourth run on it is the difference from the run before the last.
    """
    try:
        codes = np.frombuffer(text.encode("ascii"), np.uint8).astype(np.int64) - 48
    except UnicodeEncodeError:
        raise ShapeError("has run lengths that aren't COCO's text") from None
    if not codes.size or codes.min() < 0 or codes.max() > 63 or codes[-1] & 32:
        raise ShapeError("has run lengths that aren't COCO's text")
    lasts = np.flatnonzero((codes & 32) == 0)
    firsts = np.append(0, lasts[:-1] + 1)
    lengths = lasts - firsts + 1
    if lengths.max() > _CHARACTERS:
        raise ShapeError("has run lengths that aren't COCO's text")
    shifts = 5 * (np.arange(codes.size) - np.repeat(firsts, lengths))
    runs: NDArray[np.int64] = np.add.reduceat((codes & 31) << shifts, firsts)
    runs -= ((codes[lasts] & 16) > 0) * (np.int64(1) << 5 * lengths)  # its highest bit is the sign
    runs[1::2], runs[2::2] = np.cumsum(runs[1::2]), np.cumsum(runs[2::2])
    return runs


def _crossed(edges: NDArray[np.int64], height: int, width: int) -> NDArray[np.int64]:
    """Where edges pass the middle of a column of pixels: its number, and the first row below, (n, 2).

    edges: from (x, y) to (x, y) on the finer grid, (n, 4).
    """
    spans = np.abs(edges[:, 2:] - edges[:, :2])
    along_x = spans[:, 0] >= spans[:, 1]
    # Along its longer side, x or y, from the lower end to the higher one; the other side follows by its slope.
    long, short = np.where(along_x, 0, 1), np.where(along_x, 1, 0)
    each = np.arange(len(edges))
    backwards = edges[each, long] > edges[each, long + 2]
    edges = np.where(backwards[:, np.newaxis], edges[:, [2, 3, 0, 1]], edges)
    steps = spans.max(axis=1)
    with np.errstate(invalid="ignore"):  # an edge without length has no step either
        slopes = (edges[each, short + 2] - edges[each, short]) / steps
    edge = np.repeat(each, steps)
    step = np.arange(steps.sum()) - np.repeat(np.cumsum(steps) - steps, steps)
    forward = edges[edge, long[edge]] + step
    aside, aside_next = (
        np.trunc(edges[edge, short[edge]] + slopes[edge] * at + 0.5).astype(np.int64) for at in (step, step + 1)
    )
    is_x = along_x[edge]
    lower = np.minimum(aside, aside_next)
    x, y = np.where(is_x, forward, lower), np.where(is_x, lower, forward)
    passes = (is_x | (aside != aside_next)) & (x % _FINER == _FINER // 2)
    columns = (x[passes] - _FINER // 2) // _FINER
    rows = np.ceil(((y[passes] + 0.5) / _FINER - 0.5).clip(0, height)).astype(np.int64)
    inside = (columns >= 0) & (columns < width)
    return np.stack([columns[inside], rows[inside]], axis=1)
