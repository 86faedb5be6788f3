"""Optimizers by hand-worked steps, and the learning rate by hand-worked values."""

import keras
import numpy as np
import pytest

from brainseg.config import SCHEDULES as SCHEDULE_NAMES
from brainseg.config import OptimizerConfig
from brainseg.errors import ConfigError
from brainseg.plugins import BUILT_IN, made
from brainseg.train.optimizers import SCHEDULES, build_optimizer, learning_rate_at, moving_at


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
    with pytest.raises(ConfigError, match=r"must be one of adam, .*, muon, got 'adem'; did you mean 'adam'"):
        build_optimizer(unknown)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("adam", keras.optimizers.Adam),
        ("adamw", keras.optimizers.AdamW),
        ("sgd", keras.optimizers.SGD),
        ("nadam", keras.optimizers.Nadam),
        ("rmsprop", keras.optimizers.RMSprop),
        ("lion", keras.optimizers.Lion),
        ("lamb", keras.optimizers.Lamb),
        ("adafactor", keras.optimizers.Adafactor),
        ("muon", keras.optimizers.Muon),
    ],
)
def test_a_name_gives_its_optimizer_at_the_configured_rate(name, kind):
    optimizer = build_optimizer(config(name, learning_rate=0.25))
    assert isinstance(optimizer, kind)
    assert float(optimizer.learning_rate) == 0.25


def test_a_run_without_options_is_moved_as_by_kerass_own_defaults():
    for name, kind, own in (
        ("adam", keras.optimizers.Adam, {}),
        ("adamw", keras.optimizers.AdamW, {}),
        ("sgd", keras.optimizers.SGD, {"momentum": 0.9}),  # of every run so far
    ):
        ours, theirs = build_optimizer(config(name)).get_config(), kind(0.1, weight_decay=0.0, **own).get_config()
        assert {**ours, "name": "", "weight_decay": 0.0} == {**theirs, "name": ""}


def test_the_options_of_an_optimizer_reach_it():
    sgd = made("optimizers", "sgd", {"momentum": 0.0}).build(learning_rate=0.1, weight_decay=0.0)
    weight = keras.Variable(np.array([1.0], np.float32), name="kernel")
    for _ in range(2):
        sgd.apply([np.array([1.0], np.float32)], [weight])
    assert weight.numpy() == pytest.approx([0.8])
    muon = made("optimizers", "muon", {"adam_beta_1": 0.5, "ns_steps": 3}).build(learning_rate=0.1, weight_decay=0.5)
    assert (muon.adam_beta_1, muon.ns_steps, muon.weight_decay, muon.adam_weight_decay) == (0.5, 3, 0.5, 0.5)


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


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("nadam", 0.01 * 1.062788),  # 0.48528 * 0.1 / (1 - 0.468 * 0.48528) + 1, by the first two momenta
        ("rmsprop", 0.01 / 0.1**0.5),  # a tenth of the square is in the mean
        ("lion", 0.01),
        ("lamb", 0.01 * 5.0 / 2.0**0.5),  # the size of the weights over that of (1, -1)
        ("adafactor", 0.01 * 12.5**0.5),  # their root mean square
        ("muon", 0.01),  # no matrix: as Adam
    ],
)
def test_the_first_step_of_the_others_is_this(name, step):
    weight = keras.Variable(np.array([3.0, 4.0], np.float32), name="kernel")
    build_optimizer(config(name, learning_rate=0.01)).apply([np.array([5.0, -0.2], np.float32)], [weight])
    np.testing.assert_allclose(weight.numpy(), [3.0 - step, 4.0 + step], atol=2e-6)


def convolution(name):
    """The kernel of a built layer, 3x3 pixels of 4 channels to 8."""
    layer = keras.layers.Conv2D(8, 3, name=name)
    layer.build((None, 5, 5, 4))
    layer.kernel.assign(np.zeros((3, 3, 4, 8), np.float32))
    return layer.kernel


def test_muon_moves_a_convolution_in_all_directions_alike_and_the_head_as_adam_does():
    generator = np.random.default_rng(0)
    # Eight directions, of which the gradient has the last a hundred times as much as the first.
    left, right = (np.linalg.qr(generator.normal(size=(size, 8)))[0] for size in (36, 8))
    gradient = (left * np.geomspace(1.0, 100.0, 8) @ right.T).reshape(3, 3, 4, 8).astype(np.float32)
    body, head = convolution("body"), convolution("head")
    build_optimizer(config("muon", learning_rate=0.01)).apply([gradient, gradient], [body, head])
    found = np.linalg.svd(np.asarray(body).reshape(36, 8), compute_uv=False) / (0.01 * 0.2 * 36**0.5)
    assert 0.6 < found.min() < found.max() < 1.3
    np.testing.assert_allclose(np.abs(np.asarray(head)), 0.01, rtol=1e-3)


@pytest.mark.parametrize("name", BUILT_IN["optimizers"])
def test_all_that_an_optimizer_remembers_is_among_its_variables(name):
    generator = np.random.default_rng(0)
    weights = [
        keras.Variable(generator.normal(size=shape).astype(np.float32), name="kernel") for shape in ((3, 3, 4, 8), (8,))
    ]
    steps = [[generator.normal(size=weight.shape).astype(np.float32) for weight in weights] for _ in range(4)]
    optimizer = build_optimizer(config(name, learning_rate=0.01, weight_decay=0.0 if name == "adam" else 0.01))
    optimizer.build(weights)
    everything, kept, ends = [*weights, *optimizer.variables], [], []
    for step in (*steps, *steps[2:]):
        if optimizer.iterations == 2:
            kept = kept or [np.array(variable) for variable in everything]
        optimizer.apply(step, weights)
        if optimizer.iterations == 4:
            ends.append([np.array(variable) for variable in everything])
            for variable, value in zip(everything, kept, strict=True):
                variable.assign(value)
    for array, expected in zip(*ends, strict=True):
        np.testing.assert_array_equal(array, expected, strict=True)


@pytest.mark.parametrize("name", BUILT_IN["optimizers"])
def test_what_moves_at_a_tenth_makes_a_tenth_of_every_optimizers_step(name):
    def moved(rate):
        weight = keras.Variable(np.full((2, 3), 2.0, np.float32), name="kernel")
        gradient = np.array([[1.0, -2.0, 3.0], [0.5, 0.1, -1.0]], np.float32)
        optimizer = build_optimizer(config(name, learning_rate=0.01, weight_decay=0.0 if name == "adam" else 0.5))
        with moving_at(rate, [weight]):
            optimizer.apply([gradient], [weight])
        return weight.numpy() - 2.0

    np.testing.assert_allclose(moved(0.1), 0.1 * moved(1.0), atol=1e-6)
    assert np.abs(moved(1.0)).max() > 5e-3


@pytest.mark.parametrize("name", [name for name in BUILT_IN["optimizers"] if name != "adam"])
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
