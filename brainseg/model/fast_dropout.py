"""Dropout from 16 random bits an activation; Keras draws a 32-bit float for each, a fifth of a training step."""

from typing import Any

import keras
import tensorflow as tf

_LEVELS = 2**16


@keras.saving.register_keras_serializable(package="brainseg")
class FastDropout(keras.layers.Layer):  # type: ignore[misc]  # keras ships no types
    """What `keras.layers.Dropout` does: sets a fraction of the activations to zero and scales the others up.

    The fraction is `rate` rounded to a multiple of 2**-16. The random state is a Keras `SeedGenerator`, so
    that it is among the model's variables, as the stock layer's is. Input and output have one shape.
    """

    def __init__(self, rate: float, *, seed: int, **options: Any) -> None:
        """rate: fraction set to zero, in [0, 1). seed: of the layer's own stream of random numbers."""
        super().__init__(**options)
        self.rate = rate
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Drops activations if training, else gives the inputs back."""
        dropped = round(self.rate * _LEVELS)
        if not training or dropped == 0:
            return inputs
        shape = tf.shape(inputs)
        size = tf.reduce_prod(shape)
        words = tf.random.stateless_uniform(
            [(size + 1) // 2], tf.cast(self.seed_generator.next(), tf.int32), None, None, tf.uint32, alg="philox"
        )
        bits = tf.reshape(tf.reshape(tf.bitcast(words, tf.uint16), [-1])[:size], shape)
        scale = tf.constant(_LEVELS / (_LEVELS - dropped), inputs.dtype)
        # Scalars to choose from: a pass over the activations fewer than a cast and a product.
        return inputs * tf.where(bits >= tf.constant(dropped, tf.uint16), scale, tf.zeros_like(scale))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """The input's shape."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}
