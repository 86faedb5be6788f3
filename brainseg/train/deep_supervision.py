"""Deep supervision: the coarser levels of the decoder are trained on the mask as well."""

import keras
import tensorflow as tf

from brainseg.classes import Labels
from brainseg.config import ModelConfig
from brainseg.model.losses import Loss
from brainseg.model.network import Network, head_bias, layer_seed


class DeepSupervision:
    """A 1x1 convolution on each level of the decoder but the finest, which gives a mask of that level's size.

    Lee et al. 2015, arXiv:1409.5185. The heads help to train the levels below them; a saved model doesn't have them.
    """

    def __init__(self, network: Network, config: ModelConfig, labels: Labels, *, weight: float, seed: int) -> None:
        """network: made from `config` and `labels`. weight: see `loss`. seed: of the heads' weights."""
        self._weight = weight
        self._labels = labels
        coarse = network.coarse if weight > 0 else ()
        heads = [_head(level, config, labels, seed) for level, _ in enumerate(coarse, start=2)]
        outputs = [head(features) for head, features in zip(heads, coarse, strict=True)]
        # Shares the layers of the network's model, and with them their weights.
        self._model = keras.Model(network.model.input, [*network.model.outputs, *outputs])
        self.trainable_variables = [variable for head in heads for variable in head.trainable_variables]

    def __call__(self, images: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """The model's probabilities in training, and those of the coarser levels, the finest of them first."""
        finest, *coarser = keras.tree.flatten(self._model(images, training=True))
        return finest, coarser

    def loss(self, loss: Loss, mask: tf.Tensor, probabilities: list[tf.Tensor]) -> tf.Tensor:
        """The loss of the coarser levels, which is added to that of the finest: a float32 scalar.

        mask: `targets`, (batch, height, width, outputs). probabilities: of the coarser levels, as a call gives them.
        A level's pixel has a class where any pixel of the mask that it covers has it; of exclusive classes, that of its
        smallest number. The second level's `loss` counts
        `weight` times, each coarser one's half of that of the level above.
        """
        losses = [
            self._weight * 0.5**step * loss(_shrunk(mask, probability, self._labels), probability)
            for step, probability in enumerate(probabilities)
        ]
        return tf.add_n(losses) if losses else tf.constant(0.0)


def _head(level: int, config: ModelConfig, labels: Labels, seed: int) -> keras.layers.Layer:
    name = f"decoder{level}_head"
    return keras.layers.Conv2D(
        labels.outputs,
        1,
        activation=labels.activation,
        dtype="float32",  # as the head of the finest level
        kernel_initializer=keras.initializers.GlorotUniform(seed=layer_seed(seed, name)),
        bias_initializer=head_bias(config, labels),
        name=name,
    )


def _shrunk(mask: tf.Tensor, like: tf.Tensor, labels: Labels) -> tf.Tensor:
    factor = mask.shape[1] // like.shape[1]
    pooled = tf.nn.max_pool2d(mask, factor, factor, "VALID")  # a pixel stays ignored (-1) if all of it is
    if not labels.exclusive:
        return pooled
    # A pixel has one class: the first of those it has, the background last.
    classes, background = pooled[..., labels.first_class :], pooled[..., : labels.first_class]
    first = classes * tf.cast(tf.cumsum(classes, axis=-1, exclusive=True) <= 0, classes.dtype)
    taken = tf.reduce_max(first, axis=-1, keepdims=True)
    return tf.concat([tf.where(taken > 0, 0.0, background), first], axis=-1)
