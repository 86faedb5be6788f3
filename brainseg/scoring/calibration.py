"""Calibration: whether eight of ten pixels with a probability of 0.8 are tumour. Reliability curve and error."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BINS = 15
# Pixels near a tumour, real or suspected: those of the mask, and those with more than this probability.
NEAR_PROBABILITY = 0.01


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """The reliability curve, in bins of equal width."""

    pixels: tuple[int, ...]
    probability: tuple[float | None, ...]  # mean of the bin's pixels, in [0, 1]; None for an empty bin
    tumor_share: tuple[float | None, ...]  # of the bin's pixels, in [0, 1]

    @property
    def error(self) -> float:
        """Expected calibration error, in [0, 1]: |probability - tumour share|, weighed by the bins' pixels.

        Guo et al. 2017, arXiv:1706.04599, for the probability of one class. 0 without pixels.
        """
        gaps = [
            pixels * abs(said - true)
            for pixels, said, true in zip(self.pixels, self.probability, self.tumor_share, strict=True)
            if said is not None and true is not None
        ]
        return sum(gaps) / max(sum(self.pixels), 1)


class Calibration:
    """Counts pixels, a slice at a time: all of them, and those near a tumour.

    Nearly all pixels are background that any model is sure of, so that the error over all pixels is small
    whatever the model does at a tumour.
    """

    def __init__(self) -> None:
        self._all = np.zeros((3, BINS))  # pixels, sum of probabilities, tumour pixels
        self._near = np.zeros((3, BINS))

    def add(self, probability: NDArray[np.float32], mask: NDArray[np.bool_]) -> None:
        """Counts the pixels of a slice; both of one shape."""
        self._all += _counts(probability.ravel(), mask.ravel())
        near = mask | (probability > NEAR_PROBABILITY)
        self._near += _counts(probability[near], mask[near])

    def merge(self, other: "Calibration") -> None:
        """Adds the pixels that another one has counted."""
        self._all += other._all
        self._near += other._near

    @property
    def all_pixels(self) -> Reliability:
        """Over every pixel."""
        return _reliability(self._all)

    @property
    def near_tumor(self) -> Reliability:
        """Over the pixels of the masks, and those with a probability above `NEAR_PROBABILITY`."""
        return _reliability(self._near)


def _counts(probability: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Pixels, sum of probabilities and tumour pixels of each bin, (3, BINS); both arguments (pixels,)."""
    bins = np.minimum((probability * BINS).astype(np.intp), BINS - 1)
    return np.stack(
        [
            np.bincount(bins, minlength=BINS),
            np.bincount(bins, weights=probability, minlength=BINS),
            np.bincount(bins, weights=mask, minlength=BINS),
        ]
    )


def _reliability(counts: NDArray[np.float64]) -> Reliability:
    pixels, probabilities, tumor = counts
    return Reliability(
        pixels=tuple(int(count) for count in pixels),
        probability=tuple(_mean(*pair) for pair in zip(probabilities, pixels, strict=True)),
        tumor_share=tuple(_mean(*pair) for pair in zip(tumor, pixels, strict=True)),
    )


def _mean(total: float, count: float) -> float | None:
    return float(total / count) if count else None
