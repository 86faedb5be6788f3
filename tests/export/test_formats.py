"""Every kind of layer comes out right in every format: the files are run by the runtimes that users have."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from brainseg.classes import BINARY, Labels
from brainseg.config import DataConfig, ModelConfig
from brainseg.errors import BrainsegError, InputError
from brainseg.export.check import Deviation, check, difference
from brainseg.export.check_slices import CheckSlices, choose_slices
from brainseg.export.description import describe
from brainseg.export.export import export
from brainseg.export.formats import FORMATS, Format
from brainseg.inference.postprocess import MaskSettings
from brainseg.model.models import build_model
from brainseg.model.stock import to_float32, to_stock
from brainseg.runs.models import Segmenter

pytestmark = pytest.mark.heavy

SIZE = 16
# What brainseg builds: stems and their heads, both normalisations, dropout.
MODELS = {
    "stem 2": ModelConfig(depth=1, base_filters=3, dropout=0.2, norm="batch", standardize=True, stem=2),
    "stem 4": ModelConfig(depth=1, base_filters=3, dropout=0.2, norm="batch", standardize=True, stem=4),
}
DATA = DataConfig(image_size=SIZE, channels="grey")
SEGMENTER = Segmenter(
    name="made",
    model_file=Path("made.keras"),
    remedy="",
    data=DATA,
    threads=None,
    statistics=None,
    settings=MaskSettings(),
    settings_from="",
    run=None,
)
# The files, run as their users do it: a file and a batch in, probabilities out.
Run = Callable[[Path, NDArray[np.float32]], Any]


def run_onnx(path: Path, images: NDArray[np.float32]) -> Any:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(["probability"], {"image": images})[0]


def run_litert(path: Path, images: NDArray[np.float32]) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], images.shape)
    return interpreter.get_signature_runner()(image=images)["output_0"]


def run_keras(path: Path, images: NDArray[np.float32]) -> Any:
    return keras.saving.load_model(path, safe_mode=True)(images, training=False)


def described_in_onnx(path: Path) -> dict[str, str]:
    import onnx

    return {entry.key: entry.value for entry in onnx.load(str(path)).metadata_props}


def described_in_litert(path: Path) -> dict[str, str]:
    from ai_edge_litert.tools import flatbuffer_utils

    stored = flatbuffer_utils.read_model(str(path))
    # Operations of TensorFlow's own would stand here, by name.
    assert not [code.customCode for code in stored.operatorCodes if code.customCode]
    (entry,) = [entry for entry in stored.metadata if entry.name == b"brainseg"]
    return dict(json.loads(bytes(stored.buffers[entry.buffer].data)))


DESCRIBED = {"onnx": described_in_onnx, "litert": described_in_litert}
RUNS: dict[str, Run] = {"onnx": run_onnx, "litert": run_litert, "keras": run_keras}


def made(config: ModelConfig, policy: str = "float32", *, channels: int = 1, labels: Labels = BINARY) -> Any:
    """A model in stock layers whose weights are all drawn, those of the normalisation too."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = to_stock(build_model(config, input_shape=(SIZE, SIZE, channels), labels=labels, seed=0))
    finally:
        keras.config.set_dtype_policy(before)
    rng = np.random.default_rng(1)
    model.set_weights([weight + rng.uniform(-0.1, 0.1, weight.shape) for weight in model.get_weights()])
    return model


@pytest.fixture(scope="module")
def slices() -> CheckSlices:
    return choose_slices(None, DATA, data=None, count=5)


def test_the_description_says_what_a_program_has_to_know() -> None:
    tuned = MaskSettings(flip="all", shift="diagonal", threshold=0.35, min_area_px=12)
    told = describe(dataclasses.replace(SEGMENTER, settings=tuned), DATA)
    assert told["brainseg.image_size"] == "16"
    assert told["brainseg.input"] == "image, float32 (batch, 16, 16, 1), in 0..1"
    assert told["brainseg.output"] == "probability, float32 (batch, 16, 16, 1): of the foreground, in 0..1"
    assert told["brainseg.grey"] == (
        "one grey channel in 0..255: 8-bit values as they are, colours as ITU-R 601 luma, alpha left out, deeper "
        "values scaled so that the image's own 0.5th and 99.5th percentile (where these are equal, its smallest and "
        "largest) become 0 and 255, clipped and rounded; turned as the EXIF orientation says"
    )
    assert "brainseg.classes" not in told
    assert (told["brainseg.channel_axis"], told["brainseg.scale"]) == ("3", "divided by 255")
    assert (told["brainseg.threshold"], told["brainseg.min_area_px"]) == ("0.35", "12")
    assert told["brainseg.flip"] == "mean over the image and its flips along both axes"
    assert told["brainseg.shift"] == (
        "mean over the flips of the image moved down and right by (0, 0), (3, 5), (-3, -5) pixels; "
        "what leaves on one side enters on the other"
    )
    assert "brainseg.run_id" not in told  # of a file


@pytest.mark.parametrize(
    ("data", "deeper"),
    [
        ({"reading": 1}, "so that the image's own smallest and largest become 0 and 255, clipped and rounded"),
        (
            {"window": (-160, 240)},
            "so that -160 and 240 become 0 and 255, clipped and rounded; turned as the EXIF orientation says",
        ),
    ],
    ids=["reading 1", "window"],
)
def test_the_description_says_how_deeper_images_are_read(data: dict[str, Any], deeper: str) -> None:
    grey = describe(SEGMENTER, dataclasses.replace(DATA, **data))["brainseg.grey"]
    assert grey.endswith(f", alpha left out, deeper values scaled {deeper}")


IN_COLOUR = DataConfig(image_size=SIZE, channels="rgb", classes={"car": 1, "road": 2})
IN_CHANNELS = DataConfig(image_size=SIZE, channels=["flair", "t1"], classes={"whole": [1, 2], "core": 2})


def test_the_description_says_what_channels_and_outputs_are() -> None:
    settings = MaskSettings(threshold=(0.4, 0.5), min_area_px=9)
    colour = describe(dataclasses.replace(SEGMENTER, settings=settings), IN_COLOUR)
    assert colour["brainseg.input"] == "image, float32 (batch, 16, 16, 3), in 0..1"
    assert colour["brainseg.rgb"].startswith("three channels in 0..255, red, green and blue: ")
    assert "brainseg.grey" not in colour
    assert colour["brainseg.output"] == (
        "probability, float32 (batch, 16, 16, 3): of the background, then of classes in their order, a softmax, in 0..1"
    )
    assert colour["brainseg.classes"] == '["car", "road"]'
    assert "the highest p * (1 - t) / t" in colour["brainseg.mask"]
    assert "the background's is p; " in colour["brainseg.mask"]
    assert colour["brainseg.threshold"] == '{"car": 0.4, "road": 0.5}'
    assert colour["brainseg.min_area_px"] == '{"car": 9, "road": 9}'
    named = describe(SEGMENTER, IN_CHANNELS)
    assert named["brainseg.channels"].startswith('["flair", "t1"] in this order, each a file of its own, one grey ')
    assert named["brainseg.output"] == (
        "probability, float32 (batch, 16, 16, 2): of classes in their order, a sigmoid each, in 0..1"
    )
    assert "for each class those from its threshold on" in named["brainseg.mask"]


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("data", [IN_COLOUR, IN_CHANNELS], ids=["colour", "channels"])
def test_a_file_of_several_channels_and_classes_gives_what_the_model_gives(
    name: str, data: DataConfig, tmp_path: Path
) -> None:
    model = made(MODELS["stem 2"], channels=data.channel_count, labels=data.labels)
    path = tmp_path / f"file{FORMATS[name].ending}"
    slices = choose_slices(None, data, data=None, count=3)
    done = export(SEGMENTER, model, data, format_name=name, path=path, slices=slices)
    assert done.difference.probability < 1e-5
    assert done.difference.mask_px == 0
    images = np.random.default_rng(0).random((2, SIZE, SIZE, data.channel_count), dtype=np.float32)
    expected = np.asarray(model(images, training=False))
    assert expected.shape == (2, SIZE, SIZE, data.labels.outputs)
    assert expected.std() > 0.01
    np.testing.assert_allclose(np.asarray(RUNS[name](path, images)), expected, atol=1e-5)
    if name in DESCRIBED:
        assert DESCRIBED[name](path) == describe(SEGMENTER, data)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("config", MODELS.values(), ids=list(MODELS))
def test_a_file_gives_what_the_model_gives_for_batches_of_any_size(
    name: str, config: ModelConfig, slices: CheckSlices, tmp_path: Path
) -> None:
    model = made(config, "mixed_bfloat16")
    path = tmp_path / f"file{FORMATS[name].ending}"
    done = export(SEGMENTER, model, DATA, format_name=name, path=path, slices=slices)
    assert done.path == path
    assert done.size_bytes == path.stat().st_size
    assert done.difference.probability < 1e-5
    assert done.difference.mask_px == 0
    assert done.rounding is not None
    assert 1e-4 < done.rounding.probability < 0.2  # bfloat16 has 8 bits
    plain = to_float32(model)
    images = np.random.default_rng(0).random((3, SIZE, SIZE, 1), dtype=np.float32)
    expected = np.asarray(plain(images, training=False))
    assert expected.std() > 0.01
    for count in (1, 3):
        found = np.asarray(RUNS[name](path, images[:count]))
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected[:count], atol=1e-5)
    if name in DESCRIBED:
        assert DESCRIBED[name](path) == describe(SEGMENTER, DATA)


def test_a_copy_in_float32_has_the_weights_and_computes_so() -> None:
    model = made(MODELS["stem 2"], "mixed_bfloat16")
    plain = to_float32(model)
    assert {layer.compute_dtype for layer in plain.layers[1:]} == {"float32"}
    for copied, weight in zip(plain.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(copied, weight)
    assert to_float32(plain) is plain


def test_a_file_that_differs_is_refused_and_not_left(
    slices: CheckSlices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_another(model: Any, path: Path, description: object) -> None:
        other = keras.models.clone_model(model)
        other.set_weights([weight * np.float32(1.01) for weight in model.get_weights()])
        other.save(path)

    kind = FORMATS["keras"]
    broken = Format(ending=kind.ending, packages={}, write=write_another, runner=kind.runner)
    monkeypatch.setitem(FORMATS, "keras", broken)
    model = made(MODELS["stem 4"])
    with pytest.raises(BrainsegError, match=r"^the keras file doesn't do what the model does: a probability differs "):
        export(SEGMENTER, model, DATA, format_name="keras", path=tmp_path / "file.keras", slices=slices)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_comes_into_being_meanwhile_is_left_alone(
    slices: CheckSlices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file.keras"
    kind = FORMATS["keras"]

    def write(model: Any, unfinished: Path, description: Any) -> None:
        path.write_text("mine")
        kind.write(model, unfinished, description)

    monkeypatch.setitem(FORMATS, "keras", Format(ending=".keras", packages={}, write=write, runner=kind.runner))
    with pytest.raises(InputError, match="exists, and is left as it is"):
        export(SEGMENTER, made(MODELS["stem 4"]), DATA, format_name="keras", path=path, slices=slices)
    assert path.read_text() == "mine"
    assert [file.name for file in tmp_path.iterdir()] == ["file.keras"]


def test_masks_are_compared_at_the_size_of_the_slice() -> None:
    expected = np.full((2, 2, 2, 1), 0.25, np.float32)
    expected[1] = 0.75
    found = expected + np.float32(0.125)
    found[1, 0, 0] = 0.375
    slices = CheckSlices(
        text="",
        note=None,
        ids=("a", "b"),
        images=np.zeros((2, 2, 2, 1), np.float32),
        shapes=((2, 2), (2, 2)),
    )
    assert difference(expected, found, slices, MaskSettings(), BINARY) == Deviation(
        probability=0.375, mask_px=1, mask_id="b"
    )
    assert difference(expected, found, slices, MaskSettings(threshold=0.3), BINARY).mask_px == 4
    # Corners of a 2x2 slice at 4x4: bilinear, so that 0.375 reaches 0.5 within a pixel.
    large = CheckSlices(text="", note=None, ids=("a", "b"), images=slices.images, shapes=((2, 2), (4, 4)))
    assert difference(expected, found, large, MaskSettings(), BINARY).mask_px == 1


ALLOWED_BOUNDS = [(1e-3, 4, True), (1.01e-3, 0, False), (0.0, 5, False), (float("nan"), 0, False)]


@pytest.mark.parametrize(("probability", "mask_px", "is_allowed"), ALLOWED_BOUNDS)
def test_rounding_is_allowed_and_no_more(probability: float, mask_px: int, is_allowed: bool) -> None:
    found = Deviation(probability=probability, mask_px=mask_px, mask_id="s")
    if is_allowed:
        check(found, called="the file")
    else:
        with pytest.raises(BrainsegError, match="Nothing was written"):
            check(found, called="the file")
