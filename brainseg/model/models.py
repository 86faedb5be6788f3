"""The networks that `model.name` can choose: each is a module of this folder, with a function `build`."""

from importlib import import_module
from typing import Protocol

import keras

from brainseg.classes import BINARY, Labels
from brainseg.config import MODEL_NAMES, ModelConfig, one_of
from brainseg.model.network import Network


class Build(Protocol):
    """The `build` of a network's module."""

    def __call__(self, config: ModelConfig, *, input_shape: tuple[int, int, int], labels: Labels, seed: int) -> Network:
        """The network with weights and dropout drawn from `seed` alone, under Keras' global dtype policy.

        The model takes images in [0, 1] of shape (batch, *input_shape) and gives probabilities of shape
        (batch, height, width, labels.outputs), float32 under every precision.
        """


def build_network(config: ModelConfig, *, input_shape: tuple[int, int, int], labels: Labels, seed: int) -> Network:
    """The network that `config.name` names, as `Build` says. Raises ConfigError for an unknown name."""
    one_of("model.name", config.name, MODEL_NAMES)
    build: Build = import_module(f"brainseg.model.{config.name}").build
    return build(config, input_shape=input_shape, labels=labels, seed=seed)


def build_model(
    config: ModelConfig, *, input_shape: tuple[int, int, int], labels: Labels = BINARY, seed: int
) -> keras.Model:
    """The model of `build_network`, for what doesn't train it."""
    return build_network(config, input_shape=input_shape, labels=labels, seed=seed).model
