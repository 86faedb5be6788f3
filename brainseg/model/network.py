"""What a network is, and what all networks share: the seed of each layer, and where an untrained head starts."""

import hashlib
import math
from dataclasses import dataclass

import keras
import numpy as np

from brainseg.classes import Labels
from brainseg.config import ModelConfig

HEAD = "head"  # name of the layer that gives the probabilities


@dataclass(frozen=True, kw_only=True, eq=False)
class Network:
    """A model, and the points inside it that deep supervision trains as well."""

    model: keras.Model  # images to probabilities: what is trained, validated and saved
    # Features of the decoder's coarser levels, (batch, height, width, filters), the finest of them first; may be empty.
    coarse: tuple[keras.KerasTensor, ...]
    # The part of the model that weights of other images are for: what it gives to the decoder, from scaled images.
    encoder: keras.Model | None = None


def layer_seed(seed: int, name: str) -> int:
    """The seed of one layer, in [0, 2**31).

    From the layer's name, so that a layer that is added leaves the weights of the others as they were.
    """
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def head_bias(config: ModelConfig, labels: Labels) -> keras.initializers.Initializer:
    """The bias with which an untrained head expects `config.foreground_prior` at every pixel.

    (Lin et al. 2017, arXiv:1708.02002.) A sigmoid expects it of its class. A softmax shares it out among the classes,
    and leaves the rest to the background; without a background all classes are as likely.
    """
    if not labels.exclusive:
        return keras.initializers.Constant(math.log(config.foreground_prior / (1.0 - config.foreground_prior)))
    classes = len(labels.names)
    bias = np.zeros(labels.outputs, np.float32)
    if labels.has_background:
        bias[1:] = math.log(config.foreground_prior / classes / (1.0 - config.foreground_prior))
    return keras.initializers.Constant(bias)
