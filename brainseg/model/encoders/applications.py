"""Encoders of `keras.applications`, without their tops, in brainseg's layers."""

import contextlib
import random
from collections.abc import Iterator
from typing import Any

import keras
from keras import layers

from brainseg.model.fused_norm import FusedBatchNormalization

# What scales images inside some of them: here images come scaled.
SCALING = (layers.InputLayer, layers.Rescaling, layers.Normalization)
# Name of the encoder -> that of the function, and what it is called with.
FUNCTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "efficientnet_b0": ("EfficientNetB0", {}),
    "efficientnetv2_b0": ("EfficientNetV2B0", {"include_preprocessing": False}),
    "resnet50v2": ("ResNet50V2", {}),
    "mobilenetv3_large": ("MobileNetV3Large", {"include_preprocessing": False}),
    "densenet121": ("DenseNet121", {}),
    "convnext_tiny": ("ConvNeXtTiny", {"include_preprocessing": False}),
}


def application(name: str, *, input_shape: tuple[int, int, int], weights: str | None) -> keras.Model:
    """The model of this name, without its top. weights: None or imagenet, which is downloaded once."""
    function, options = FUNCTIONS[name]
    made: keras.Model = getattr(keras.applications, function)(
        include_top=False, weights=weights, input_shape=input_shape, **options
    )
    return made


def application_features(name: str, x: keras.KerasTensor, *, seed: int) -> list[keras.KerasTensor]:
    """Its features of each size, the largest first: the last tensor of each before a stride."""
    with _seeded(seed):
        model = application(name, input_shape=x.shape[1:], weights=None)
        names = {layer.name: f"encoder_{number}" for number, layer in enumerate(model.layers)}
        chosen = _features(model, pixels=x.shape[1])
        features = keras.Model(_scaled(model), chosen)

        def renamed(layer: keras.Operation) -> keras.Operation:
            if not isinstance(layer, layers.Layer):
                return layer  # a sum, which has no weights
            config = layer.get_config() | {"name": names.get(layer.name, layer.name)}
            if isinstance(layer, layers.BatchNormalization):
                # Its own momentum would take longer than an epoch of a small set to see what these images are like.
                return FusedBatchNormalization(**{key: config[key] for key in ("name", "dtype", "epsilon")})
            if _is_depthwise(layer):
                kept = ("name", "dtype", "kernel_size", "strides", "padding", "activation", "use_bias")
                return layers.DepthwiseConv2D(**{key: config[key] for key in kept})
            return layer.__class__.from_config(config)

        # What `clone_model` does; its own result is cut off from x, where x is no input.
        return list(features._run_through_graph(x, operation_fn=renamed, call_fn=_called))


def application_weights(model: keras.Model) -> list[Any]:
    """The variables of an application, in the order of its layers, without those that scale images."""
    found: list[Any] = []
    for layer in model.layers:
        if not isinstance(layer, SCALING):
            arrays = layer.get_weights()
            found += [arrays[0].swapaxes(2, 3), *arrays[1:]] if _is_depthwise(layer) else arrays
    return found


def _is_depthwise(layer: keras.layers.Layer) -> bool:
    """Whether each channel is convolved by itself: Keras runs a grouped convolution by XLA, which nothing exports."""
    return type(layer) is layers.Conv2D and layer.groups == layer.filters > 1


def _called(layer: keras.layers.Layer, *arguments: Any, **options: Any) -> Any:
    """Without the masks of sequences, which images don't have."""
    return layer(*arguments, **{key: value for key, value in options.items() if key != "mask"})


def _scaled(model: keras.Model) -> keras.KerasTensor:
    """Where images are scaled as the weights expect them."""
    tensor = model.layers[0].output
    for layer in model.layers:
        if not isinstance(layer, SCALING):
            break
        tensor = layer.output
    return tensor


def _features(model: keras.Model, *, pixels: int) -> list[keras.KerasTensor]:
    found: dict[int, keras.KerasTensor] = {}
    for layer in model.layers:
        tensor = layer.output
        if isinstance(layer, (*SCALING, layers.ZeroPadding2D)) or len(tensor.shape) != 4:
            continue
        # Of one pixel are the weights of channels, but for the last features of 32 pixels.
        if pixels % tensor.shape[1] == 0 and (tensor.shape[1] > 1 or layer is model.layers[-1]):
            found[tensor.shape[1]] = tensor
    return [found[size] for size in sorted(found, reverse=True)]


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Inside, what Keras draws without a seed of its own (initialisers, dropout) follows from this one."""
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)
