"""The network that `model.name` names: one of this folder's, or a plugin's."""

from typing import Protocol

import keras

from brainseg.classes import BINARY, Labels
from brainseg.config import ModelConfig
from brainseg.errors import ConfigError
from brainseg.model.names import OF_STANDARDIZED_WINDOWS, OF_WINDOWS
from brainseg.model.network import Network
from brainseg.plugins import part


class Build(Protocol):
    """The function `build` of a network of brainseg's."""

    def __call__(
        self, config: ModelConfig, *, input_shape: tuple[int, int, int], labels: Labels, seed: int, windows: bool
    ) -> Network:
        """The network with weights and dropout drawn from `seed` alone, under Keras' global dtype policy.

        The model takes images in [0, 1] of shape (batch, *input_shape) and gives probabilities of shape
        (batch, height, width, labels.outputs), float32 under every precision. windows: with `config.standardize` they
        come standardised, and the network must not do it again.
        """


def build_network(
    config: ModelConfig, *, input_shape: tuple[int, int, int], labels: Labels, seed: int, windows: bool = False
) -> Network:
    """The network that `config.name` names, as `Build` says. Raises ConfigError for an unknown name.

    windows: it is to see windows of images at their own size, which its model says by its name.
    """
    network = _network(config, input_shape=input_shape, labels=labels, seed=seed, windows=windows)
    if windows:
        network.model.name += OF_STANDARDIZED_WINDOWS if config.standardize else OF_WINDOWS
    return network


def _network(
    config: ModelConfig, *, input_shape: tuple[int, int, int], labels: Labels, seed: int, windows: bool
) -> Network:
    own = config.own
    if own is None:
        build: Build = part("networks", config.name)
        return build(config, input_shape=input_shape, labels=labels, seed=seed, windows=windows)
    keras.utils.clear_session(free_memory=False)  # the names of its layers are the same in each process
    features = own.build(input_shape=input_shape, outputs=labels.outputs, seed=seed)
    names = own.coarse() if hasattr(own, "coarse") else ()
    unknown = set(names) - {layer.name for layer in features.layers}
    if unknown:
        raise ConfigError(f"model.name={config.name}: coarse() must name layers of its model, got {unknown}")
    # float32: see `blocks.head`.
    masks = keras.layers.Activation(labels.activation, dtype="float32", name="probabilities")(features.output)
    model = keras.Model(features.input, masks, name=config.name)
    return Network(model=model, coarse=tuple(features.get_layer(name).output for name in names))


def build_model(
    config: ModelConfig, *, input_shape: tuple[int, int, int], labels: Labels = BINARY, seed: int
) -> keras.Model:
    """The model of `build_network`, for what doesn't train it."""
    return build_network(config, input_shape=input_shape, labels=labels, seed=seed).model
