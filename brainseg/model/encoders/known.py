"""The encoders by name: what each computes, the scale of its images, and where its ImageNet weights come from."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import keras
from keras import layers

from brainseg.model.encoders.applications import application_features
from brainseg.model.encoders.efficientnet_lite import efficientnet_lite0

RGB = 3


class Features(Protocol):
    """What an encoder computes."""

    def __call__(self, x: keras.KerasTensor, *, seed: int) -> list[keras.KerasTensor]:
        """Its features of each size of x, (batch, height / 2**k, width / 2**k, filters), the largest first."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """What the weights were trained on: (value - mean) / deviation of values in [0, 1], for red, green and blue."""

    mean: Sequence[float]
    deviation: Sequence[float]

    def layer(self, channels: int) -> keras.layers.Layer:
        """The layer that brings images in [0, 1] to the scale: grey by the means over the colours, others in turn."""
        mean, deviation = ([*values] for values in (self.mean, self.deviation))
        if channels == 1:
            mean, deviation = [sum(mean) / RGB], [sum(deviation) / RGB]
        parts = [(mean[channel % len(mean)], deviation[channel % len(mean)]) for channel in range(channels)]
        return layers.Rescaling([1 / d for _, d in parts], [-m / d for m, d in parts], name="scale")


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """A network for images of one thing each, without its top."""

    features: Features
    scale: Scale
    licence: str  # of its ImageNet weights


HALVES = Scale(mean=(0.5,) * RGB, deviation=(0.5,) * RGB)
LITES = Scale(mean=(127 / 255,) * RGB, deviation=(128 / 255,) * RGB)
IMAGENETS = Scale(mean=(0.485, 0.456, 0.406), deviation=(0.229, 0.224, 0.225))  # of its images


def _application(name: str, scale: Scale, licence: str) -> Encoder:
    return Encoder(features=functools.partial(application_features, name), scale=scale, licence=licence)


KNOWN: Mapping[str, Encoder] = {
    "efficientnet_lite0": Encoder(features=efficientnet_lite0, scale=LITES, licence="Apache-2.0"),
    "efficientnet_b0": _application("efficientnet_b0", IMAGENETS, "Apache-2.0"),
    "efficientnetv2_b0": _application("efficientnetv2_b0", IMAGENETS, "Apache-2.0"),
    "resnet50v2": _application("resnet50v2", HALVES, "BSD-3-Clause"),
    "mobilenetv3_large": _application("mobilenetv3_large", HALVES, "Apache-2.0"),
    "densenet121": _application("densenet121", IMAGENETS, "BSD-3-Clause"),
    "convnext_tiny": _application("convnext_tiny", IMAGENETS, "MIT"),
}
