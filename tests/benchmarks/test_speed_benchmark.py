"""What benchmarks.speed computes, multiply-adds and the kinds of traced operations, and how it watches a device."""

import os
import time
from pathlib import Path

import keras
import pytest

from benchmarks.speed.arithmetic import forward_multiply_adds, step_gflops
from benchmarks.speed.device import Usage, device, watched
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


def busy_for(seconds):
    ends = time.process_time() + seconds
    while time.process_time() < ends:
        pass
    return "done"


def test_on_a_processor_the_share_of_the_threads_time_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))  # without nvidia-smi
    assert device().startswith("CPU, ")
    begun = time.perf_counter()
    done, usage = watched(lambda: busy_for(0.5), pid=os.getpid(), threads=4)
    share = 100 * 0.5 / (4 * (time.perf_counter() - begun))
    assert (done, usage.memory_mib) == ("done", None)
    assert 0.8 * share < usage.busy < 1.4 * share
    _, usage = watched(lambda: time.sleep(0.3), pid=os.getpid(), threads=1)
    assert usage.busy < 20


DRIVER = """#!/bin/sh
case $* in
  *index,uuid*) echo '0, GPU-aa, NVIDIA A, 24576, 555.42'; echo '1, GPU-bb, NVIDIA B, 81920, 555.42';;
  *--id=1*) if [ -e first ]; then touch second; echo '90, 700'; else touch first; echo '90, 1200'; fi;;
esac
"""


@pytest.mark.heavy
def test_on_a_gpu_its_samples_tell_how_busy_it_was_and_the_most_memory(tmp_path: Path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    program.write_text(DRIVER)
    program.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    monkeypatch.setattr("benchmarks.speed.device.SAMPLE_S", 0.01)
    assert device() == "NVIDIA B, 81920 MiB, driver 555.42"

    def until_sampled_twice():
        while not Path("second").exists():
            time.sleep(0.01)
        return "done"

    assert watched(until_sampled_twice, pid=1, threads=1) == ("done", Usage(busy=90, memory_mib=1200))
