"""Optimizers by hand-worked steps, and the learning rate by hand-worked values."""

import keras
import numpy as np
import pytest

from brainseg.config import SCHEDULES as SCHEDULE_NAMES
from brainseg.config import OptimizerConfig
from brainseg.errors import ConfigError
from brainseg.train.optimizers import SCHEDULES, build_optimizer, learning_rate_at


def config(name="sgd", **keys):
    values = {"learning_rate": 0.1, "weight_decay": 0.0, "schedule": "constant", "warmup_epochs": 0.0}
    return OptimizerConfig(name=name, **{**values, **keys})


def rates(optimizer_config, *, steps_per_epoch, epochs, steps=None):
    count = steps_per_epoch * epochs if steps is None else steps
    return [
        learning_rate_at(optimizer_config, step=step, steps_per_epoch=steps_per_epoch, epochs=epochs)
        for step in range(count)
    ]


def test_every_configurable_schedule_is_in_its_table():
    assert tuple(SCHEDULES) == SCHEDULE_NAMES


def test_an_unknown_optimizer_lists_the_known_ones():
    unknown = config()
    object.__setattr__(unknown, "name", "adem")
    with pytest.raises(ConfigError, match=r"must be one of adam, adamw, sgd, got 'adem'"):
        build_optimizer(unknown)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("adam", keras.optimizers.Adam), ("adamw", keras.optimizers.AdamW), ("sgd", keras.optimizers.SGD)],
)
def test_a_name_gives_its_optimizer_at_the_configured_rate(name, kind):
    optimizer = build_optimizer(config(name, learning_rate=0.25))
    assert type(optimizer) is kind
    assert float(optimizer.learning_rate) == 0.25


def test_sgd_moves_by_the_rate_times_a_momentum_of_nine_tenths():
    weight = keras.Variable(np.array([1.0], np.float32), name="kernel")
    optimizer = build_optimizer(config("sgd", learning_rate=0.1))
    optimizer.apply([np.array([1.0], np.float32)], [weight])
    assert weight.numpy() == pytest.approx([0.9])
    optimizer.apply([np.array([1.0], np.float32)], [weight])
    assert weight.numpy() == pytest.approx([0.9 - 0.1 * (1.0 + 0.9)])


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_the_first_step_of_adam_is_the_rate_whatever_the_gradient(name):
    weight = keras.Variable(np.array([1.0, 1.0], np.float32), name="kernel")
    build_optimizer(config(name, learning_rate=0.01)).apply([np.array([5.0, -0.2], np.float32)], [weight])
    np.testing.assert_allclose(weight.numpy(), [0.99, 1.01], atol=1e-6)


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_weight_decay_takes_kernels_alone(name):
    names = ("kernel", "bias", "gamma", "beta")
    weights = [keras.Variable(np.array([2.0], np.float32), name=name) for name in names]
    optimizer = build_optimizer(config(name, learning_rate=0.1, weight_decay=0.5))
    optimizer.apply([np.zeros(1, np.float32) for _ in weights], weights)
    # No gradient: only rate * decay = 5 % is taken away.
    assert [float(weight.numpy()[0]) for weight in weights] == pytest.approx([1.9, 2.0, 2.0, 2.0])


def test_a_constant_rate_stays():
    assert rates(config(), steps_per_epoch=2, epochs=2) == [0.1] * 4


def test_the_warmup_rises_by_equal_amounts_and_its_first_step_moves():
    warm = config(warmup_epochs=2.0)
    assert rates(warm, steps_per_epoch=2, epochs=3) == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1, 0.1])


def test_the_warmup_may_end_within_an_epoch():
    assert rates(config(warmup_epochs=0.5), steps_per_epoch=4, epochs=1) == pytest.approx([0.05, 0.1, 0.1, 0.1])


def test_the_cosine_falls_from_the_full_rate_to_zero_one_step_after_the_last():
    half = 0.5 * (1 + np.cos(np.pi / 4)), 0.5, 0.5 * (1 - np.cos(np.pi / 4))
    expected = [0.1, *(0.1 * share for share in half), 0.0, 0.0]
    assert rates(config(schedule="cosine"), steps_per_epoch=2, epochs=2, steps=6) == pytest.approx(expected)


def test_the_cosine_starts_after_the_warmup():
    warm = config(schedule="cosine", warmup_epochs=1.0)
    assert rates(warm, steps_per_epoch=2, epochs=2) == pytest.approx([0.05, 0.1, 0.1, 0.05])


def test_a_training_that_is_all_warmup_ends_at_the_full_rate():
    warm = config(schedule="cosine", warmup_epochs=2.0)
    assert rates(warm, steps_per_epoch=1, epochs=2, steps=3) == pytest.approx([0.05, 0.1, 0.0])


@pytest.mark.parametrize("schedule", SCHEDULE_NAMES)
@pytest.mark.parametrize("warmup_epochs", [0.0, 0.1, 1.0, 3.0])
def test_no_step_of_a_training_stands_still_or_exceeds_the_configured_rate(schedule, warmup_epochs):
    values = rates(config(schedule=schedule, warmup_epochs=warmup_epochs), steps_per_epoch=7, epochs=3)
    assert 0.0 < min(values) <= max(values) <= 0.1
