"""Sums of loss and Dice over the steps of an epoch, kept on the device, so that no step waits for the host."""

import tensorflow as tf

from brainseg.train.finite import check_finite


class StepSums:
    """Adds in float64 and in the order of the steps: the same bits as adding Python's floats."""

    def __init__(self) -> None:
        self._sums = tf.Variable([0.0, 0.0], dtype=tf.float64, trainable=False)  # of loss and of Dice
        self._steps = tf.Variable(0, dtype=tf.int64, trainable=False)
        # The first step, from 1, whose loss or Dice isn't finite; 0: none. And both values of that step.
        self._bad_step = tf.Variable(0, dtype=tf.int64, trainable=False)
        self._bad_values = tf.Variable([0.0, 0.0], dtype=tf.float64, trainable=False)

    def begin(self, *, steps: int, loss_sum: float, dice_sum: float) -> None:
        """Starts from so many steps of an epoch, with their sums."""
        self._steps.assign(steps)
        self._sums.assign([loss_sum, dice_sum])
        self._bad_step.assign(0)

    def add(self, loss: tf.Tensor, dice: tf.Tensor) -> None:
        """Adds a step, inside its graph. loss, dice: float32 scalars."""
        values = tf.cast(tf.stack([loss, dice]), tf.float64)
        step = self._steps.assign_add(1)
        is_first_bad = tf.logical_and(self._bad_step.value() == 0, ~tf.reduce_all(tf.math.is_finite(values)))
        self._bad_step.assign(tf.where(is_first_bad, step, self._bad_step.value()))
        self._bad_values.assign(tf.where(is_first_bad, values, self._bad_values.value()))
        self._sums.assign_add(values)

    def read(self, *, epoch: int) -> tuple[float, float]:
        """The sums of loss and Dice; waits for the device. Raises NonFiniteError, naming epoch and step."""
        bad_step = int(self._bad_step.numpy())
        if bad_step:
            loss, dice = self._bad_values.numpy().tolist()
            check_finite({"train_loss": loss, "train_dice": dice}, epoch=epoch, step=bad_step)
        loss_sum, dice_sum = self._sums.numpy().tolist()
        return loss_sum, dice_sum
