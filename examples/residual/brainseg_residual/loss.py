"""The logarithm of Dice, which a small mask moves as far as a large one."""

from dataclasses import dataclass

from brainseg.plugins import key


@dataclass(frozen=True, kw_only=True)
class LogDice:
    """(-log Dice)**gamma over the batch: Wong et al. 2018, arXiv:1809.00076."""

    log_gamma: float = key(0.3, low=0.1, high=3.0, help="below 1: what is nearly right still counts")

    def __call__(self, mask, probability):
        """A scalar from float32 of shape (batch, height, width, outputs)."""
        import tensorflow as tf

        shared, both = tf.reduce_sum(mask * probability), tf.reduce_sum(mask) + tf.reduce_sum(probability)
        return tf.maximum(-tf.math.log((2 * shared + 1) / (both + 1)), 1e-6) ** self.log_gamma
