"""Predicts an image of any size in windows of the model's size, which overlap by half and weigh most at their centres.

The probability of a pixel is the mean over the windows that hold it, each weighted by

    w(y, x) = g(y, height) * g(x, width),   g(i, n) = exp(-((i - (n - 1) / 2) / (n / 8))**2 / 2)

with (y, x) in the window: the Gaussian of nnU-Net (Isensee et al. 2021, doi 10.1038/s41592-020-01008-z). An image that
is smaller than a window is filled with 0 at its right and bottom, as patches are in training, and cut again.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainseg.data.batches import scaled_images
from brainseg.data.patches import cut
from brainseg.data.standardize import standardized, statistics
from brainseg.model.names import OF_STANDARDIZED_WINDOWS, OF_WINDOWS

# Windows that a model takes at once. Always as many, filled up: another shape would build another graph.
WINDOW_BATCH = 8

# Float32 windows (WINDOW_BATCH, height, width, channels) to probabilities (WINDOW_BATCH, ..., height, width, outputs).
Predict = Callable[[Any], NDArray[np.float32]]


@dataclass(frozen=True, kw_only=True)
class Windows:
    """How a model that was trained on patches sees an image."""

    size: tuple[int, int]  # height and width
    standardized: bool  # the whole image comes to mean 0 and variance 1 before it is cut

    def of(self, image: NDArray[np.uint8]) -> Callable[[NDArray[np.uint8]], Any]:
        """What makes a model's input, a float32 tensor, of windows that were cut from this image."""
        if not self.standardized:
            return scaled_images
        scale = statistics(image)
        return lambda windows: standardized(scaled_images(windows), *scale)


def windows_of(model: Any) -> Windows | None:
    """What the name of a model says; None for one that sees whole images, resized."""
    name = getattr(model, "name", "")
    if not name.endswith((OF_WINDOWS, OF_STANDARDIZED_WINDOWS)):
        return None
    return Windows(size=model.input_shape[1:3], standardized=name.endswith(OF_STANDARDIZED_WINDOWS))


def in_bands(image: NDArray[np.uint8], windows: Windows, predict: Predict) -> Iterator[NDArray[np.float32]]:
    """Probabilities (..., rows, width, outputs) of one band of rows after the other, the top one first.

    image: (height, width, channels). Each window is predicted once, and a band is complete before the next one begins:
    beside the image, memory holds windows of one row.
    """
    (height, width), size = image.shape[:2], windows.size
    tops, lefts = _starts(height, size[0]), _starts(width, size[1])
    vertical, horizontal = _shares(tops, size[0]), _shares(lefts, size[1])
    predicted = _predicted(image, [(top, left) for top in tops for left in lefts], windows, predict)
    sums = None
    for row, (top, end) in enumerate(zip(tops, [*tops[1:], height], strict=True)):
        for column, left in enumerate(lefts):
            window = next(predicted)
            if sums is None:
                wide = max(width, size[1])
                sums = np.zeros((*window.shape[:-3], size[0], wide, window.shape[-1]), np.float32)
            sums[..., left : left + size[1], :] += window * np.outer(vertical[row], horizontal[column])[..., np.newaxis]
        assert sums is not None
        rows = end - top
        # The weights of a pixel add up to 1, but for rounding.
        yield np.minimum(sums[..., :rows, :width, :], 1.0)
        sums[..., : size[0] - rows, :, :] = sums[..., rows:, :, :]
        sums[..., size[0] - rows :, :, :] = 0.0


def in_windows(image: NDArray[np.uint8], windows: Windows, predict: Predict) -> NDArray[np.float32]:
    """Probabilities (..., height, width, outputs) of an image (height, width, channels)."""
    found: NDArray[np.float32] | None = None
    first = 0
    for band in in_bands(image, windows, predict):
        rows = band.shape[-3]
        if found is None:
            found = np.empty((*band.shape[:-3], len(image), *band.shape[-2:]), np.float32)
        found[..., first : first + rows, :, :] = band
        first += rows
    assert found is not None
    return found


def _predicted(
    image: NDArray[np.uint8], corners: Sequence[tuple[int, int]], windows: Windows, predict: Predict
) -> Iterator[NDArray[np.float32]]:
    """The probabilities of the window at each corner (top, left), in their order."""
    to_input = windows.of(image)
    for first in range(0, len(corners), WINDOW_BATCH):
        batch = [cut(image, corner, windows.size) for corner in corners[first : first + WINDOW_BATCH]]
        blank = [np.zeros_like(batch[0])] * (WINDOW_BATCH - len(batch))
        yield from predict(to_input(np.stack([*batch, *blank])))[: len(batch)]


def _starts(length: int, window: int) -> list[int]:
    """Where windows begin along an axis: evenly, at most half a window apart, the last one at the end of the image."""
    room = max(0, length - window)
    count = math.ceil(room / (window // 2)) + 1
    return [round(start) for start in np.linspace(0, room, count)]


def _shares(starts: Sequence[int], window: int) -> NDArray[np.float32]:
    """The weights of each window's pixels along an axis, (windows, pixels): those of any one pixel add up to 1."""
    pixels = np.arange(window)
    weights = np.exp(-(((pixels - (window - 1) / 2) / (window / 8)) ** 2) / 2)
    total = np.zeros(starts[-1] + window)
    for start in starts:
        total[start : start + window] += weights
    return np.stack([weights / total[start : start + window] for start in starts]).astype(np.float32)
