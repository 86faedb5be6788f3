"""Finds slices that are equal, and slices of different people that are nearly so.

A near duplicate under another patient's id (saved again as JPEG, resized, brightened, shifted by a pixel)
puts a slice that was trained on into validation, whatever the split keeps together.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Thumbnail = NDArray[np.float32]

# Correlation of two thumbnails, 1 for the same picture up to brightness and contrast. Measured on the
# 3,064 Figshare slices: between different people at most 0.967 at 32 pixels and 0.944 at 96. Made
# copies of 150 of them: JPEG of quality 10 at least 0.992 and 0.984, gamma 0.7 or 1.3 0.984 and 0.983,
# halved 1.000 and 0.980, shifted by one pixel of 256 0.988 and 0.964.
COARSE_PX, COARSE_CORRELATION = 32, 0.98
FINE_PX, FINE_CORRELATION = 96, 0.955

_BLOCK = 1024  # rows of one matrix product, so that memory grows with the slices and not their square
_MAX_CANDIDATES = 20_000  # a set with more is one of copies, and the first ones show it


def thumbnail(image: NDArray[np.uint8], side_px: int) -> Thumbnail | None:
    """The image, (height, width, channels), as a vector of length side_px**2, zero mean and unit norm.

    Of several channels their mean counts. None for a constant one.
    """
    grey = image[..., 0] if image.shape[-1] == 1 else np.rint(image.mean(axis=-1)).astype(np.uint8)
    small = Image.fromarray(grey).resize((side_px, side_px), Image.Resampling.BOX)
    values = np.asarray(small, dtype=np.float32).ravel()
    values = values - values.mean()
    norm = float(np.linalg.norm(values))
    return values / np.float32(norm) if norm > 0 else None


def equal_groups(digests: Mapping[str, bytes]) -> list[tuple[str, ...]]:
    """Ids with the same digest, sorted, in groups of two and more."""
    ids_of = defaultdict(list)
    for slice_id, digest in sorted(digests.items()):
        ids_of[digest].append(slice_id)
    return [tuple(ids) for ids in ids_of.values() if len(ids) > 1]


def near_duplicates(
    coarse: Mapping[str, Thumbnail], people: Mapping[str, str], fine: Callable[[str], Thumbnail | None]
) -> list[tuple[str, str, float]]:
    """Pairs (id, id, correlation at 96 pixels) of nearly equal slices of different people, nearest first.

    coarse: thumbnail of COARSE_PX of each slice. people: who each slice shows; slices without an entry
    are passed over, since neighbours in one head are near duplicates by nature. fine: gives a slice's
    thumbnail of FINE_PX, asked for candidates alone.
    """
    ids = sorted(coarse.keys() & people.keys())
    if len(ids) < 2:
        return []
    fine_of: dict[str, Thumbnail | None] = {}
    pairs = []
    for first, second in _candidates([coarse[item] for item in ids], [people[item] for item in ids]):
        for position in (first, second):
            if ids[position] not in fine_of:
                fine_of[ids[position]] = fine(ids[position])
        a, b = fine_of[ids[first]], fine_of[ids[second]]
        if a is not None and b is not None and (correlation := float(a @ b)) >= FINE_CORRELATION:
            pairs.append((ids[first], ids[second], correlation))
    return sorted(pairs, key=lambda pair: (-pair[2], pair[:2]))


def _candidates(thumbnails: Sequence[Thumbnail], people: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Positions first < second of different people whose coarse thumbnails correlate."""
    matrix = np.stack(thumbnails)
    person = np.unique(np.array(people), return_inverse=True)[1]
    found = 0
    for start in range(0, len(matrix), _BLOCK):
        rows = slice(start, start + _BLOCK)
        near = matrix[rows] @ matrix[start:].T >= COARSE_CORRELATION
        near &= person[rows, None] != person[None, start:]
        for row, column in np.argwhere(near):
            if row < column:
                yield start + int(row), start + int(column)
                found += 1
                if found == _MAX_CANDIDATES:
                    return
