"""Losses and soft Dice against values worked out by hand and against hard Dice."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from brainseg.classes import BINARY, Labels
from brainseg.config import KEYS, TrainConfig
from brainseg.model.losses import dice_coefficient, loss_of
from brainseg.scoring.overlap import hard_dice


def mask(*pixels, size=4):
    """A boolean mask of size x size with these flat pixels set."""
    values = np.zeros(size * size, bool)
    values[list(pixels)] = True
    return values.reshape(size, size)


def batch(*masks):
    return np.stack(masks)[..., np.newaxis].astype(np.float32)


def loss(name, *, labels=BINARY, **changes):
    return loss_of(TrainConfig(loss=name, **changes), labels)


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
    assert float(loss("dice")(batch(EMPTY), batch(EMPTY))) == 0.0


def test_dice_is_summed_in_float32_whatever_the_inputs_are():
    ones = tf.ones((1, 64, 64, 1), tf.bfloat16)  # 4096 pixels: bfloat16 stops counting at 256
    value = dice_coefficient(ones, 0.5 * ones)
    assert value.dtype == tf.float32
    assert float(value) == pytest.approx((2 * 2048 + 1) / (4096 + 2048 + 1))


def test_bce_dice_is_the_mean_entropy_plus_the_dice_loss():
    probability = np.full((1, 4, 4, 1), 0.25, np.float32)
    entropy = -(4 * np.log(0.25) + 12 * np.log(0.75)) / 16
    dice = (2 * 4 * 0.25 + 1) / (4 + 16 * 0.25 + 1)
    assert float(loss("bce_dice")(batch(FIRST), probability)) == pytest.approx(entropy + 1 - dice, rel=1e-6)


@pytest.mark.parametrize("name", [*KEYS["train.loss"].choices, "dice+focal"])
@pytest.mark.parametrize("truth", [EMPTY, FIRST])
@pytest.mark.parametrize("certain", [EMPTY, SECOND, FIRST])
@pytest.mark.parametrize("labels", [BINARY, Labels(names=("tumour",), exclusive=True)], ids=["sigmoid", "softmax"])
def test_losses_and_their_gradients_are_finite_for_certain_probabilities(name, truth, certain, labels):
    def one_hot(values):
        classes = batch(values)
        return np.concatenate([1.0 - classes, classes], axis=-1) if labels.exclusive else classes

    probability = tf.constant(one_hot(certain))
    with tf.GradientTape() as tape:
        tape.watch(probability)
        value = loss(name, labels=labels, focal_gamma=0.0)(one_hot(truth), probability)
    assert np.isfinite(value)
    assert np.isfinite(tape.gradient(value, probability)).all()


def before(name, masks, probabilities):
    """The losses that version 0.1 had, as it computed them."""
    entropy = tf.reduce_mean(keras.ops.binary_crossentropy(masks, probabilities))
    axes = (1, 2, 3) if name == "bce_dice_image" else None
    shared = tf.reduce_sum(masks * probabilities, axes)
    total = tf.reduce_sum(masks, axes) + tf.reduce_sum(probabilities, axes)
    dice = tf.reduce_mean((2.0 * shared + 1.0) / (total + 1.0))
    return {
        "dice": lambda: 1.0 - dice,
        "bce_dice": lambda: entropy + (1.0 - dice),
        "bce_dice_image": lambda: entropy + 1.0 - dice,
    }[name]()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("name", ["dice", "bce_dice", "bce_dice_image"])
def test_a_binary_mask_has_the_losses_of_version_0_1_bit_by_bit(name, compiled, seed):
    random = np.random.default_rng(seed)
    masks = tf.constant((random.random((16, 48, 48, 1)) > 0.9).astype(np.float32))
    logits = tf.constant(random.standard_normal((16, 48, 48, 1), dtype=np.float32))

    def with_gradient(function):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = function(masks, keras.activations.sigmoid(logits))
        return value, tape.gradient(value, logits)

    functions = loss(name), lambda *pair: before(name, *pair)
    now, then = (tf.function(with_gradient)(each) if compiled else with_gradient(each) for each in functions)
    assert float(now[0]) == float(then[0])
    np.testing.assert_array_equal(now[1], then[1])


def untouched(activation, channels):
    """A head whose logits are its input."""
    identity = keras.initializers.Constant(np.eye(channels)[np.newaxis, np.newaxis])
    head = keras.layers.Conv2D(channels, 1, activation=activation, kernel_initializer=identity)
    head.build((1, 4, 4, channels))
    return head


@pytest.mark.parametrize("name", ["bce_dice", "ce", "focal"])
@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
@pytest.mark.parametrize("compiled", [False, True])
def test_a_pixel_that_is_wrong_with_certainty_keeps_the_gradient_of_its_entropy(name, activation, compiled):
    labels = Labels(names=("tumour",), exclusive=activation == "softmax")
    head = untouched(activation, labels.outputs)
    truth, wrong = np.ones((1, 4, 4, labels.outputs), np.float32), np.full((1, 4, 4, labels.outputs), -200.0)
    truth[..., :-1], wrong[..., :-1] = 0.0, 200.0  # the activation of it is 0 in float32
    wrong = tf.constant(wrong, tf.float32)

    def gradient():
        with tf.GradientTape() as tape:
            tape.watch(wrong)
            value = loss(name, labels=labels)(truth, head(wrong))
        return tape.gradient(value, wrong)

    # d(mean entropy)/d(logit) = (0 - 1) / 16 pixels; the dice term has none left.
    np.testing.assert_allclose((tf.function(gradient) if compiled else gradient)()[..., -1], -1 / 16)


# Three pixels of one image: background, a and b.
CLASSES = Labels(names=("a", "b"), exclusive=True)
TRUTH = np.eye(3, dtype=np.float32)[np.newaxis, np.newaxis]
PROBABILITY = np.array([[[[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.3, 0.2, 0.5]]]], np.float32)
# Dice of a: 2 * 0.7 + 1 of 1 + 1 + 1, and of b: 2 * 0.5 + 1 of 1 + 0.7 + 1.
DICE_LOSSES = (1 - 2.4 / 3, 1 - 2 / 2.7)
# a: 0.7 are shared, 0.3 of false positives and 0.3 of false negatives; b: 0.5, 0.2 and 0.5.
TVERSKY_LOSSES = (
    1 - (0.7 + 0.5) / (0.7 + 0.3 * 0.3 + 0.7 * 0.3 + 0.5),
    1 - (0.5 + 0.5) / (0.5 + 0.3 * 0.2 + 0.7 * 0.5 + 0.5),
)
ENTROPY = -np.log([0.8, 0.7, 0.5])


@pytest.mark.parametrize(
    ("name", "changes", "expected"),
    [
        ("dice", {}, np.mean(DICE_LOSSES)),
        ("dice_image", {}, np.mean(DICE_LOSSES)),
        ("ce", {}, ENTROPY.mean()),
        ("ce", {"class_weights": {"background": 0.5, "a": 3.0}}, np.dot([0.5, 3.0, 1.0], ENTROPY) / 3),
        ("focal", {}, np.dot([0.2**2, 0.3**2, 0.5**2], ENTROPY) / 3),
        (
            "focal",
            {"focal_gamma": 0.5, "class_weights": {"b": 2.0}},
            np.dot([0.2**0.5, 0.3**0.5, 2 * 0.5**0.5], ENTROPY) / 3,
        ),
        ("tversky", {}, np.mean(TVERSKY_LOSSES)),
        ("tversky", {"tversky_alpha": 0.5, "tversky_beta": 0.5}, np.mean(DICE_LOSSES)),
        ("focal_tversky", {}, np.mean(np.array(TVERSKY_LOSSES) ** 0.75)),
        ("focal_tversky", {"focal_tversky_gamma": 2.0}, np.mean(np.sqrt(TVERSKY_LOSSES))),
        ("dice+focal", {"focal_gamma": 0.0}, np.mean(DICE_LOSSES) + ENTROPY.mean()),
        ("bce_dice", {}, np.mean(DICE_LOSSES) + ENTROPY.mean()),
    ],
)
def test_the_losses_of_exclusive_classes_by_hand(name, changes, expected):
    assert float(loss(name, labels=CLASSES, **changes)(TRUTH, PROBABILITY)) == pytest.approx(expected, rel=1e-5)


# Two pixels of one image: the first has a, the second has a and b.
OVERLAPPING = Labels(names=("a", "b"), exclusive=False)
BOTH = np.array([[[[1, 0], [1, 1]]]], np.float32)
EACH = np.array([[[[0.6, 0.3], [0.9, 0.5]]]], np.float32)


@pytest.mark.parametrize(
    ("name", "changes", "expected"),
    [
        # a: 2 * 1.5 + 1 of 2 + 1.5 + 1; b: 2 * 0.5 + 1 of 1 + 0.8 + 1.
        ("dice", {}, 1 - (4 / 4.5 + 2 / 2.8) / 2),
        ("ce", {}, -np.log([0.6, 0.7, 0.9, 0.5]).mean()),
        # Where a pixel lacks a class, the weight is that of the background.
        (
            "ce",
            {"class_weights": {"a": 2.0, "b": 3.0, "background": 0.5}},
            -np.dot([2, 0.5, 2, 3], np.log([0.6, 0.7, 0.9, 0.5])) / 4,
        ),
        ("focal", {}, -np.dot([0.4**2, 0.3**2, 0.1**2, 0.5**2], np.log([0.6, 0.7, 0.9, 0.5])) / 4),
        # a: 1.5 are shared, and 0.5 are missed; b: 0.5, 0.3 too many, and 0.5 are missed.
        ("tversky", {}, 1 - (2.0 / (2.0 + 0.7 * 0.5) + 1.0 / (1.0 + 0.3 * 0.3 + 0.7 * 0.5)) / 2),
    ],
)
def test_the_losses_of_overlapping_classes_by_hand(name, changes, expected):
    assert float(loss(name, labels=OVERLAPPING, **changes)(BOTH, EACH)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", [*KEYS["train.loss"].choices, "dice+focal"])
@pytest.mark.parametrize("exclusive", [True, False])
def test_ignored_pixels_weigh_nothing(name, exclusive):
    """As if the image didn't have them."""
    labels = Labels(names=("a", "b"), exclusive=exclusive, has_ignored=True)
    truth, probability = (TRUTH, PROBABILITY) if exclusive else (BOTH, EACH)
    without = loss(name, labels=labels)(truth, probability)
    ignored = np.full_like(truth[:, :, :2], -1.0)
    wrong = tf.constant(np.eye(truth.shape[-1], dtype=np.float32)[np.newaxis, np.newaxis, :2])
    with tf.GradientTape() as tape:
        tape.watch(wrong)
        value = loss(name, labels=labels)(tf.concat([truth, ignored], axis=2), tf.concat([probability, wrong], axis=2))
    assert float(value) == pytest.approx(float(without), rel=1e-6)
    np.testing.assert_array_equal(tape.gradient(value, wrong), 0.0)
    assert np.isfinite(loss(name, labels=labels)(ignored, wrong))  # nothing else is there


@pytest.mark.parametrize("compiled", [False, True])
def test_a_pixel_from_outside_has_no_class_where_there_is_no_background(compiled):
    labels = Labels(names=("a", "b"), exclusive=True, has_background=False)
    head = untouched("softmax", 2)
    truth = np.array([[[[1, 0], [0, 0]]]], np.float32)
    logits = tf.constant([[[[0.0, 0.0], [1.0, 2.0]]]])

    def gradient():
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = loss("bce_dice", labels=labels)(truth, head(logits))
        return value, tape.gradient(value, logits)

    value, moved = (tf.function(gradient) if compiled else gradient)()
    # Of the first pixel: entropy log(2); Dice of a (2 * 0.5 + 1) / (1 + 0.5 + 1), and of b 1 / (0.5 + 1).
    assert float(value) == pytest.approx(np.log(2) + 1 - (2 / 2.5 + 1 / 1.5) / 2, rel=1e-5)
    np.testing.assert_array_equal(moved[0, 0, 1], 0.0)


def test_the_dice_of_each_image_by_hand():
    masks, predictions = batch(FIRST, FIRST, EMPTY), batch(SECOND, APART, EMPTY)
    # (2 * shared + 1) / (sum of both + 1): 5/9, 1/7 and 1/1.
    each = dice_coefficient(masks, predictions, each_image=True)
    assert float(each) == pytest.approx((5 / 9 + 1 / 7 + 1.0) / 3)


def test_the_loss_of_each_image_is_cross_entropy_and_the_mean_of_their_dice_losses():
    masks = batch(FIRST, APART)
    probabilities = np.full_like(masks, 0.25)
    # Of 16 pixels, 4 and 2 are tumour. Dice: (2 * 1 + 1) / (4 + 4 + 1) and (2 * 0.5 + 1) / (2 + 4 + 1).
    entropy = -(6 * np.log(0.25) + 26 * np.log(0.75)) / 32
    expected = entropy + 1 - (3 / 9 + 2 / 7) / 2
    assert float(loss("bce_dice_image")(masks, probabilities)) == pytest.approx(expected, rel=1e-6)
