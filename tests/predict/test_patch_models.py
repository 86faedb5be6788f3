"""A model of patches, as a file alone: predicted, served and exported, it sees images in windows at their own size."""

import base64
import io
from pathlib import Path

import nibabel
import numpy as np
import pytest
from made_volumes import write_volume
from numpy.typing import NDArray
from PIL import Image

from brainseg.classes import BINARY
from brainseg.config import DataConfig, ModelConfig
from brainseg.export.check_slices import choose_slices
from brainseg.export.description import describe
from brainseg.export.export import export
from brainseg.inference.postprocess import MaskSettings
from brainseg.inference.windows import Windows, in_windows, windows_of
from brainseg.model.keras_file import read_model
from brainseg.model.models import build_network
from brainseg.model.stock import to_stock
from brainseg.predict.__main__ import main
from brainseg.register.serving import Served, _load_pyfunc, write_served
from brainseg.runs.models import load, segmenter_of_file

WINDOWS = Windows(size=(16, 32), standardized=True)
SIZES = [(40, 50), (16, 32), (9, 70)]  # the last one is lower than a window


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = ModelConfig(depth=1, base_filters=2, standardize=True)
    network = build_network(config, input_shape=(16, 32, 1), labels=BINARY, seed=11, windows=True)
    path = tmp_path_factory.mktemp("patches") / "patches.keras"
    to_stock(network.model).save(path)
    return path


def image_of(number: int) -> NDArray[np.uint8]:
    return np.random.default_rng(number).integers(0, 256, SIZES[number], dtype=np.uint8)


def expected(path: Path, number: int) -> NDArray[np.bool_]:
    """The mask that the windows of the image give."""
    model = read_model(path, called="it", remedy="")
    probability = in_windows(image_of(number)[..., np.newaxis], WINDOWS, lambda images: np.asarray(model(images)))
    mask: NDArray[np.bool_] = probability[..., 0] >= 0.5
    assert 0 < mask.mean() < 1
    return mask


@pytest.mark.heavy
def test_images_of_any_size_are_predicted_at_their_own(
    model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    for number in range(len(SIZES)):
        Image.fromarray(image_of(number)).save(f"in/{number}.png")
    assert main([str(model_file), "in", "-o", "out"]) == 0
    assert f"model    {model_file}, in windows of 32x16\n" in capsys.readouterr().out
    for number in range(len(SIZES)):
        mask = np.asarray(Image.open(f"out/masks/{number}.png"))
        np.testing.assert_array_equal(mask, expected(model_file, number) * 255)


def test_the_slices_of_a_volume_are_seen_in_windows_too(
    model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_volume(Path("scan.nii.gz"), np.stack([image_of(0), image_of(0)[::-1]], axis=-1))
    assert main([str(model_file), "scan.nii.gz", "-o", "out"]) == 0
    mask = np.asarray(nibabel.load("out/masks/scan.nii.gz").dataobj)
    np.testing.assert_array_equal(mask[..., 0], expected(model_file, 0))


@pytest.mark.heavy
def test_it_is_served_as_it_predicts(model_file: Path, tmp_path: Path) -> None:
    data = DataConfig(image_size=WINDOWS.size, channels="grey", patches=4)
    served = Served(run_id="r1", data=data, threads=None, settings=MaskSettings())
    write_served(tmp_path / "served", served, model_file=model_file, statistics=None)
    content = io.BytesIO()
    Image.fromarray(image_of(0)).save(content, format="PNG")
    requested = {"image": [base64.b64encode(content.getvalue()).decode()]}
    (answer,) = _load_pyfunc(str(tmp_path / "served")).predict(requested)
    mask = np.asarray(Image.open(io.BytesIO(base64.b64decode(answer["mask"]))))
    np.testing.assert_array_equal(mask, expected(model_file, 0) * 255)


@pytest.mark.heavy
def test_an_exported_file_says_how_it_sees_an_image_and_is_checked_on_windows(model_file: Path, tmp_path: Path) -> None:
    segmenter = segmenter_of_file(model_file, given={})
    model, data = load(segmenter)
    assert windows_of(model) == WINDOWS
    slices = choose_slices(None, data, windows=WINDOWS, data=None, count=3)
    assert (slices.images.shape, slices.shapes) == ((3, 16, 32, 1), ((16, 32),) * 3)
    assert slices.images.min() < 0  # standardised
    path = tmp_path / "exported.keras"
    export(segmenter, model, data, format_name="keras", path=path, slices=slices)
    assert windows_of(read_model(path, called="it", remedy="")) == WINDOWS
    told = describe(segmenter, data, WINDOWS)
    assert "brainseg.resize" not in told
    assert told["brainseg.image_size"] == "[16, 32]"
    assert told["brainseg.windows"].startswith("the image at its own size, cut into windows of image_size that overlap")
    assert told["brainseg.standardize"] == (
        "(value - mean) / sqrt(variance + 0.001), with mean and variance of each channel of the whole image after "
        "scaling, before it is cut"
    )
