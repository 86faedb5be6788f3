"""Losses and soft Dice against values worked out by hand and against hard Dice."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from brainseg.config import LOSSES as LOSS_NAMES
from brainseg.errors import ConfigError
from brainseg.model.losses import LOSSES, bce_dice_image_loss, bce_dice_loss, dice_coefficient, dice_loss, loss_of
from brainseg.scoring.overlap import hard_dice


def mask(*pixels, size=4):
    """A boolean mask of size x size with these flat pixels set."""
    values = np.zeros(size * size, bool)
    values[list(pixels)] = True
    return values.reshape(size, size)


def batch(*masks):
    return np.stack(masks)[..., np.newaxis].astype(np.float32)


EMPTY = mask()
FIRST = mask(0, 1, 2, 3)
SECOND = mask(2, 3, 4, 5)  # 4 pixels, of which 2 are FIRST's
APART = mask(8, 9)


@pytest.mark.parametrize("predicted", [SECOND, FIRST, APART])
def test_the_dice_coefficient_without_smoothing_is_hard_dice_on_one_mask(predicted):
    soft = dice_coefficient(batch(FIRST), batch(predicted), smooth=0.0)
    assert float(soft) == pytest.approx(hard_dice(FIRST, predicted))


def test_the_dice_coefficient_smooths_both_sides_of_the_fraction():
    # FIRST and SECOND: (2 * 2 + 1) / (4 + 4 + 1).
    assert float(dice_coefficient(batch(FIRST), batch(SECOND))) == pytest.approx(5 / 9)


def test_dice_coefficient_counts_the_pixels_of_the_whole_batch():
    # Shared: 2 and 4 of 4 + 4 and 4 + 4: (2 * 6 + 1) / (16 + 1), and not the mean of 5/9 and 1.
    value = dice_coefficient(batch(FIRST, FIRST), batch(SECOND, FIRST))
    assert value.shape == ()
    assert float(value) == pytest.approx(13 / 17)


def test_dice_coefficient_of_probabilities_is_the_sum_form():
    # 4 mask pixels at 0.5 and nothing else: (2 * 2 + 1) / (4 + 2 + 1).
    assert float(dice_coefficient(batch(FIRST), 0.5 * batch(FIRST))) == pytest.approx(5 / 7)


def test_two_empty_masks_have_no_dice_loss():
    assert float(dice_loss(batch(EMPTY), batch(EMPTY))) == 0.0


def test_dice_is_summed_in_float32_whatever_the_inputs_are():
    ones = tf.ones((1, 64, 64, 1), tf.bfloat16)  # 4096 pixels: bfloat16 stops counting at 256
    value = dice_coefficient(ones, 0.5 * ones)
    assert value.dtype == tf.float32
    assert float(value) == pytest.approx((2 * 2048 + 1) / (4096 + 2048 + 1))


def test_bce_dice_is_the_mean_entropy_plus_the_dice_loss():
    probability = np.full((1, 4, 4, 1), 0.25, np.float32)
    entropy = -(4 * np.log(0.25) + 12 * np.log(0.75)) / 16
    dice = (2 * 4 * 0.25 + 1) / (4 + 16 * 0.25 + 1)
    assert float(bce_dice_loss(batch(FIRST), probability)) == pytest.approx(entropy + 1 - dice, rel=1e-6)


@pytest.mark.parametrize("loss", [dice_loss, bce_dice_loss])
@pytest.mark.parametrize("truth", [EMPTY, FIRST])
@pytest.mark.parametrize("certain", [EMPTY, SECOND])
def test_losses_and_their_gradients_are_finite_for_certain_probabilities(loss, truth, certain):
    probability = tf.constant(batch(certain))
    with tf.GradientTape() as tape:
        tape.watch(probability)
        value = loss(batch(truth), probability)
    assert np.isfinite(value)
    assert np.isfinite(tape.gradient(value, probability)).all()


@pytest.mark.parametrize("compiled", [False, True])
def test_a_pixel_that_is_wrong_with_certainty_keeps_the_gradient_of_its_entropy(compiled):
    head = keras.layers.Conv2D(1, 1, activation="sigmoid", kernel_initializer="ones")
    wrong = tf.fill((1, 4, 4, 1), -200.0)  # the sigmoid of it is 0 in float32

    def gradient():
        with tf.GradientTape() as tape:
            tape.watch(wrong)
            value = bce_dice_loss(tf.ones((1, 4, 4, 1)), head(wrong))
        return tape.gradient(value, wrong)

    head.build(wrong.shape)
    # d(mean entropy)/d(logit) = (0 - 1) / 16 pixels; the dice term has none left.
    np.testing.assert_allclose((tf.function(gradient) if compiled else gradient)(), -1 / 16)


def test_every_configurable_loss_is_in_the_table():
    assert tuple(LOSSES) == LOSS_NAMES
    assert loss_of("dice") is dice_loss


def test_an_unknown_loss_lists_the_known_ones():
    with pytest.raises(
        ConfigError, match=r"train.loss must be one of dice, bce_dice, bce_dice_image, got 'dise'; did you mean 'dice'"
    ):
        loss_of("dise")


def test_the_dice_of_each_image_by_hand():
    masks, predictions = batch(FIRST, FIRST, EMPTY), batch(SECOND, APART, EMPTY)
    # (2 * shared + 1) / (sum of both + 1): 5/9, 1/7 and 1/1.
    each = dice_coefficient(masks, predictions, each_image=True)
    np.testing.assert_allclose(each, [5 / 9, 1 / 7, 1.0], rtol=1e-6)


def test_the_loss_of_each_image_is_cross_entropy_and_the_mean_of_their_dice_losses():
    masks = batch(FIRST, APART)
    probabilities = np.full_like(masks, 0.25)
    # Of 16 pixels, 4 and 2 are tumour. Dice: (2 * 1 + 1) / (4 + 4 + 1) and (2 * 0.5 + 1) / (2 + 4 + 1).
    entropy = -(6 * np.log(0.25) + 26 * np.log(0.75)) / 32
    expected = entropy + 1 - (3 / 9 + 2 / 7) / 2
    assert float(bce_dice_image_loss(masks, probabilities)) == pytest.approx(expected, rel=1e-6)
