"""The losses of training, and soft Dice: TensorFlow tensors in, a tensor out.

Hard Dice, of masks, is in `scoring/overlap.py`. TensorFlow is imported when a loss is computed.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias

from brainseg.classes import BACKGROUND, BINARY, Labels
from brainseg.config import TrainConfig, loss_terms
from brainseg.plugins import is_built_in, made, part

if TYPE_CHECKING:
    import tensorflow as tf

# Takes (mask, probability) and gives a float32 scalar. mask: `targets`, (batch, height, width, outputs); probability:
# [0, 1], the same shape. Pixels without a class and ignored ones weigh nothing; means are over the others.
Loss: TypeAlias = "Callable[[tf.Tensor, tf.Tensor], tf.Tensor]"
# A term of a loss that brainseg has; it takes the same, in float32.
Term: TypeAlias = "Callable[[tf.Tensor, tf.Tensor, TrainConfig, Labels], tf.Tensor]"

DICE_IMAGE = "dice_image"
# Added to both sides of the soft Dice fraction: defines it for two empty masks (1), and keeps gradients finite.
SMOOTH = 1.0
# What is raised to a power is at least this: the gradient of a root is infinite at 0.
SMALLEST = 1e-7


def loss_of(train: TrainConfig, labels: Labels) -> Loss:
    """The sum of the terms that `train.loss` names, those of plugins among them."""
    names = loss_terms(train.loss)
    terms = [_term(name, train, labels) for name in names if name != DICE_IMAGE]

    def loss(mask: tf.Tensor, probability: tf.Tensor) -> tf.Tensor:
        import tensorflow as tf

        # float32: a sum over a batch in bfloat16 stops growing at 256 pixels.
        mask, probability = tf.cast(mask, tf.float32), tf.cast(probability, tf.float32)
        values = [term(mask, probability) for term in terms]
        if DICE_IMAGE not in names:
            return functools.reduce(operator.add, values)
        # 1 is added first, and so rounded as by version 0.1.
        return functools.reduce(operator.add, [*values, 1.0]) - dice_image(mask, probability, train, labels)

    return loss


def _term(name: str, train: TrainConfig, labels: Labels) -> Loss:
    if not is_built_in("losses", name):
        own: Loss = made("losses", name, train.loss_options)
        return own
    term: Term = part("losses", name)
    return lambda mask, probability: term(mask, probability, train, labels)


def dice_coefficient(
    mask: tf.Tensor,
    probability: tf.Tensor,
    *,
    labels: Labels = BINARY,
    smooth: float = SMOOTH,
    each_image: bool = False,
) -> tf.Tensor:
    """Soft Dice over all pixels of the batch at once, a float32 scalar in [0, 1]; two empty masks score 1.

    The mean over the classes of `labels`, the background aside. mask, probability: see `Loss`. each_image: the mean
    over the Dice of each image instead.
    (2 * sum(m * p) + smooth) / (sum(m) + sum(p) + smooth), the sum (not squared) form of Milletari
    et al. 2016, arXiv:1606.04797. It moves with the batch size: one slice without a tumour weighs nothing.
    """
    import tensorflow as tf

    mask, probability = _of_classes(tf.cast(mask, tf.float32), tf.cast(probability, tf.float32), labels)
    axes = (1, 2) if each_image else (0, 1, 2)
    shared = tf.reduce_sum(mask * probability, axes)
    total = tf.reduce_sum(mask, axes) + tf.reduce_sum(probability, axes)
    return tf.reduce_mean((2.0 * shared + smooth) / (total + smooth))


def dice(mask: tf.Tensor, probability: tf.Tensor, train: TrainConfig, labels: Labels) -> tf.Tensor:
    """1 - `dice_coefficient` of the batch."""
    return 1.0 - dice_coefficient(mask, probability, labels=labels)


def dice_image(mask: tf.Tensor, probability: tf.Tensor, train: TrainConfig, labels: Labels) -> tf.Tensor:
    """The mean over the Dice of each image, which the loss takes from 1: small tumours weigh as much as large ones."""
    return dice_coefficient(mask, probability, labels=labels, each_image=True)


def cross_entropy(mask: tf.Tensor, probability: tf.Tensor, train: TrainConfig, labels: Labels) -> tf.Tensor:
    """Categorical for exclusive classes, else the mean of each class' binary one."""
    return _mean(_entropy(mask, probability, labels), mask, train, labels)


def focal(mask: tf.Tensor, probability: tf.Tensor, train: TrainConfig, labels: Labels) -> tf.Tensor:
    """Cross-entropy times (1 - p)**gamma, p the probability of what is true: Lin et al. 2017, arXiv:1708.02002.

    Their balancing weights are `train.class_weights`. The mean is over pixels; they divide by the number of objects.
    """
    import tensorflow as tf

    if labels.exclusive:
        true = tf.reduce_sum(mask * probability, -1, keepdims=True)
    else:
        true = tf.where(mask > 0.0, probability, 1.0 - probability)
    weight = tf.maximum(1.0 - true, SMALLEST) ** train.focal_gamma
    return _mean(weight * _entropy(mask, probability, labels), mask, train, labels)


def tversky(mask: tf.Tensor, probability: tf.Tensor, train: TrainConfig, labels: Labels) -> tf.Tensor:
    """The mean over the classes of `_tversky_losses`."""
    import tensorflow as tf

    return tf.reduce_mean(_tversky_losses(mask, probability, train, labels))


def focal_tversky(mask: tf.Tensor, probability: tf.Tensor, train: TrainConfig, labels: Labels) -> tf.Tensor:
    """Each class' Tversky loss to the power of 1 / gamma: Abraham and Khan 2019, arXiv:1810.07842.

    The mean over the classes, of which they take the sum.
    """
    import tensorflow as tf

    losses = tf.maximum(_tversky_losses(mask, probability, train, labels), SMALLEST)
    return tf.reduce_mean(losses ** (1.0 / train.focal_tversky_gamma))


def _tversky_losses(mask: tf.Tensor, probability: tf.Tensor, train: TrainConfig, labels: Labels) -> tf.Tensor:
    """1 - the Tversky index of each class over all pixels of the batch, (classes,).

    shared / (shared + alpha * false positives + beta * false negatives), Salehi et al. 2017, arXiv:1706.05721. Half of
    `SMOOTH` is added to both sides: for weights of 1/2 it is the Dice loss.
    """
    import tensorflow as tf

    mask, probability = _of_classes(mask, probability, labels)
    shared, predicted, true = (tf.reduce_sum(each, (0, 1, 2)) for each in (mask * probability, probability, mask))
    wrong = train.tversky_alpha * (predicted - shared) + train.tversky_beta * (true - shared)
    smooth = SMOOTH / 2.0
    return 1.0 - (shared + smooth) / (shared + wrong + smooth)


def _of_classes(mask: tf.Tensor, probability: tf.Tensor, labels: Labels) -> tuple[tf.Tensor, tf.Tensor]:
    """Both without the background's channel, and 0 where a pixel doesn't count."""
    counted = _counted(mask, labels)
    if counted is not None:
        mask, probability = mask * counted, probability * counted
    return mask[..., labels.first_class :], probability[..., labels.first_class :]


def _counted(mask: tf.Tensor, labels: Labels) -> tf.Tensor | None:
    """1.0 at pixels that count, else 0.0, (batch, height, width, 1); None where all do."""
    import tensorflow as tf

    if not labels.has_ignored and (labels.has_background or not labels.exclusive):
        return None
    # A pixel of exclusive classes has one of them, unless augmentation brought it in from outside and there is no
    # background that it could be.
    counted = tf.reduce_max(mask, -1, keepdims=True) > 0.0 if labels.exclusive else mask[..., :1] >= 0.0
    return tf.cast(counted, tf.float32)


def _entropy(mask: tf.Tensor, probability: tf.Tensor, labels: Labels) -> tf.Tensor:
    """Cross-entropy, (batch, height, width, 1) for exclusive classes, and else that of each class, as `mask`."""
    import keras

    # Keras goes back to the logits where `probability` is the output of a sigmoid or softmax, so that a pixel that
    # is wrong with certainty keeps its gradient; elsewhere it clips to [1e-7, 1 - 1e-7].
    if labels.exclusive:
        return keras.ops.categorical_crossentropy(mask, probability)[..., None]
    return keras.ops.binary_crossentropy(mask, probability)


def _mean(entropy: tf.Tensor, mask: tf.Tensor, train: TrainConfig, labels: Labels) -> tf.Tensor:
    """The mean over the counted pixels, each times its class' weight: a float32 scalar."""
    import tensorflow as tf

    if train.class_weights is not None:
        entropy *= _weights(mask, train.class_weights, labels)
    counted = _counted(mask, labels)
    if counted is None:
        return tf.reduce_mean(entropy)
    return tf.reduce_sum(entropy * counted) / tf.maximum(entropy.shape[-1] * tf.reduce_sum(counted), 1.0)


def _weights(mask: tf.Tensor, given: Mapping[str, float], labels: Labels) -> tf.Tensor:
    """The weight of each value of `_entropy`: that of the pixel's class, or of the background."""
    import tensorflow as tf

    background, *classes = (given.get(name, 1.0) for name in (BACKGROUND, *labels.names))
    if labels.exclusive:
        return tf.reduce_sum(mask * [background, *classes][1 - labels.first_class :], -1, keepdims=True)
    return tf.where(mask > 0.0, classes, background)
