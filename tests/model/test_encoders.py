"""Encoders: the features of their models, the scale of their images, and weights of other images."""

import importlib.util
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from brainseg.classes import BINARY
from brainseg.config import ModelConfig
from brainseg.errors import InputError
from brainseg.model.encoders.applications import FUNCTIONS, application_features, application_weights
from brainseg.model.encoders.efficientnet_lite import STAGES, efficientnet_lite0, lite0_weights
from brainseg.model.encoders.known import KNOWN
from brainseg.model.encoders.torch_file import read_torch_file
from brainseg.model.encoders.weights import LITE0_FILE, LITE0_PACKAGE, Weights, imagenet_weights, start_from
from brainseg.model.models import build_network
from brainseg.model.network import Network

HAS_LITE0 = importlib.util.find_spec(LITE0_PACKAGE) is not None
needs_lite0 = pytest.mark.skipif(not HAS_LITE0, reason=f"{LITE0_PACKAGE} isn't installed")
SLOW = pytest.mark.slow


def picture(size: int = 64) -> np.ndarray[Any, np.dtype[np.float32]]:
    """A colour picture in [0, 1], smooth, with a batch's axis."""
    rows, columns = np.mgrid[:size, :size] / size
    colours = [np.sin(7 * rows + 3 * columns), np.cos(5 * columns), rows * columns]
    return ((np.stack(colours, axis=-1) + 1) / 2).astype(np.float32)[None]


def given(encoder: keras.Model, weights: Weights) -> None:
    """Gives the weights to the encoder of a network."""
    start_from(weights, Network(model=encoder, coarse=(), encoder=encoder), BINARY)


@pytest.mark.heavy
@pytest.mark.parametrize(
    "name", [name if name == "mobilenetv3_large" else pytest.param(name, marks=SLOW) for name in FUNCTIONS]
)
def test_features_are_those_of_keras_applications_on_a_picture(name: str) -> None:
    function, _ = FUNCTIONS[name]
    original = getattr(keras.applications, function)(include_top=False, weights=None, input_shape=(64, 64, 3))
    module = {"resnet50v2": "resnet_v2", "densenet121": "densenet"}.get(name)
    pixels = 255 * picture()
    expected = original(getattr(keras.applications, module).preprocess_input(pixels.copy()) if module else pixels)
    if name == "efficientnet_b0":  # what its ImageNet weights bring, and random ones lack
        mean, deviation = (np.array(values) for values in (KNOWN[name].scale.mean, KNOWN[name].scale.deviation))
        expected = original((pixels / 255 - mean) / deviation * 255)
    images = keras.Input((64, 64, 3))
    features = application_features(name, KNOWN[name].scale.layer(3)(images), seed=0)
    encoder = keras.Model(images, features)
    encoder.set_weights(application_weights(original))
    np.testing.assert_allclose(encoder(picture())[-1], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.heavy
def test_the_smallest_images_have_features_of_one_pixel_and_gates_are_no_features() -> None:
    features = application_features("mobilenetv3_large", keras.Input((32, 32, 1)), seed=0)
    assert [each.shape[1] for each in features] == [16, 8, 4, 2, 1]
    assert features[-1].shape[-1] == 960


@pytest.mark.heavy
def test_the_weights_of_a_seed_are_the_same_each_time() -> None:
    def weights(seed: int) -> list[Any]:
        config = ModelConfig(name="encoder_unet", encoder="mobilenetv3_large")
        model = build_network(config, input_shape=(64, 64, 1), labels=BINARY, seed=seed).model
        assert {layer.name for layer in model.layers if layer.weights} <= {layer.name for layer in model.layers}
        return list(model.get_weights())

    first, again, other = weights(1), weights(1), weights(2)
    assert all(np.array_equal(one, two) for one, two in zip(first, again, strict=True))
    assert not all(np.array_equal(one, two) for one, two in zip(first, other, strict=True))


@pytest.mark.heavy
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_the_first_kernel_is_summed_for_grey_and_taken_in_turn_for_more_channels(channels: int) -> None:
    images = keras.Input((32, 32, channels))
    encoder = keras.Model(images, efficientnet_lite0(images, seed=0))
    rgb = keras.Input((32, 32, 3))
    weights = keras.Model(rgb, efficientnet_lite0(rgb, seed=1)).get_weights()
    given(encoder, Weights(encoder=weights, origin="a test", licence="none"))
    kernel, red, green, blue = encoder.get_weights()[0], *np.moveaxis(weights[0], 2, 0)
    expected = {
        1: [red + green + blue],
        2: [1.5 * red, 1.5 * green],
        3: [red, green, blue],
        4: [0.75 * red, 0.75 * green, 0.75 * blue, 0.75 * red],
    }[channels]
    np.testing.assert_allclose(kernel, np.stack(expected, axis=2), rtol=1e-6)


@pytest.mark.heavy
def test_a_grey_picture_has_the_features_of_its_copy_in_three_colours() -> None:
    grey = picture()[..., :1]

    def last_features(channels: int, weights: Any = None) -> Any:
        images = keras.Input((64, 64, channels))
        encoder = keras.Model(
            images, efficientnet_lite0(KNOWN["efficientnet_lite0"].scale.layer(channels)(images), seed=0)
        )
        if weights is not None:
            given(encoder, Weights(encoder=weights, origin="a test", licence="none"))
        return encoder.get_weights(), np.asarray(encoder(np.repeat(grey, channels, axis=-1))[-1])

    weights, expected = last_features(3)
    np.testing.assert_allclose(last_features(1, weights)[1], expected, rtol=1e-3, atol=1e-6)


def test_weights_of_another_network_are_refused() -> None:
    images = keras.Input((32, 32, 1))
    encoder = keras.Model(images, efficientnet_lite0(images, seed=0))
    with pytest.raises(InputError, match="a test is of another network"):
        given(encoder, Weights(encoder=encoder.get_weights()[:-1], origin="a test", licence="none"))


@pytest.mark.heavy
@needs_lite0
def test_lite0_from_imagenet_gives_the_logits_of_a_graph_made_apart_from_it() -> None:
    import onnxruntime

    spec = importlib.util.find_spec(LITE0_PACKAGE)
    assert spec is not None
    assert spec.origin is not None
    tensors = read_torch_file(Path(spec.origin).parent / "models" / LITE0_FILE)
    images = (255 * picture(224) - 127) / 128
    session = onnxruntime.InferenceSession(onnx_lite0(tensors))
    (expected,) = session.run(None, {"image": np.moveaxis(images, -1, 1).astype(np.float32)})

    x = keras.Input((224, 224, 3))
    encoder = keras.Model(x, efficientnet_lite0(x, seed=0))
    encoder.set_weights(lite0_weights(tensors))
    features = np.asarray(encoder(images)[-1])
    head = np.einsum("bhwc,fc->bhwf", features, tensors["_conv_head.weight"][:, :, 0, 0])
    scale = tensors["_bn1.weight"] / np.sqrt(tensors["_bn1.running_var"] + 1e-3)
    head = np.clip((head - tensors["_bn1.running_mean"]) * scale + tensors["_bn1.bias"], 0, 6).mean(axis=(1, 2))
    logits = head @ tensors["_fc.weight"].T + tensors["_fc.bias"]
    np.testing.assert_allclose(logits, expected, atol=1e-4)
    assert imagenet_weights("efficientnet_lite0").licence == "Apache-2.0"


def onnx_lite0(tensors: dict[str, Any]) -> bytes:
    """The network in ONNX, from PyTorch's names and its `same` padding, which adds the odd row below and right."""
    import onnx
    from onnx import helper, numpy_helper

    nodes: list[Any] = []
    constants: dict[str, Any] = {}

    def node(kind: str, inputs: list[str], **attributes: Any) -> str:
        output = f"{kind}{len(nodes)}"
        nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def constant(name: str, value: Any = None) -> str:
        constants[name] = tensors[name] if value is None else value
        return name

    def convolution(x: str, name: str, norm: str, stride: int = 1, groups: int = 1) -> str:
        x = node("Conv", [x, constant(f"{name}.weight")], strides=[stride] * 2, group=groups, auto_pad="SAME_UPPER")
        parts = [constant(f"{norm}.{part}") for part in ("weight", "bias", "running_mean", "running_var")]
        return node("BatchNormalization", [x, *parts], epsilon=1e-3)

    def clipped(x: str) -> str:
        return node("Clip", [x, constant("low", np.float32(0)), constant("high", np.float32(6))])

    x = clipped(convolution("image", "_conv_stem", "_bn0", stride=2))
    number, width = 0, 32
    for stage in STAGES:
        for repeat in range(stage.repeats):
            block, before = f"_blocks.{number}", x
            if stage.expansion > 1:
                x = clipped(convolution(x, f"{block}._expand_conv", f"{block}._bn0"))
            stride = stage.stride if repeat == 0 else 1
            depthwise = f"{block}._depthwise_conv"
            x = clipped(convolution(x, depthwise, f"{block}._bn1", stride, groups=width * stage.expansion))
            x = convolution(x, f"{block}._project_conv", f"{block}._bn2")
            if repeat:
                x = node("Add", [before, x])
            number, width = number + 1, stage.filters
    x = clipped(convolution(x, "_conv_head", "_bn1"))
    x = node("Flatten", [node("GlobalAveragePool", [x])])
    x = node("Gemm", [x, constant("_fc.weight"), constant("_fc.bias")], transB=1)
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "lite0",
        [value("image", onnx.TensorProto.FLOAT, [1, 3, 224, 224])],
        [value(x, onnx.TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


@pytest.mark.heavy
@pytest.mark.parametrize("name", ["unet", "encoder_unet"])
def test_windows_come_standardised_and_the_network_says_so_and_does_it_not_again(name: str) -> None:
    config = ModelConfig(name=name, depth=2, base_filters=2, encoder="mobilenetv3_large", standardize=True)
    whole, windows = (
        build_network(config, input_shape=(64, 64, 1), labels=BINARY, seed=0, windows=each).model
        for each in (False, True)
    )
    assert (whole.name, windows.name) == (name, f"{name}_of_standardized_windows")
    assert {layer.name for layer in whole.layers} - {layer.name for layer in windows.layers} == {"standardize"}
    image = np.random.default_rng(0).random((1, 64, 64, 1), dtype=np.float32)
    standardized = (image - image.mean()) / np.sqrt(image.var() + 1e-3)
    np.testing.assert_allclose(
        windows(standardized, training=False), whole(image, training=False), rtol=1e-3, atol=1e-4
    )
