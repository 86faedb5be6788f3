"""Overlap scores: the loss and the metric of training, and the scores of evaluation, from one Dice definition.

Training's are soft (probabilities, TensorFlow tensors); evaluation's are hard (boolean masks, NumPy
arrays). TensorFlow is imported by the former alone, so that reading scores stays cheap.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from brainseg.config import one_of

if TYPE_CHECKING:
    import tensorflow as tf

# Takes (mask, probability) and gives a float32 scalar.
Loss: TypeAlias = "Callable[[tf.Tensor, tf.Tensor], tf.Tensor]"

# Added to both sides of the soft Dice fraction: defines it for two empty masks (1), and keeps gradients finite.
SMOOTH = 1.0
# A probability from here on is tumour.
THRESHOLD = 0.5


def dice_coefficient(
    mask: tf.Tensor, probability: tf.Tensor, *, smooth: float = SMOOTH, each_image: bool = False
) -> tf.Tensor:
    """Soft Dice over all pixels of the batch at once, a float32 scalar in [0, 1]; two empty masks score 1.

    mask: {0, 1}, (batch, height, width, channels). probability: [0, 1], the same shape.
    each_image: of each image instead, shape (batch,).
    (2 * sum(m * p) + smooth) / (sum(m) + sum(p) + smooth), the sum (not squared) form of Milletari
    et al. 2016, arXiv:1606.04797. It moves with the batch size: one slice without a tumour weighs nothing.
    """
    import tensorflow as tf

    # float32: a sum over a batch in bfloat16 stops growing at 256 pixels.
    mask = tf.cast(mask, tf.float32)
    probability = tf.cast(probability, tf.float32)
    axes = (1, 2, 3) if each_image else None
    shared = tf.reduce_sum(mask * probability, axes)
    total = tf.reduce_sum(mask, axes) + tf.reduce_sum(probability, axes)
    return (2.0 * shared + smooth) / (total + smooth)


def dice_loss(mask: tf.Tensor, probability: tf.Tensor) -> tf.Tensor:
    """1 - `dice_coefficient`: a float32 scalar in [0, 1]."""
    return 1.0 - dice_coefficient(mask, probability)


def bce_dice_loss(mask: tf.Tensor, probability: tf.Tensor) -> tf.Tensor:
    """Mean binary cross-entropy over all pixels plus `dice_loss`: a float32 scalar, at least 0."""
    return _cross_entropy(mask, probability) + dice_loss(mask, probability)


def bce_dice_image_loss(mask: tf.Tensor, probability: tf.Tensor) -> tf.Tensor:
    """Mean binary cross-entropy plus the mean over images of each one's Dice loss: a float32 scalar, at least 0.

    A small tumour weighs as much as a large one here, as it does in the scores of each image.
    """
    import tensorflow as tf

    each = dice_coefficient(mask, probability, each_image=True)
    return _cross_entropy(mask, probability) + 1.0 - tf.reduce_mean(each)


def _cross_entropy(mask: tf.Tensor, probability: tf.Tensor) -> tf.Tensor:
    import keras
    import tensorflow as tf

    # Keras goes back to the logits where `probability` is the output of a sigmoid, so that a pixel that is
    # wrong with certainty keeps its gradient; elsewhere it clips to [1e-7, 1 - 1e-7].
    entropy = keras.ops.binary_crossentropy(tf.cast(mask, tf.float32), tf.cast(probability, tf.float32))
    return tf.reduce_mean(entropy)


LOSSES: dict[str, Loss] = {
    "dice": dice_loss,
    "bce_dice": bce_dice_loss,
    "bce_dice_image": bce_dice_image_loss,
}


def loss_of(name: str) -> Loss:
    """The loss that `train.loss` names. Raises ConfigError for an unknown one."""
    one_of("train.loss", name, tuple(LOSSES))
    return LOSSES[name]


def hard_dice(mask: NDArray[np.bool_], predicted: NDArray[np.bool_]) -> float:
    """Dice of two masks of one shape, in [0, 1]; two empty masks score 1, one empty mask scores 0.

    Raises ValueError if the shapes differ or the arrays aren't boolean.
    """
    return float(dice_per_image(mask[np.newaxis], predicted[np.newaxis])[0])


def iou(mask: NDArray[np.bool_], predicted: NDArray[np.bool_]) -> float:
    """Intersection over union of two masks, in [0, 1]; empty masks and errors as for `hard_dice`."""
    dice = hard_dice(mask, predicted)
    return dice / (2.0 - dice)


def dice_per_image(masks: NDArray[np.bool_], predictions: NDArray[np.bool_]) -> NDArray[np.float64]:
    """`hard_dice` of each image, shape (images,). masks, predictions: (images, ...), of one shape.

    Raises ValueError if the shapes differ or the arrays aren't boolean.
    """
    if masks.dtype != np.bool_ or predictions.dtype != np.bool_:
        raise ValueError(
            f"masks and predictions must be boolean, got {masks.dtype} and {predictions.dtype}; compare with 0.5 first"
        )
    if masks.shape != predictions.shape:
        raise ValueError(
            f"masks and predictions must have one shape, got {masks.shape} and {predictions.shape}; "
            "resize the probabilities first"
        )
    axes = tuple(range(1, masks.ndim))
    shared = np.count_nonzero(masks & predictions, axis=axes)
    total = np.count_nonzero(masks, axis=axes) + np.count_nonzero(predictions, axis=axes)
    return np.where(total == 0, 1.0, 2.0 * shared / np.maximum(total, 1))


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
