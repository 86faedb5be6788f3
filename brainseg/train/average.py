"""The running mean of a model's weights, which scores better and more steadily than the weights of a single step."""

import contextlib
from collections.abc import Iterator, Sequence

import keras
import tensorflow as tf


class WeightAverage:
    """An exponential moving average of weights and normalisation statistics (Tarvainen and Valpola 2017,
    arXiv:1703.01780).

    The first steps count for less than `decay` would let them: step n (from 0) keeps min(decay, (1 + n) / (10 + n))
    of the mean, as `tf.train.ExponentialMovingAverage` does.
    """

    def __init__(self, model: keras.Model, *, decay: float) -> None:
        """decay: how much of the mean a step keeps, in [0, 1); 0: there is no mean, and the weights stand for it."""
        self._decay = decay
        averaged = [variable for variable in model.variables if "float" in variable.dtype] if decay else []
        self._weights: Sequence[keras.Variable] = averaged
        self.variables: Sequence[keras.Variable] = [
            keras.Variable(weight, trainable=False, name=f"{weight.name}_mean") for weight in averaged
        ]

    def update(self, step: tf.Tensor) -> None:
        """Takes the weights after this step, counted from 0, into the mean."""
        if not self.variables:
            return
        step = tf.cast(step, tf.float32)
        change = 1.0 - tf.minimum(self._decay, (1.0 + step) / (10.0 + step))
        for mean, weight in zip(self.variables, self._weights, strict=True):
            mean.value.assign_add(change * (weight.value - mean.value))

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the model has the mean in place of its weights."""
        own = [tf.identity(weight.value) for weight in self._weights]
        try:
            for weight, mean in zip(self._weights, self.variables, strict=True):
                weight.assign(mean)
            yield
        finally:
            for weight, value in zip(self._weights, own, strict=True):
                weight.assign(value)
