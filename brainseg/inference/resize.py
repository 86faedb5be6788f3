"""Bilinear resizing of probabilities, as TensorFlow does it, in NumPy."""

import numpy as np
from numpy.typing import NDArray


def resize_probability(probability: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Bilinear interpolation of (height, width, ...) to (*shape, ...), float32; the same values if the shape is equal.

    Pixels are areas (half-pixel centres), edges are repeated, and nothing is smoothed on shrinking, as by
    `tf.image.resize(..., antialias=False)`. Values stay within the input's range.
    """
    resized = np.asarray(probability, dtype=np.float32)
    for axis, size in enumerate(shape):
        if resized.shape[axis] != size:
            resized = _interpolate(resized, size, axis=axis)
    return resized


def _interpolate(values: NDArray[np.float32], size: int, *, axis: int) -> NDArray[np.float32]:
    """Linear interpolation along one axis to `size` samples at the centres of equal parts."""
    old = values.shape[axis]
    centres = np.clip((np.arange(size) + 0.5) * old / size - 0.5, 0.0, old - 1.0)
    low = np.floor(centres).astype(np.intp)
    high = np.minimum(low + 1, old - 1)
    weight = (centres - low).astype(np.float32)
    weight = weight.reshape([-1 if dimension == axis else 1 for dimension in range(values.ndim)])
    below = np.take(values, low, axis=axis)
    interpolated: NDArray[np.float32] = below + weight * (np.take(values, high, axis=axis) - below)
    return interpolated
