"""The losses of training, and soft Dice: TensorFlow tensors in, a tensor out.

Hard Dice, of masks, is in `scoring/overlap.py`. TensorFlow is imported when a loss is computed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from brainseg.classes import BINARY, Labels
from brainseg.config import TrainConfig, one_of

if TYPE_CHECKING:
    import tensorflow as tf

# Takes (mask, probability) and gives a float32 scalar.
Loss: TypeAlias = "Callable[[tf.Tensor, tf.Tensor], tf.Tensor]"

# Added to both sides of the soft Dice fraction: defines it for two empty masks (1), and keeps gradients finite.
SMOOTH = 1.0


def dice_coefficient(
    mask: tf.Tensor,
    probability: tf.Tensor,
    *,
    labels: Labels = BINARY,
    smooth: float = SMOOTH,
    each_image: bool = False,
) -> tf.Tensor:
    """Soft Dice over all pixels of the batch at once, a float32 scalar in [0, 1]; two empty masks score 1.

    The mean over the classes of `labels`, the background aside. mask: `targets`, (batch, height, width, outputs).
    probability: [0, 1], the same shape. each_image: the mean over the Dice of each image instead.
    (2 * sum(m * p) + smooth) / (sum(m) + sum(p) + smooth), the sum (not squared) form of Milletari
    et al. 2016, arXiv:1606.04797. It moves with the batch size: one slice without a tumour weighs nothing.
    """
    import tensorflow as tf

    # float32: a sum over a batch in bfloat16 stops growing at 256 pixels.
    mask = tf.cast(mask, tf.float32)
    probability = tf.cast(probability, tf.float32)
    if labels.has_ignored:
        counted = tf.cast(mask >= 0.0, tf.float32)
        mask, probability = mask * counted, probability * counted
    mask, probability = (each[..., labels.first_class :] for each in (mask, probability))
    axes = (1, 2) if each_image else (0, 1, 2)
    shared = tf.reduce_sum(mask * probability, axes)
    total = tf.reduce_sum(mask, axes) + tf.reduce_sum(probability, axes)
    return tf.reduce_mean((2.0 * shared + smooth) / (total + smooth))


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
    return _cross_entropy(mask, probability) + 1.0 - dice_coefficient(mask, probability, each_image=True)


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


def loss_of(train: TrainConfig, labels: Labels) -> Loss:
    """The loss that `train.loss` names. Raises ConfigError for an unknown one."""
    one_of("train.loss", train.loss, tuple(LOSSES))
    return LOSSES[train.loss]
