"""Deep supervision: the coarser levels of the decoder are trained on the mask as well."""

import keras
import tensorflow as tf

from brainseg.config import MASK_CHANNELS, ModelConfig
from brainseg.model.losses import Loss
from brainseg.model.network import Network, foreground_bias, layer_seed


class DeepSupervision:
    """A 1x1 convolution on each level of the decoder but the finest, which gives a mask of that level's size.

    Lee et al. 2015, arXiv:1409.5185. The heads help to train the levels below them; a saved model doesn't have them.
    """

    def __init__(self, network: Network, config: ModelConfig, *, weight: float, seed: int) -> None:
        """network: made from `config`. weight: see `loss`. seed: of the heads' weights."""
        self._weight = weight
        coarse = network.coarse if weight > 0 else ()
        heads = [_head(level, config, seed) for level, _ in enumerate(coarse, start=2)]
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

        mask: {0, 1}, (batch, height, width, channels). probabilities: of the coarser levels, as a call gives them.
        A level's pixel is tumour where any pixel of the mask that it covers is. The second level's `loss` counts
        `weight` times, each coarser one's half of that of the level above.
        """
        losses = [
            self._weight * 0.5**step * loss(_shrunk(mask, probability), probability)
            for step, probability in enumerate(probabilities)
        ]
        return tf.add_n(losses) if losses else tf.constant(0.0)


def _head(level: int, config: ModelConfig, seed: int) -> keras.layers.Layer:
    name = f"decoder{level}_head"
    return keras.layers.Conv2D(
        MASK_CHANNELS,
        1,
        activation="sigmoid",
        dtype="float32",  # as the head of the finest level
        kernel_initializer=keras.initializers.GlorotUniform(seed=layer_seed(seed, name)),
        bias_initializer=keras.initializers.Constant(foreground_bias(config)),
        name=name,
    )


def _shrunk(mask: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
    factor = mask.shape[1] // like.shape[1]
    return tf.nn.max_pool2d(mask, factor, factor, "VALID")
