"""The running mean of the weights, against values worked out by hand and through a training."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny_run import TIMINGS, TINY

from brainseg.config import from_flat
from brainseg.tracking import MemoryTracker
from brainseg.train.average import WeightAverage
from brainseg.train.experiment import run


@pytest.fixture
def model():
    inputs = keras.Input((2,))
    built = keras.Model(inputs, keras.layers.Dense(1, use_bias=False)(inputs))
    built.set_weights([np.array([[0.0], [8.0]], np.float32)])
    return built


def weights(model):
    return model.get_weights()[0].ravel().tolist()


def test_the_mean_follows_the_weights_slowly(model):
    average = WeightAverage(model, decay=0.5)
    model.set_weights([np.array([[10.0], [8.0]], np.float32)])
    average.update(tf.constant(0))  # keeps a tenth: 0.1 * 0 + 0.9 * 10
    model.set_weights([np.array([[0.0], [8.0]], np.float32)])
    average.update(tf.constant(100))  # keeps half, as 101/110 is more
    with average.applied():
        assert weights(model) == pytest.approx([4.5, 8.0])
    assert weights(model) == [0.0, 8.0]


def test_the_weights_come_back_after_an_exception(model):
    average = WeightAverage(model, decay=0.9)
    model.set_weights([np.array([[10.0], [8.0]], np.float32)])

    def fail_inside():
        with average.applied():
            assert weights(model) == [0.0, 8.0]
            raise ArithmeticError

    with pytest.raises(ArithmeticError):
        fail_inside()
    assert weights(model) == [10.0, 8.0]


def test_without_a_decay_there_is_nothing_to_keep(model):
    average = WeightAverage(model, decay=0.0)
    average.update(tf.constant(0))
    with average.applied():
        assert weights(model) == [0.0, 8.0]
    assert list(average.variables) == []


def test_random_states_are_not_averaged():
    inputs = keras.Input((2,))
    model = keras.Model(inputs, keras.layers.Dropout(0.5, seed=1)(keras.layers.Dense(1)(inputs)))
    assert len(WeightAverage(model, decay=0.9).variables) == 2  # kernel and bias


@pytest.mark.heavy
@pytest.mark.usefixtures("unrendered")
def test_a_training_validates_the_mean_and_trains_on_from_the_weights(tmp_path):
    def history(decay):
        config = from_flat(TINY | {"model.depth": 1, "train.ema_decay": decay, "tracking.root": str(tmp_path)})
        metrics = run(config, MemoryTracker(run_id=f"decay-{decay}")).history
        return [{key: value for key, value in epoch.items() if key not in TIMINGS} for epoch in metrics]

    plain, averaged = history(0.0), history(0.9)
    for one, other in zip(plain, averaged, strict=True):
        assert one["train_loss"] == other["train_loss"]
        assert one["val_loss"] != other["val_loss"]
