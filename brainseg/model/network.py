"""What a network is, and what all networks share: the seed of each layer, and where an untrained head starts."""

import hashlib
import math
from dataclasses import dataclass

import keras

from brainseg.config import ModelConfig


@dataclass(frozen=True, kw_only=True, eq=False)
class Network:
    """A model, and the points inside it that deep supervision trains as well."""

    model: keras.Model  # images to probabilities: what is trained, validated and saved
    # Features of the decoder's coarser levels, (batch, height, width, filters), the finest of them first; may be empty.
    coarse: tuple[keras.KerasTensor, ...]


def layer_seed(seed: int, name: str) -> int:
    """The seed of one layer, in [0, 2**31).

    From the layer's name, so that a layer that is added leaves the weights of the others as they were.
    """
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def foreground_bias(config: ModelConfig) -> float:
    """The bias of a head with a sigmoid that makes it start at `config.foreground_prior`."""
    return math.log(config.foreground_prior / (1.0 - config.foreground_prior))
