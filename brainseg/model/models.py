"""The models that `model.name` can choose."""

from collections.abc import Callable

import keras

from brainseg.config import ModelConfig, one_of
from brainseg.model.unet import build_unet

# Each is called as build(config, input_shape=(height, width, channels), seed=seed).
MODELS: dict[str, Callable[..., keras.Model]] = {"unet": build_unet}


def build_model(config: ModelConfig, *, input_shape: tuple[int, int, int], seed: int) -> keras.Model:
    """The model that `config.name` names, with weights and dropout drawn from `seed` alone.

    It takes images in [0, 1] of shape (batch, *input_shape) and gives probabilities of shape
    (batch, height, width, MASK_CHANNELS), float32 under every precision. The precision is Keras' global
    dtype policy at the time of the call. Raises ConfigError for an unknown name.
    """
    one_of("model.name", config.name, tuple(MODELS))
    return MODELS[config.name](config, input_shape=input_shape, seed=seed)
