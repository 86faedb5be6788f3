"""EfficientNet-Lite0 (Tan and Le 2019, arXiv:1905.11946; the Lite variants: ReLU6, no squeeze-and-excitation)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers
from numpy.typing import NDArray

from brainseg.model.fused_norm import FusedBatchNormalization
from brainseg.model.network import layer_seed

STEM_FILTERS = 32
EPSILON = 1e-3


@dataclass(frozen=True)
class Stage:
    """Blocks of one width; the first of them may halve the size."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    filters: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)


def efficientnet_lite0(x: keras.KerasTensor, *, seed: int) -> list[keras.KerasTensor]:
    """Its features of each size, from a half of x's to a 32nd."""
    x = _normed(_convolution(STEM_FILTERS, 3, 2, "encoder_stem", seed)(x), "encoder_stem")
    features = []
    for stage, block in _blocks():
        if stage.stride == 2 and block.endswith("_0"):
            features.append(x)
        x = _block(x, stage, block, seed)
    return [*features, x]


def _blocks() -> Iterator[tuple[Stage, str]]:
    """Each block's stage and name, in their order."""
    for number, stage in enumerate(STAGES, start=1):
        for repeat in range(stage.repeats):
            yield stage, f"encoder_stage{number}_{repeat}"


def _block(x: keras.KerasTensor, stage: Stage, name: str, seed: int) -> keras.KerasTensor:
    """An inverted residual: wider by a 1x1 convolution, a depthwise one, and back by another 1x1."""
    before, stride = x, stage.stride if name.endswith("_0") else 1
    if stage.expansion > 1:
        wide = x.shape[-1] * stage.expansion
        x = _normed(_convolution(wide, 1, 1, f"{name}_expand", seed)(x), f"{name}_expand")
    depthwise = layers.DepthwiseConv2D(
        stage.kernel,
        strides=stride,
        padding="same",
        use_bias=False,
        depthwise_initializer=keras.initializers.HeNormal(seed=layer_seed(seed, f"{name}_depthwise")),
        name=f"{name}_depthwise",
    )
    x = _normed(depthwise(x), f"{name}_depthwise")
    x = _convolution(stage.filters, 1, 1, f"{name}_project", seed)(x)
    x = FusedBatchNormalization(epsilon=EPSILON, name=f"{name}_project_norm")(x)
    return x if name.endswith("_0") else layers.Add(name=f"{name}_add")([before, x])


def _convolution(filters: int, kernel: int, stride: int, name: str, seed: int) -> keras.layers.Layer:
    return layers.Conv2D(
        filters,
        kernel,
        strides=stride,
        padding="same",
        use_bias=False,
        kernel_initializer=keras.initializers.HeNormal(seed=layer_seed(seed, name)),
        name=name,
    )


def _normed(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    x = FusedBatchNormalization(epsilon=EPSILON, name=f"{name}_norm")(x)
    return layers.ReLU(max_value=6, name=f"{name}_relu")(x)


def lite0_weights(tensors: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
    """The encoder's variables, in the order of its layers, from the names of the PyTorch implementation.

    Raises KeyError for a tensor that is missing.
    """
    arrays = [_kernel(tensors["_conv_stem.weight"]), *_norm(tensors, "_bn0")]
    for number, (stage, _) in enumerate(_blocks()):
        block = f"_blocks.{number}"
        if stage.expansion > 1:
            arrays += [_kernel(tensors[f"{block}._expand_conv.weight"]), *_norm(tensors, f"{block}._bn0")]
        arrays += [_depthwise(tensors[f"{block}._depthwise_conv.weight"]), *_norm(tensors, f"{block}._bn1")]
        arrays += [_kernel(tensors[f"{block}._project_conv.weight"]), *_norm(tensors, f"{block}._bn2")]
    return arrays


def _kernel(weight: NDArray[Any]) -> NDArray[Any]:
    return weight.transpose(2, 3, 1, 0)


def _depthwise(weight: NDArray[Any]) -> NDArray[Any]:
    return weight.transpose(2, 3, 0, 1)


def _norm(tensors: Mapping[str, NDArray[Any]], name: str) -> Sequence[NDArray[Any]]:
    return [tensors[f"{name}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")]
