"""The U-Net's size, its output and its seeds."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from brainseg.classes import BINARY, Labels
from brainseg.config import ModelConfig
from brainseg.errors import ConfigError
from brainseg.model.models import build_model, build_network
from brainseg.model.stock import to_stock
from brainseg.plugins import BUILT_IN

CLASSES = Labels(names=("core", "rim", "oedema"), exclusive=True)
OVERLAPPING = Labels(names=("whole", "core"), exclusive=False)
SMALL = ModelConfig(depth=2, base_filters=4, dropout=0.5, norm="none")


@pytest.fixture
def mixed_precision():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy(before)


def images(count=2, size=8, channels=1):
    return np.random.default_rng(0).random((count, size, size, channels), dtype=np.float32)


def weights(config=SMALL, *, seed):
    return build_model(config, input_shape=(8, 8, 1), seed=seed).get_weights()


def test_the_reference_has_the_parameters_of_the_notebook():
    reference = ModelConfig(depth=5, base_filters=16, dropout=0.1, norm="none")
    model = build_model(reference, input_shape=(256, 256, 1), seed=0)
    assert model.count_params() == 7_775_313
    assert model.output_shape == (None, 256, 256, 1)


def test_filters_double_down_to_the_bottleneck_and_halve_again():
    model = build_model(SMALL, input_shape=(8, 8, 1), seed=0)
    convolutions = [layer for layer in model.layers if hasattr(layer, "filters")]
    assert [(layer.name, layer.filters, layer.kernel_size) for layer in convolutions] == [
        ("encoder1_conv1", 4, (3, 3)),
        ("encoder1_conv2", 4, (3, 3)),
        ("encoder2_conv1", 8, (3, 3)),
        ("encoder2_conv2", 8, (3, 3)),
        ("bottleneck_conv1", 16, (3, 3)),
        ("bottleneck_conv2", 16, (3, 3)),
        ("decoder2_up", 8, (2, 2)),
        ("decoder2_conv1", 8, (3, 3)),
        ("decoder2_conv2", 8, (3, 3)),
        ("decoder1_up", 4, (2, 2)),
        ("decoder1_conv1", 4, (3, 3)),
        ("decoder1_conv2", 4, (3, 3)),
        ("head", 1, (1, 1)),
    ]


def test_without_normalisation_a_convolution_has_its_bias_and_relu_in_it():
    convolution = build_model(SMALL, input_shape=(8, 8, 1), seed=0).get_layer("encoder1_conv1")
    assert convolution.use_bias
    assert convolution.activation is keras.activations.relu


def test_with_normalisation_each_convolution_is_followed_by_a_norm_and_has_no_bias():
    model = build_model(ModelConfig(depth=1, base_filters=4, norm="batch"), input_shape=(8, 8, 1), seed=0)
    names = [layer.name for layer in model.layers]
    for block in ("encoder1", "bottleneck", "decoder1"):
        for convolution in (f"{block}_conv1", f"{block}_conv2"):
            first = names.index(convolution)
            assert names[first : first + 3] == [convolution, f"{convolution}_norm", f"{convolution}_relu"]
            assert not model.get_layer(convolution).use_bias


def test_any_number_of_input_channels_gives_one_mask_channel():
    model = build_model(SMALL, input_shape=(8, 16, 3), seed=0)
    assert model(np.zeros((1, 8, 16, 3), np.float32)).shape == (1, 8, 16, 1)


def test_probabilities_are_float32_under_mixed_precision(mixed_precision):
    model = build_model(SMALL, input_shape=(8, 8, 1), seed=0)
    probabilities = model(images())
    assert probabilities.dtype == "float32"
    assert 0.0 <= np.min(probabilities) <= np.max(probabilities) <= 1.0
    assert model.get_layer("encoder1_conv1").compute_dtype == "bfloat16"


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_one_seed_gives_one_set_of_weights_and_another_seed_another(norm):
    config = ModelConfig(depth=1, base_filters=4, norm=norm)
    first, again, other = weights(config, seed=1), weights(config, seed=1), weights(config, seed=2)
    for one, same in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, same)
    assert not np.array_equal(first[0], other[0])


def test_layers_of_one_shape_start_from_different_weights():
    model = build_model(SMALL, input_shape=(8, 8, 1), seed=0)
    one, other = model.get_layer("encoder2_conv2"), model.get_layer("decoder2_conv2")
    assert one.kernel.shape == other.kernel.shape
    assert not np.array_equal(one.kernel, other.kernel)


def test_weights_before_a_relu_have_the_spread_of_he_initialisation():
    model = build_model(ModelConfig(depth=1, base_filters=64, norm="none"), input_shape=(8, 8, 1), seed=0)
    kernel = np.asarray(model.get_layer("encoder1_conv2").kernel)
    assert np.std(kernel) == pytest.approx(np.sqrt(2 / (3 * 3 * 64)), rel=0.02)


@pytest.mark.heavy
def test_dropout_masks_follow_the_seed_and_change_from_step_to_step():
    def two_steps(seed):
        model = build_model(SMALL, input_shape=(8, 8, 1), seed=seed)
        model.set_weights(weights(seed=0))
        return [np.asarray(model(images(), training=True)) for _ in range(2)]

    first, again, other = two_steps(3), two_steps(3), two_steps(4)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first[0], other[0])


def test_dropout_is_off_outside_training():
    model = build_model(SMALL, input_shape=(8, 8, 1), seed=0)
    np.testing.assert_array_equal(model(images(), training=False), model(images(), training=False))


@pytest.mark.heavy
@pytest.mark.parametrize("name", BUILT_IN["networks"])
@pytest.mark.parametrize("changes", [{}, {"depth": 1}, {"depth": 2, "stem": 4}], ids=str)
def test_every_configurable_network_gives_a_mask_of_the_images_size_and_its_coarse_levels(name, changes):
    config = ModelConfig(name=name, base_filters=2, **changes)
    size = 2 * config.size_factor
    network = build_network(config, input_shape=(size, size, 1), labels=BINARY, seed=0)
    assert network.model.output_shape == (None, size, size, 1)
    sizes = [features.shape[1] for features in network.coarse]
    assert len(sizes) == config.coarse_levels
    assert sizes == sorted(sizes, reverse=True)
    assert all(size % each == 0 for each in sizes)


def test_the_levels_of_a_unet_halve_the_size_down_to_its_factor():
    config = ModelConfig(depth=3, base_filters=2, stem=2)
    assert config.size_factor == 16
    network = build_network(config, input_shape=(32, 48, 1), labels=BINARY, seed=0)
    assert network.model.get_layer("bottleneck_conv1").output.shape == (None, 2, 3, 16)
    # With a stem of 2 the first level has half the image's size.
    assert [features.shape for features in network.coarse] == [(None, 8, 12, 4), (None, 4, 6, 8)]


def test_an_unknown_model_lists_the_known_ones():
    config = ModelConfig()
    object.__setattr__(config, "name", "unett")
    with pytest.raises(
        ConfigError, match=r"networks must be one of unet, encoder_unet, got 'unett'; did you mean 'unet'\?"
    ):
        build_model(config, input_shape=(8, 8, 1), seed=0)


def test_a_stem_of_two_halves_the_size_of_every_level():
    config = ModelConfig(depth=2, base_filters=4, norm="none", stem=2)
    model = build_model(config, input_shape=(16, 24, 1), seed=0)
    assert model.get_layer("encoder1_conv1").output.shape == (None, 8, 12, 4)
    assert model.output_shape == (None, 16, 24, 1)
    # Stem and head take 2x2 kernels: 1*4*4 + 4 and 4*4 + 1; the first convolution now sees 4 channels instead of 1.
    without = build_model(ModelConfig(depth=2, base_filters=4, norm="none"), input_shape=(16, 24, 1), seed=0)
    assert model.count_params() - without.count_params() == (20 + 17) - 5 + 3 * 9 * 4


def test_a_standardized_network_doesnt_see_brightness_or_contrast():
    model = build_model(ModelConfig(depth=2, base_filters=4, standardize=True), input_shape=(32, 32, 1), seed=0)
    slices = images(size=32)
    np.testing.assert_allclose(model(slices), model(0.2 + 0.7 * slices), atol=0.01)
    assert np.abs(np.asarray(model(slices)) - np.asarray(model(slices**3))).max() > 0.01


@pytest.mark.parametrize("stem", [1, 4])
def test_an_untrained_network_expects_the_foreground_prior_where_it_sees_nothing(stem):
    config = ModelConfig(depth=1, base_filters=4, norm="none", stem=stem, foreground_prior=0.02)
    model = build_model(config, input_shape=(16, 16, 1), seed=0)
    empty = np.zeros((1, 16, 16, 1), np.float32)  # without biases, zero at every layer before the head
    np.testing.assert_allclose(model(empty), 0.02, rtol=1e-5)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (CLASSES, [0.7, 0.1, 0.1, 0.1]),  # the classes share the prior of 0.3, the rest is background
        (Labels(names=("core", "rim"), exclusive=True, has_background=False), [0.5, 0.5]),
        (OVERLAPPING, [0.3, 0.3]),
    ],
)
@pytest.mark.parametrize("stem", [1, 2])
def test_an_untrained_network_expects_the_prior_of_its_classes(labels, expected, stem):
    config = ModelConfig(depth=1, base_filters=4, norm="none", stem=stem, foreground_prior=0.3)
    model = build_model(config, input_shape=(16, 16, 3), labels=labels, seed=0)
    probabilities = np.asarray(model(np.zeros((1, 16, 16, 3), np.float32)))
    assert probabilities.shape == (1, 16, 16, labels.outputs)
    np.testing.assert_allclose(probabilities, np.broadcast_to(expected, probabilities.shape), rtol=1e-5)


def test_the_probabilities_of_exclusive_classes_add_up_to_one():
    model = build_model(SMALL, input_shape=(8, 8, 3), labels=CLASSES, seed=0)
    probabilities = np.asarray(model(images(channels=3)))
    assert probabilities.shape == (2, 8, 8, 4)
    np.testing.assert_allclose(probabilities.sum(axis=-1), 1.0, rtol=1e-5)


# A process that has Keras and not brainseg.
LOAD = """
import sys
import keras
import numpy as np
for name in sys.argv[1:]:
    model = keras.saving.load_model(f"{name}.keras", compile=False, safe_mode=True)
    np.save(f"{name}.npy", model(np.load("images.npy"), training=False))
assert "brainseg" not in sys.modules
"""


@pytest.mark.heavy
def test_a_saved_model_with_classes_loads_where_keras_alone_is_installed(tmp_path):
    models = {
        name: build_model(SMALL, input_shape=(8, 8, 3), labels=labels, seed=0)
        for name, labels in {"softmax": CLASSES, "sigmoid": OVERLAPPING}.items()
    }
    for name, model in models.items():
        to_stock(model).save(tmp_path / f"{name}.keras")
    np.save(tmp_path / "images.npy", images(channels=3))
    subprocess.run(
        [sys.executable, "-P", "-c", LOAD, *models],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        check=True,
    )
    for name, model in models.items():
        np.testing.assert_allclose(np.load(tmp_path / f"{name}.npy"), model(images(channels=3)), atol=1e-6)


@pytest.mark.parametrize("stem", [1, 2, 4])
def test_the_head_starts_from_weights_of_one_spread_whatever_the_stem(stem):
    config = ModelConfig(depth=1, base_filters=256, norm="none", stem=stem)
    model = build_model(config, input_shape=(8, 8, 1), seed=0)
    kernel = np.asarray(model.get_layer("head").kernel)
    # Glorot: variance 2 / (256 + 1), from 256 to 4,096 weights.
    assert np.std(kernel) == pytest.approx(np.sqrt(2 / 257), rel=0.08)
    assert np.abs(kernel).max() <= np.sqrt(6 / 257)
