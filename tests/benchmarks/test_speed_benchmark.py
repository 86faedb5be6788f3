"""What benchmarks.speed computes rather than measures: multiply-adds, and the kinds of traced operations."""

import keras
import pytest

from benchmarks.speed.arithmetic import forward_multiply_adds, step_gflops
from benchmarks.speed.profile import REST, kind_of
from brainseg.config import ModelConfig
from brainseg.model.models import build_model


def test_a_kernel_is_multiplied_at_each_pixel_of_a_convolutions_output_and_of_a_transposed_ones_input():
    inputs = keras.Input((4, 4, 2))
    convolved = keras.layers.Conv2D(5, 3, padding="same")(inputs)
    model = keras.Model(inputs, keras.layers.Conv2DTranspose(7, 2, strides=2)(convolved))
    assert forward_multiply_adds(model) == 16 * (9 * 2 * 5) + 16 * (4 * 5 * 7)


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_the_references_forward_pass_takes_3_73_billion_multiply_adds(norm):
    config = ModelConfig(depth=5, base_filters=16, dropout=0.1, norm=norm)
    multiply_adds = forward_multiply_adds(build_model(config, input_shape=(256, 256, 1), seed=0))
    assert round(multiply_adds / 1e9, 2) == 3.73


def test_a_step_takes_three_passes_of_two_operations_a_multiply_add():
    assert step_gflops(10.0, 2_000_000_000) == 120.0


@pytest.mark.parametrize(
    ("operation", "kind"),
    [
        ("unet_1/encoder1_conv1_1/convolution:_MklNativeFusedConv2D", "convolution, forward"),
        (
            "gradient_tape/unet_1/encoder1_conv2_1/convolution/Conv2DBackpropFilter:_MklNativeConv2DBackpropFilter",
            "convolution, gradient of the weights",
        ),
        (
            "gradient_tape/unet_1/encoder1_conv2_1/convolution/Conv2DBackpropInput:_MklNativeConv2DBackpropInput",
            "convolution, gradient of the inputs",
        ),
        ("unet_1/decoder5_up_1/conv_transpose:_MklNativeConv2DBackpropInput", "transposed convolution, forward"),
        (
            "gradient_tape/unet_1/decoder5_up_1/conv_transpose/Conv2D:_MklNativeConv2D",
            "transposed convolution, backward",
        ),
        ("unet_1/decoder1_dropout_1/mul_1:Mul", "dropout"),
        (
            "unet_1/encoder1_conv1_norm_1/FusedBatchNormV3:_MklNativeFusedBatchNormEx",
            "normalisation, with ReLU forward",
        ),
        ("unet_1/bottleneck_conv2_1/convolution/Cast:Cast", "casts between float32 and bfloat16"),
        ("adam/Sub_3:Sub", "optimizer"),
        ("ImageProjectiveTransformV3:ImageProjectiveTransformV3", REST),
    ],
)
def test_an_operation_belongs_to_the_kind_that_its_layer_or_its_type_names(operation, kind):
    assert kind_of(operation) == kind
