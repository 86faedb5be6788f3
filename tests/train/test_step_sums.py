"""Loss and Dice of an epoch, summed on the device."""

import pytest
import tensorflow as tf

from brainseg.errors import NonFiniteError
from brainseg.train.step_sums import StepSums


def added(*steps, begun=0, loss_sum=0.0, dice_sum=0.0):
    """The sums after these pairs of loss and Dice."""
    sums = StepSums()
    sums.begin(steps=begun, loss_sum=loss_sum, dice_sum=dice_sum)
    add = tf.function(sums.add, autograph=False)
    for loss, dice in steps:
        add(tf.constant(loss), tf.constant(dice))
    return sums


def test_steps_add_up_in_float64_to_the_bits_of_pythons_floats():
    losses = [0.1, 0.7, 1e-9, 0.3]  # 1e-9 would be lost in a float32 sum
    singles = [float(tf.constant(loss)) for loss in losses]
    loss_sum, dice_sum = added(*((loss, 0.25) for loss in losses), begun=2, loss_sum=1.5, dice_sum=0.5).read(epoch=1)
    assert loss_sum == 1.5 + singles[0] + singles[1] + singles[2] + singles[3]
    assert dice_sum == 1.5


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([(0.5, 0.5), (float("inf"), 0.5), (float("nan"), 0.5)], "train_loss is inf in epoch 3, step 12"),
        ([(0.5, float("nan"))], "train_dice is nan in epoch 3, step 11"),
    ],
)
def test_the_first_step_that_is_not_finite_is_named_however_late_it_is_read(steps, message):
    with pytest.raises(NonFiniteError, match=message):
        added(*steps, begun=10).read(epoch=3)


def test_an_epoch_begins_without_the_last_ones_failure():
    sums = added((float("nan"), 0.5))
    sums.begin(steps=0, loss_sum=0.0, dice_sum=0.0)
    assert sums.read(epoch=2) == (0.0, 0.0)
