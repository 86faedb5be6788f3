"""A served model of classes, of colours and of named channels: what it takes and what it answers."""

import base64
import io
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from brainseg.config import DataConfig
from brainseg.inference.postprocess import MaskSettings
from brainseg.register.serving import LOADER, Served, _load_pyfunc, example_request, write_served
from brainseg.tracking.mlflow.model_folders import try_served_folder, write_served_folder

SIZE = 8
COLOURS = np.repeat(np.array([(255, 0, 0), (0, 255, 0), (0, 0, 0)], np.uint8)[np.newaxis], 4, axis=0)  # 4 by 3
ORANGE = (230, 159, 0)


def pixelwise(kernel: list[list[float]], bias: list[float], activation: str) -> Any:
    """A network that sees each pixel alone. kernel: (channels in, outputs)."""
    weights = np.array(kernel, np.float32)
    layer = keras.layers.Conv2D(weights.shape[1], 1, activation=activation)
    model = keras.Sequential([keras.Input((SIZE, SIZE, weights.shape[0])), layer])
    model.set_weights([weights[np.newaxis, np.newaxis], np.array(bias, np.float32)])
    return model


def written(folder: Path, model: Any, **data: Any) -> Path:
    """What is served, in a new folder."""
    model.save(folder / "own.keras")
    served = Served(
        run_id="r1", data=DataConfig(image_size=SIZE, **data), threads=None, settings=MaskSettings(threshold=0.5)
    )
    write_served(folder / "data", served, model_file=folder / "own.keras", statistics=None)
    return folder / "data"


def encoded(image: NDArray[np.uint8]) -> str:
    content = io.BytesIO()
    Image.fromarray(image).save(content, format="PNG")
    return base64.b64encode(content.getvalue()).decode()


def decoded(text: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(text)))


def test_exclusive_classes_are_answered_with_a_label_image_and_a_mask_each(tmp_path: Path) -> None:
    model = pixelwise([[0, 9, 0], [0, 0, 9], [0, 0, 0]], [1, 0, 0], "softmax")
    folder = written(tmp_path, model, channels="rgb", classes={"car": 7, "road": 9}, window=(0, 1000))
    served = _load_pyfunc(str(folder))
    answer, broken = served.predict({"image": [encoded(COLOURS), "no image!"]})
    assert list(answer) == ["mask", "width", "height", "classes", "warnings", "error"]
    assert (answer["width"], answer["height"], answer["warnings"], answer["error"]) == (3, 4, [], None)
    mask = decoded(answer["mask"])
    assert np.asarray(mask).tolist() == [[7, 9, 0]] * 4
    assert mask.convert("RGB").getpixel((0, 0)) == ORANGE
    assert list(answer["classes"]) == ["car", "road"]
    car, road = answer["classes"].values()
    assert list(car) == ["value", "mask", "area_px", "confidence", "max_probability"]
    assert (car["value"], car["area_px"], road["value"], road["area_px"]) == (7, 4, 9, 4)
    assert np.asarray(decoded(car["mask"])).tolist() == [[255, 0, 0]] * 4
    assert 0.99 < car["confidence"] <= car["max_probability"] < 1
    assert broken["error"].startswith("image 2 is not base64 (")
    assert broken == {**dict.fromkeys(answer), "warnings": [], "error": broken["error"]}


def test_overlapping_classes_are_answered_with_a_mask_each(tmp_path: Path) -> None:
    model = pixelwise([[9, 9], [9, -9], [9, -9]], [-4, -4], "sigmoid")
    folder = written(tmp_path, model, channels="rgb", classes={"bright": [1, 2], "red": [2]})
    (answer,) = _load_pyfunc(str(folder)).predict({"image": [encoded(COLOURS)]})
    assert answer["mask"] is None
    found = {name: np.asarray(decoded(of_class["mask"]))[0].tolist() for name, of_class in answer["classes"].items()}
    assert found == {"bright": [255, 255, 0], "red": [255, 0, 0]}
    assert [of_class["value"] for of_class in answer["classes"].values()] == [None, None]


CHANNELS = {"channels": ["flair", "t1"]}


def test_a_request_has_a_column_for_each_named_channel(tmp_path: Path) -> None:
    folder = written(tmp_path, pixelwise([[9], [-9]], [-1], "sigmoid"), **CHANNELS)
    served = _load_pyfunc(str(folder))
    bright, dark = np.full((4, 3), 250, np.uint8), np.full((4, 3), 9, np.uint8)
    bright[0, 0] = dark[0, 0] = 0
    rows = {
        "flair": [encoded(bright), encoded(dark), encoded(dark), encoded(dark)],
        "t1": [encoded(dark), encoded(bright), encoded(dark[:2]), "no image!"],
    }
    first, second, sizes, text = served.predict(rows)
    assert list(first) == [
        *("mask", "width", "height", "area_px", "confidence", "max_probability"),
        *("warnings", "error"),
    ]
    assert np.asarray(decoded(first["mask"]))[2].tolist() == [255, 255, 255]
    assert second["area_px"] == 0
    assert sizes["error"] == (
        "image 3, t1 must have the size of image 3, flair, 3x4, got 3x2; export all channels at one size"
    )
    assert text["error"].startswith("image 4, t1 is not base64 (")


@pytest.mark.heavy
def test_the_served_folder_says_which_columns_and_classes_there_are(tmp_path: Path) -> None:
    data = {**CHANNELS, "classes": {"core": 1, "rest": 2}}
    model = pixelwise([[0, 9, 0], [0, 0, 9]], [1, 0, 0], "softmax")
    example = example_request(DataConfig(image_size=SIZE, **data))
    assert list(example) == ["flair", "t1"]
    folder = tmp_path / "model"
    write_served_folder(
        folder, data=written(tmp_path, model, **data), loader=LOADER, example=example, has_classes=True, run_id="r1"
    )
    (answer,) = try_served_folder(folder, example)
    assert answer["error"] is None
    assert list(answer["classes"]) == ["core", "rest"]
    assert decoded(answer["mask"]).size == (SIZE, SIZE)
    from mlflow.models import Model

    signature = Model.load(str(folder)).signature
    assert signature is not None
    assert signature.inputs.input_names() == ["flair", "t1"]
    assert signature.outputs.input_names() == ["mask", "width", "height", "classes", "warnings", "error"]
