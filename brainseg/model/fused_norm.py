"""Batch normalisation on TensorFlow's fused kernel, which Keras 3 doesn't use."""

from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="brainseg")
class FusedBatchNormalization(keras.layers.Layer):  # type: ignore[misc]  # keras ships no types
    """What `keras.layers.BatchNormalization(axis=-1)` computes, in one kernel.

    Activations stay in the compute dtype (bfloat16 under mixed precision), while scale, offset and
    statistics are float32. Variables, their names and their order (gamma, beta, moving_mean,
    moving_variance) are the stock layer's, so that weights can be copied between the two.

    Input and output: (batch, height, width, channels).
    """

    def __init__(self, momentum: float = 0.9, epsilon: float = 1e-3, **options: Any) -> None:
        """momentum: weight of the old moving statistics, in [0, 1]. epsilon: added to the variance."""
        super().__init__(**options)
        self.momentum = momentum
        self.epsilon = epsilon

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Adds a scale, an offset, a mean and a variance for each channel."""
        shape = (input_shape[-1],)
        # autocast=False: the fused kernel takes them in float32 whatever the activations' dtype.
        self.gamma = self.add_weight(name="gamma", shape=shape, initializer="ones", autocast=False)
        self.beta = self.add_weight(name="beta", shape=shape, initializer="zeros", autocast=False)
        self.moving_mean = self.add_weight(
            name="moving_mean", shape=shape, initializer="zeros", trainable=False, autocast=False
        )
        self.moving_variance = self.add_weight(
            name="moving_variance", shape=shape, initializer="ones", trainable=False, autocast=False
        )

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """In training, normalises by the batch's statistics and updates the moving ones; else by the moving ones."""
        if not training:
            outputs, _, _ = tf.compat.v1.nn.fused_batch_norm(
                inputs,
                self.gamma,
                self.beta,
                mean=self.moving_mean,
                variance=self.moving_variance,
                epsilon=self.epsilon,
                is_training=False,
            )
            return outputs
        outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            inputs, self.gamma, self.beta, epsilon=self.epsilon, is_training=True
        )
        # The kernel's variance is divided by n - 1, the stock layer's by n.
        count = tf.cast(tf.reduce_prod(tf.shape(inputs)[:3]), tf.float32)
        variance *= tf.maximum(count - 1.0, 1.0) / count
        self._update(self.moving_mean, mean)
        self._update(self.moving_variance, variance)
        return outputs

    def _update(self, moving: keras.Variable, batch: tf.Tensor) -> None:
        moving.assign(moving * self.momentum + batch * (1.0 - self.momentum))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """The input's shape."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {**super().get_config(), "momentum": self.momentum, "epsilon": self.epsilon}
