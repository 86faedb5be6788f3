"""The same model in stock Keras layers, so that a saved model loads wherever Keras is."""

from pathlib import Path

import keras
import numpy as np

from brainseg.errors import BrainsegError
from brainseg.model.fused_norm import FusedBatchNormalization

# Largest and mean difference of the two models' probabilities that rounding explains. bfloat16 keeps
# 8 bits, and the two layers round at different places.
TOLERANCES = {"float32": (1e-4, 1e-5), "bfloat16": (0.1, 5e-3)}


def to_stock(model: keras.Model) -> keras.Model:
    """A copy of a functional model with `keras.layers.BatchNormalization` for each fused layer.

    Weights and dtype policy are the model's own. A model without fused layers is returned as it is.
    Raises BrainsegError if the copy's outputs on a random batch differ by more than rounding.
    """
    if not any(isinstance(layer, FusedBatchNormalization) for layer in model.layers):
        return model
    stock = keras.models.clone_model(model, clone_function=_stock_layer)
    stock.set_weights(model.get_weights())
    _check_same_outputs(model, stock)
    return stock


def save_stock(model: keras.Model, path: Path) -> None:
    """Writes the model as a `.keras` file that loads in a process without brainseg.

    It is read by `keras.saving.load_model(path, compile=False, safe_mode=True)`.
    model: not compiled, or its optimizer's state is written as well.
    path: ends in `.keras`; an existing file is replaced. Raises BrainsegError like `to_stock`.
    """
    to_stock(model).save(path)


def _stock_layer(layer: keras.layers.Layer) -> keras.layers.Layer:
    if not isinstance(layer, FusedBatchNormalization):
        return layer.__class__.from_config(layer.get_config())
    return keras.layers.BatchNormalization(
        momentum=layer.momentum, epsilon=layer.epsilon, dtype=layer.dtype_policy, name=layer.name
    )


def _check_same_outputs(model: keras.Model, stock: keras.Model) -> None:
    batch = np.random.default_rng(0).random((2, *model.input_shape[1:]), dtype=np.float32)
    difference = np.abs(np.asarray(model(batch, training=False)) - np.asarray(stock(batch, training=False)))
    largest, mean = TOLERANCES[model.compute_dtype]
    if not (difference.max() <= largest and difference.mean() <= mean):  # NaN ends here as well
        raise BrainsegError(
            f"the model in stock Keras layers must give the probabilities of the trained one within {largest}, "
            f"got a difference of {difference.max():.3g}; train with model.norm=none, and report this as a bug"
        )
