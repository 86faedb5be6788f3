"""Dropout from few random bits: what it drops, and that it repeats."""

import keras
import numpy as np
import pytest

from brainseg.model.fast_dropout import FastDropout

ONES = np.ones((4, 32, 32, 8), np.float32)


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("rate", [0.1, 0.25, 0.5])
def test_the_rate_is_dropped_and_the_rest_scaled_up(rate, dtype):
    layer = FastDropout(rate, seed=1, dtype=keras.DTypePolicy(dtype))
    dropped = np.asarray(keras.ops.cast(layer(ONES, training=True), "float32"))
    kept = dropped[dropped != 0]
    # 32,768 draws: five standard deviations of the share that is dropped.
    assert np.mean(dropped == 0) == pytest.approx(rate, abs=5 * np.sqrt(rate * (1 - rate) / ONES.size))
    np.testing.assert_allclose(kept, 1 / (1 - rate), rtol=1e-3 if dtype == "float32" else 8e-3)


@pytest.mark.heavy
def test_over_many_calls_the_rate_is_met_between_the_levels():
    # 0.1 lies between 25/256 and 26/256: the level is drawn for each call.
    layer = FastDropout(0.1, seed=1)
    shares = [np.mean(np.asarray(layer(ONES, training=True)) == 0) for _ in range(400)]
    assert np.mean(shares) == pytest.approx(0.1, abs=5e-4)  # 13 million draws: five standard deviations


def test_nothing_is_dropped_in_inference_or_at_rate_0():
    np.testing.assert_array_equal(FastDropout(0.5, seed=1)(ONES, training=False), ONES)
    np.testing.assert_array_equal(FastDropout(0.0, seed=1)(ONES, training=True), ONES)


def test_an_odd_number_of_activations_keeps_its_shape():
    assert FastDropout(0.5, seed=1)(np.ones((1, 3, 3, 1), np.float32), training=True).shape == (1, 3, 3, 1)


def test_each_call_draws_anew_and_a_seed_repeats_the_stream():
    first, second = (np.asarray(FastDropout(0.5, seed=7)(ONES, training=True)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    layer = FastDropout(0.5, seed=7)
    calls = [np.asarray(layer(ONES, training=True)) for _ in range(2)]
    assert not np.array_equal(calls[0], calls[1])
    other = np.asarray(FastDropout(0.5, seed=8)(ONES, training=True))
    assert not np.array_equal(first, other)


def test_neighbouring_activations_are_dropped_independently():
    dropped = np.asarray(FastDropout(0.5, seed=3)(np.ones((1, 2**16), np.float32), training=True)).ravel() == 0
    both = np.mean(dropped[:-1] & dropped[1:])
    assert both == pytest.approx(0.25, abs=0.01)  # two activations share a random word


def test_its_random_state_is_among_the_variables():
    layer = FastDropout(0.5, seed=7)
    layer(ONES, training=True)
    (state,) = layer.variables
    kept = np.array(state)
    next_one = np.asarray(layer(ONES, training=True))
    state.assign(kept)
    np.testing.assert_array_equal(np.asarray(layer(ONES, training=True)), next_one)


def test_the_gradient_passes_where_activations_are_kept():
    import tensorflow as tf

    inputs = tf.constant(ONES)
    layer = FastDropout(0.25, seed=5)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = layer(inputs, training=True)
    np.testing.assert_allclose(tape.gradient(outputs, inputs), outputs, rtol=1e-6)  # of ones, both are the mask
