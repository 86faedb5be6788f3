"""Deep supervision: its loss worked out by hand, what it trains, and that a saved model has none of it."""

import numpy as np
import pytest
import tensorflow as tf
from tiny_run import TINY

from brainseg.classes import BINARY, Labels
from brainseg.config import ModelConfig, TrainConfig, from_flat
from brainseg.model.losses import loss_of
from brainseg.model.models import build_network
from brainseg.tracking import MemoryTracker
from brainseg.train.deep_supervision import DeepSupervision
from brainseg.train.experiment import run

CONFIG = ModelConfig(depth=3, base_filters=2, foreground_prior=0.02)


CLASSES = Labels(names=("core", "rim"), exclusive=True, has_ignored=True)


def supervised(config=CONFIG, weight=0.5, labels=BINARY):
    network = build_network(config, input_shape=(16, 16, 1), labels=labels, seed=0)
    return DeepSupervision(network, config, labels, weight=weight, seed=0)


def test_each_level_but_the_finest_gives_a_mask_of_its_size_that_starts_at_the_foreground_prior():
    deep = supervised()
    images = tf.zeros((2, 16, 16, 1))
    finest, coarser = deep(images)
    assert finest.shape == (2, 16, 16, 1)
    assert [level.shape for level in coarser] == [(2, 8, 8, 1), (2, 4, 4, 1)]
    for level in coarser:  # black slices give features of 0
        np.testing.assert_allclose(level, 0.02, rtol=1e-5)


def test_with_classes_each_level_starts_at_their_shares_of_the_prior():
    _, coarser = supervised(labels=CLASSES)(tf.zeros((1, 16, 16, 1)))
    assert [level.shape for level in coarser] == [(1, 8, 8, 3), (1, 4, 4, 3)]
    for level in coarser:
        np.testing.assert_allclose(level, np.broadcast_to([0.98, 0.01, 0.01], level.shape), rtol=1e-5)


# The four pixels that one pixel of a level covers, by name, and what that one is.
BACKGROUND, CORE, RIM, IGNORED = [1, 0, 0], [0, 1, 0], [0, 0, 1], [-1, -1, -1]
COVERED = [
    ([BACKGROUND, BACKGROUND, BACKGROUND, BACKGROUND], BACKGROUND),
    ([BACKGROUND, RIM, BACKGROUND, BACKGROUND], RIM),
    ([RIM, CORE, RIM, RIM], CORE),
    ([IGNORED, IGNORED, IGNORED, IGNORED], IGNORED),
    ([IGNORED, BACKGROUND, IGNORED, IGNORED], BACKGROUND),
    ([IGNORED, RIM, BACKGROUND, CORE], CORE),
]


@pytest.mark.parametrize("labels", [CLASSES, Labels(names=("a", "b", "c"), exclusive=False, has_ignored=True)])
def test_a_pixel_of_a_level_is_of_one_class_and_ignored_if_all_of_it_is(labels):
    blocks = np.array([block for block, _ in COVERED], np.float32).reshape(len(COVERED), 2, 2, 3)
    mask = blocks.transpose(1, 0, 2, 3).reshape(1, 2, 2 * len(COVERED), 3)
    # Of classes that overlap, each that is there stays.
    every = [np.max(block, axis=0).tolist() for block, _ in COVERED]
    seen = []

    def loss(target, probability):
        seen.append(target.numpy()[0, 0].tolist())
        return tf.reduce_sum(probability)

    supervised(labels=labels).loss(loss, tf.constant(mask), [tf.zeros((1, 1, len(COVERED), 3))])
    assert seen == [[found for _, found in COVERED] if labels.exclusive else every]


@pytest.mark.heavy
def test_with_classes_a_level_that_is_wrong_with_certainty_keeps_its_gradient():
    """In the compiled step, too: the loss goes back to the logits of each head."""
    deep = supervised(labels=CLASSES)
    (bias,) = (variable for variable in deep.trainable_variables if variable.path == "decoder2_head/bias")
    bias.assign([200.0, -200.0, -200.0])
    mask = np.tile(np.array(CORE, np.float32), (1, 16, 16, 1))
    loss = loss_of(TrainConfig(loss="ce"), CLASSES)

    @tf.function
    def gradient():
        with tf.GradientTape() as tape:
            _, coarser = deep(tf.zeros((1, 16, 16, 1)))
            value = deep.loss(loss, mask, coarser[:1])
        return tape.gradient(value, bias.value)

    # 0.5, the weight of the level, times probability - target.
    np.testing.assert_allclose(gradient(), [0.5, -0.5, 0.0], atol=1e-6)


def test_with_a_stem_the_levels_are_that_much_coarser():
    deep = supervised(ModelConfig(depth=2, base_filters=2, stem=4))
    _, coarser = deep(tf.zeros((1, 16, 16, 1)))
    assert [level.shape for level in coarser] == [(1, 2, 2, 1)]


def test_a_level_learns_the_pixels_that_hold_any_tumour_and_counts_half_of_the_one_above():
    deep = supervised()
    mask = np.zeros((1, 16, 16, 1), np.float32)
    mask[0, 5, 6] = 1.0  # one pixel: in row 2, column 3 of 8x8, and in row 1, column 1 of 4x4
    seen = []

    def loss(target, probability):
        seen.append(target.numpy()[0, ..., 0])
        return tf.reduce_sum(probability)

    halves = [tf.fill((1, 8, 8, 1), 1 / 64), tf.fill((1, 4, 4, 1), 3 / 16)]  # sums of 1 and 3
    assert float(deep.loss(loss, tf.constant(mask), halves)) == pytest.approx(0.5 * 1 + 0.25 * 3)
    assert [np.argwhere(target).tolist() for target in seen] == [[[2, 3]], [[1, 1]]]


@pytest.mark.heavy
@pytest.mark.usefixtures("unrendered")
def test_it_trains_the_heads_and_the_saved_model_has_as_many_weights_as_without(tmp_path):
    def trained(weight):
        small = {"train.epochs": 1, "data.augment": "none", "optimizer.name": "sgd", "tracking.predictions": 0}
        own = {"train.deep_supervision": weight, "tracking.root": str(tmp_path)}
        config = from_flat(TINY | small | own)
        return run(config, MemoryTracker(run_id=f"weight-{weight}"))

    without, with_it = trained(0.0), trained(0.25)
    assert with_it.parameters == without.parameters
    # The epoch has one step, whose loss comes before any weight has moved.
    assert with_it.history[0]["train_loss"] == pytest.approx(without.history[0]["train_loss"])
    assert with_it.history[0]["val_loss"] != without.history[0]["val_loss"]


def test_without_a_weight_there_are_no_heads():
    deep = supervised(weight=0.0)
    finest, coarser = deep(tf.zeros((1, 16, 16, 1)))
    assert (finest.shape, coarser, deep.trainable_variables) == ((1, 16, 16, 1), [], [])
    assert float(deep.loss(lambda mask, probability: tf.constant(1.0), tf.zeros((1, 16, 16, 1)), [])) == 0.0
