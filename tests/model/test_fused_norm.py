"""The fused normalisation against Keras' own."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from brainseg.model.fused_norm import FusedBatchNormalization

SHAPE = (4, 6, 5, 3)


def images(seed, shape=SHAPE):
    return np.random.default_rng(seed).normal(2.0, 3.0, shape).astype(np.float32)


def pair(dtype="float32"):
    """A fused and a stock layer with the same, not trivial, weights."""
    fused = FusedBatchNormalization(dtype=dtype)
    stock = keras.layers.BatchNormalization(momentum=0.9, dtype=dtype)
    values = np.random.default_rng(0).uniform(0.5, 1.5, (4, SHAPE[-1])).astype(np.float32)
    for layer in (fused, stock):
        layer.build(SHAPE)
        layer.set_weights(list(values))
    return fused, stock


def test_variables_have_the_names_and_the_order_of_the_stock_layer():
    fused, stock = pair()
    assert [v.name for v in fused.weights] == [v.name for v in stock.weights]
    assert [v.name for v in fused.trainable_weights] == [v.name for v in stock.trainable_weights]


def test_outputs_and_moving_statistics_equal_the_stock_layer_in_training():
    fused, stock = pair()
    for step in range(3):
        x = images(step)
        np.testing.assert_allclose(fused(x, training=True), stock(x, training=True), rtol=1e-5, atol=1e-5)
        for ours, theirs in zip(fused.weights, stock.weights, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, err_msg=ours.name)


def test_moving_variance_is_that_of_the_population():
    fused = FusedBatchNormalization(momentum=0.0)
    fused(np.array([1.0, 3.0], np.float32).reshape(2, 1, 1, 1), training=True)
    assert fused.moving_mean.numpy() == pytest.approx([2.0])
    assert fused.moving_variance.numpy() == pytest.approx([1.0])  # divided by n - 1 it would be 2


def test_a_single_value_has_no_variance():
    fused = FusedBatchNormalization(momentum=0.0)
    assert fused(np.full((1, 1, 1, 1), 7.0, np.float32), training=True).numpy().item() == pytest.approx(0.0, abs=1e-4)
    assert fused.moving_variance.numpy() == pytest.approx([0.0])


def test_outputs_equal_the_stock_layer_in_inference_and_nothing_moves():
    fused, stock = pair()
    before = fused.get_weights()
    np.testing.assert_allclose(fused(images(9), training=False), stock(images(9), training=False), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(before, fused.get_weights())


def test_gradients_equal_the_stock_layer():
    x, target = tf.constant(images(1)), tf.constant(images(2))

    def gradients(layer):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_mean(layer(x, training=True) * target)
        return tape.gradient(loss, [x, *[v.value for v in layer.trainable_weights]])

    fused, stock = pair()
    for ours, theirs in zip(gradients(fused), gradients(stock), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_bfloat16_activations_keep_float32_statistics(training):
    fused, stock = pair("mixed_bfloat16")
    ours, theirs = fused(images(1), training=training), stock(images(1), training=training)
    assert ours.dtype == tf.bfloat16
    assert {v.dtype for v in fused.weights} == {"float32"}
    np.testing.assert_allclose(tf.cast(ours, tf.float32), tf.cast(theirs, tf.float32), rtol=0.02, atol=0.02)
    np.testing.assert_allclose(fused.moving_mean, stock.moving_mean, rtol=1e-3)


def test_the_configuration_rebuilds_the_layer():
    layer = FusedBatchNormalization(momentum=0.7, epsilon=0.01, name="norm")
    again = FusedBatchNormalization.from_config(layer.get_config())
    assert (again.momentum, again.epsilon, again.name) == (0.7, 0.01, "norm")
