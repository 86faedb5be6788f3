"""Copies a model into stock Keras layers, so that a saved model loads wherever Keras is installed."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from brainseg.errors import BrainsegError
from brainseg.model.fast_dropout import FastDropout
from brainseg.model.fused_norm import FusedBatchNormalization

# Largest and mean difference of the two models' probabilities that rounding explains. bfloat16 keeps
# 8 bits, and the two layers round at different places.
TOLERANCES = {"float32": (1e-4, 1e-5), "bfloat16": (0.1, 5e-3)}


def to_stock(model: keras.Model) -> keras.Model:
    """A copy of a functional model with Keras' own layer for each of brainseg's (`STOCK`).

    Weights and dtype policy are the model's own. A model without such layers is returned as it is.
    Raises BrainsegError if the copy's outputs on a random batch differ by more than rounding.
    """
    if not any(type(layer) in STOCK for layer in model.layers):
        return model
    stock = keras.models.clone_model(model, clone_function=_stock_layer)
    stock.set_weights(model.get_weights())
    _check_same_outputs(model, stock)
    return stock


def _stock_layer(layer: keras.layers.Layer) -> keras.layers.Layer:
    if type(layer) in STOCK:
        return STOCK[type(layer)](layer)
    return layer.__class__.from_config(layer.get_config())


def _batch_normalization(layer: FusedBatchNormalization) -> keras.layers.Layer:
    return keras.layers.BatchNormalization(
        momentum=layer.momentum, epsilon=layer.epsilon, dtype=layer.dtype_policy, name=layer.name
    )


def _dropout(layer: FastDropout) -> keras.layers.Layer:
    return keras.layers.Dropout(layer.rate, seed=layer.seed, dtype=layer.dtype_policy, name=layer.name)


# A layer of brainseg's -> what makes Keras' own in its place.
STOCK: dict[type, Callable[[Any], keras.layers.Layer]] = {
    FusedBatchNormalization: _batch_normalization,
    FastDropout: _dropout,
}


def _check_same_outputs(model: keras.Model, stock: keras.Model) -> None:
    batch = np.random.default_rng(0).random((2, *model.input_shape[1:]), dtype=np.float32)
    difference = np.abs(np.asarray(model(batch, training=False)) - np.asarray(stock(batch, training=False)))
    largest, mean = TOLERANCES[model.compute_dtype]
    if not (difference.max() <= largest and difference.mean() <= mean):  # NaN ends here as well
        raise BrainsegError(
            f"the model in stock Keras layers must give the probabilities of the trained one within {largest}, "
            f"got a difference of {difference.max():.3g}; please report this as a bug"
        )


def is_float32(model: keras.Model) -> bool:
    """Whether all of the model's layers compute in float32."""
    computing = (layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer))
    return all(layer.compute_dtype == "float32" for layer in computing)


def to_float32(model: keras.Model) -> keras.Model:
    """A copy of a functional model in stock layers that computes in float32; the model itself if it does already.

    The weights are the same: mixed precision keeps them in float32.
    """
    if is_float32(model):
        return model
    plain = keras.models.clone_model(model, clone_function=_float32_layer)
    plain.set_weights(model.get_weights())
    return plain


def _float32_layer(layer: keras.layers.Layer) -> keras.layers.Layer:
    return layer.__class__.from_config(layer.get_config() | {"dtype": "float32"})
