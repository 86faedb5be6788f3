"""The mean and the deviation of an image's channels, by which `model.standardize` makes them alike with patches."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

EPSILON = 1e-3  # what Keras' LayerNormalization adds to a variance: the network's own layer without patches
_ROWS = 256  # of an image that are looked at together: a large one isn't copied


def statistics(image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and deviation, sqrt(variance + EPSILON), of each channel's values in [0, 1]; both of shape (channels,).

    image: (height, width, channels) at its stored size. Summed in whole numbers: the same for any order.
    """
    sums, squares = (np.zeros(image.shape[-1], np.uint64) for _ in range(2))
    for first in range(0, len(image), _ROWS):
        values = image[first : first + _ROWS].astype(np.uint32)
        sums += values.sum(axis=(0, 1), dtype=np.uint64)
        squares += (values * values).sum(axis=(0, 1), dtype=np.uint64)
    pixels = image.shape[0] * image.shape[1]
    mean = sums / pixels
    deviation = np.sqrt((squares / pixels - mean**2) / 255**2 + EPSILON)
    return (mean / 255).astype(np.float32), deviation.astype(np.float32)


def standardized(images: Any, mean: Any, deviation: Any) -> Any:
    """(images - mean) / deviation: crops of an image with the statistics of the whole of it."""
    return (images - mean) / deviation
