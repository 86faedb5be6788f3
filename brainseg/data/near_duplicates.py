"""Finds slices that are equal, and slices of different people that are nearly so.

A near duplicate under another patient's id (saved again as JPEG, resized, brightened, shifted by a pixel)
puts a slice that was trained on into validation, whatever the split keeps together.

An outline is sixty times as short as a thumbnail: its coordinates along a few orthogonal axes, and the length of what
these leave out. The product of two outlines is never below that of the two thumbnails (Cauchy-Schwarz). So the search
compares all outlines, and then the thumbnails of those pairs alone whose outlines allow a correlation.
"""

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from threadpoolctl import threadpool_limits

from brainseg.data.spread import in_threads

Thumbnail = NDArray[np.float32]

# Correlation of two thumbnails, 1 for the same picture up to brightness and contrast. Measured on the
# 3,064 Figshare slices: between different people at most 0.967 at 32 pixels and 0.944 at 96. Made
# copies of 150 of them: JPEG of quality 10 at least 0.992 and 0.984, gamma 0.7 or 1.3 0.984 and 0.983,
# halved 1.000 and 0.980, shifted by one pixel of 256 0.988 and 0.964.
COARSE_PX, COARSE_CORRELATION = 32, 0.98
FINE_PX, FINE_CORRELATION = 96, 0.955

_AXES = 16  # of an outline
_SAMPLE = 2000  # slices that the axes are fitted to
_ROUNDING = 1e-4  # of a product
_ROWS, _COLUMNS = 512, 1024  # of one product: it stays in the processor's cache
_MAX_CANDIDATES = 20_000  # a set with more is one of copies, and the first ones show it


def shrunk(image: NDArray[np.uint8], side_px: int) -> NDArray[np.uint8]:
    """The image, (height, width, channels), as side_px**2 block means of its grey: of several channels their mean."""
    grey = image[..., 0] if image.shape[-1] == 1 else np.rint(image.mean(axis=-1)).astype(np.uint8)
    return np.asarray(Image.fromarray(grey).resize((side_px, side_px), Image.Resampling.BOX)).ravel()


def thumbnail(image: NDArray[np.uint8], side_px: int) -> Thumbnail | None:
    """The same as a vector of zero mean and unit norm. None for a constant image."""
    view = _standardized(shrunk(image, side_px))
    return view if view.any() else None


def equal_groups(digests: Mapping[str, bytes]) -> list[tuple[str, ...]]:
    """Ids with the same digest, sorted, in groups of two and more."""
    ids_of = defaultdict(list)
    for slice_id, digest in sorted(digests.items()):
        ids_of[digest].append(slice_id)
    return [tuple(ids) for ids in ids_of.values() if len(ids) > 1]


def near_duplicates(
    ids: Sequence[str],
    coarse: NDArray[np.uint8],
    people: Mapping[str, str],
    fine: Callable[[str], NDArray[np.uint8]],
) -> list[tuple[str, str, float]]:
    """Pairs (id, id, correlation at 96 pixels) of nearly equal slices of different people, nearest first.

    ids: sorted. coarse: each slice as `shrunk` to COARSE_PX, (slices, COARSE_PX**2); constant ones are passed over.
    people: who each slice shows; slices without an entry are passed over, since neighbours in one head are near
    duplicates by nature. fine: gives a slice shrunk to FINE_PX, asked for candidates alone, in several threads.
    """
    known = np.array([place for place, item in enumerate(ids) if item in people], np.intp)
    known = known[(coarse[known] != coarse[known, :1]).any(axis=1)]
    person = np.unique([people[ids[place]] for place in known], return_inverse=True)[1]
    if not person.any():  # nobody, or one person
        return []
    candidates = [(ids[known[first]], ids[known[second]]) for first, second in _candidates(coarse, known, person)]
    wanted = sorted({item for pair in candidates for item in pair})
    fine_of = dict(zip(wanted, in_threads(fine, wanted), strict=True))
    pairs = []
    for first, second in candidates:
        a, b = _standardized(np.stack([fine_of[first], fine_of[second]]))
        if (correlation := float(a @ b)) >= FINE_CORRELATION:
            pairs.append((first, second, correlation))
    return sorted(pairs, key=lambda pair: (-pair[2], pair[:2]))


def _candidates(
    coarse: NDArray[np.uint8], known: NDArray[np.intp], person: NDArray[np.intp]
) -> Iterator[tuple[int, int]]:
    """Positions first < second in `known` of different people whose coarse thumbnails correlate, in their order."""

    def of_rows(start: int) -> NDArray[np.intp]:
        """(pairs, 2)."""
        rows = slice(start, start + _ROWS)
        found = [np.empty((0, 2), np.intp)]
        for left in range(start, len(known), _COLUMNS):
            columns = slice(left, left + _COLUMNS)
            product = outlines[rows] @ outlines[columns].T
            where = np.flatnonzero(product >= COARSE_CORRELATION - _ROUNDING)  # many times as fast as np.argwhere
            near = np.stack(np.unravel_index(where, product.shape), axis=1) + np.array([start, left])
            near = near[(near[:, 0] < near[:, 1]) & (person[near[:, 0]] != person[near[:, 1]])]
            if len(near):
                found.append(near[_correlate(coarse, known[near])])
        pairs = np.concatenate(found)
        return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]

    with threadpool_limits(1, "blas"):  # its threads wait for each other at every product, and these are small
        outlines = _outlines(coarse, known)
        every = (pair for pairs in in_threads(of_rows, range(0, len(known), _ROWS)) for pair in pairs)
        for first, second in itertools.islice(every, _MAX_CANDIDATES):
            yield int(first), int(second)


def _correlate(coarse: NDArray[np.uint8], pairs: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Whether the thumbnails of each pair do."""
    (first, row), (second, column) = (np.unique(of_pair, return_inverse=True) for of_pair in pairs.T)
    product = _standardized(coarse[first]) @ _standardized(coarse[second]).T
    correlate: NDArray[np.bool_] = product[row, column] >= COARSE_CORRELATION
    return correlate


def _outlines(coarse: NDArray[np.uint8], known: NDArray[np.intp]) -> Thumbnail:
    """(known, _AXES + 1). Thumbnails differ most along these axes, so that few products are large by chance."""
    sample = _standardized(coarse[known[:: -(-len(known) // _SAMPLE)]])
    axes = np.random.default_rng(0).normal(size=(sample.shape[1], _AXES)).astype(np.float32)
    for _ in range(3):  # of the power method
        axes = np.linalg.qr(sample.T @ (sample @ axes))[0]
    outlines = np.empty((len(known), _AXES + 1), np.float32)
    for start in range(0, len(known), _SAMPLE):
        rows = slice(start, start + _SAMPLE)
        outlines[rows, :-1] = along = _standardized(coarse[known[rows]]) @ axes
        outlines[rows, -1] = np.sqrt(np.maximum(1 - (along**2).sum(axis=1), 0))
    return outlines


def _standardized(small: NDArray[np.uint8]) -> Thumbnail:
    """Pictures, (..., pixels), with zero mean and unit norm each; constant ones become 0."""
    values = small.astype(np.float32)
    values -= values.mean(axis=-1, keepdims=True)
    norm = np.linalg.norm(values, axis=-1, keepdims=True)
    thumbnails: Thumbnail = np.divide(values, norm, out=np.zeros_like(values), where=norm > 0)
    return thumbnails
