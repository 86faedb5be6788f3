"""Images in colour and of named channels; masks of several classes, exclusive and overlapping: what is written."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from brainseg.config import DataConfig, ModelConfig, RunConfig
from brainseg.config_file import to_yaml
from brainseg.data.load import source_of_folder
from brainseg.data.split import Split
from brainseg.predict.__main__ import main
from brainseg.tracking import MODEL_FILE, MemoryStore

SIZE = 8
RED, GREEN, BLUE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 0, 0)
# A row of pixels each, 3 by 8: two of every colour.
COLOURS = np.repeat(np.array([RED, GREEN, BLUE, BLACK], np.uint8)[np.newaxis], 2, axis=1).repeat(3, axis=0)


def linear(kernel: Sequence[Sequence[float]], bias: Sequence[float], activation: str) -> Any:
    """A network that sees each pixel alone. kernel: (channels in, outputs)."""
    weights = np.array(kernel, np.float32)
    layer = keras.layers.Conv2D(weights.shape[1], 1, activation=activation)
    model = keras.Sequential([keras.Input((SIZE, SIZE, weights.shape[0])), layer])
    model.set_weights([weights[np.newaxis, np.newaxis], np.array(bias, np.float32)])
    return model


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MemoryStore:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr("brainseg.runs.models.resolve_threads", lambda threads: 2)
    made = MemoryStore()
    monkeypatch.setattr("brainseg.tracking.open_store", lambda config: made)
    return made


def add_model(store: MemoryStore, model: Any, **data: Any) -> None:
    """memory-1, with this model and these keys of data."""
    model.save("own.keras")
    config = RunConfig(
        data=DataConfig(name="folder", root="slices", image_size=SIZE, **data), model=ModelConfig(depth=1)
    )
    with store.open_tracker(run_name="made") as tracker:
        tracker.log_text(to_yaml(config), "config.yaml")
        tracker.log_text(Split(train=("a",), val=("b",)).to_json(), "split.json")
        tracker.files[MODEL_FILE] = Path("own.keras").read_bytes()


def write(name: str, image: NDArray[np.uint8]) -> None:
    Path(name).parent.mkdir(exist_ok=True, parents=True)
    Image.fromarray(image).save(name)


def stored(name: str) -> tuple[str, NDArray[np.uint8]]:
    with Image.open(name) as image:
        return image.mode, np.asarray(image)


def everything_in(folder: str) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file()}


def rows_in(folder: str) -> list[dict[str, str]]:
    with Path(folder, "predictions.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# What is red is a car, what is green a road; black is the background, and so is blue.
CAR_AND_ROAD = linear([[0, 9, 0], [0, 0, 9], [0, 0, 0]], [1, 0, 0], "softmax")


def test_exclusive_classes_are_a_label_image_that_can_be_trained_on(
    store: MemoryStore, capsys: pytest.CaptureFixture[str]
) -> None:
    classes = {"background": 2, "car": 7, "road": 200}
    add_model(store, CAR_AND_ROAD, channels="rgb", classes=classes)
    write("in/x.png", COLOURS)
    write("in/y.png", np.full((5, 5, 3), (0, 255, 1), np.uint8))
    assert main(["memory-1", "in", "-o", "out", "--probabilities", "8"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert "images   2 of 2 predicted\nclasses  car in 1, road in 2\n" in printed.out
    kinds = ("masks", "overlays", "probabilities/car", "probabilities/road")
    pictures = {f"{kind}/{name}.png" for kind in kinds for name in "xy"}
    assert everything_in("out") == {"predictions.csv", "classes.json"} | pictures

    mode, mask = stored("out/masks/x.png")
    assert mode == "P"
    assert mask.tolist() == [[7, 7, 200, 200, 2, 2, 2, 2]] * 3
    assert json.loads(Path("out/classes.json").read_text()) == classes
    # As the masks of a data set: the same classes.
    Path("in").rename("out/images")
    again = source_of_folder(Path("out"), DataConfig(channels="rgb", classes=classes))
    assert again.read("x")[1][0, :, 0].tolist() == [1, 1, 2, 2, 0, 0, 0, 0]

    _, overlay = stored("out/overlays/x.png")
    orange, sky = (230, 159, 0), (86, 180, 233)
    assert [tuple(pixel) for pixel in overlay[1]] == [orange, orange, sky, sky, BLUE, BLUE, BLACK, BLACK]
    _, probability = stored("out/probabilities/car/x.png")
    e = np.exp
    expected = [e(9) / (e(1) + e(9) + 1), 1 / (e(1) + e(9) + 1), 1 / (e(1) + 2), 1 / (e(1) + 2)]
    assert probability[1, ::2].tolist() == [round(255 * float(each)) for each in expected]

    rows = rows_in("out")
    assert list(rows[0])[:4] == ["path", "id", "class", "width"]
    assert [(row["id"], row["class"], row["area_px"], row["area_fraction"]) for row in rows] == [
        ("x", "car", "6", "0.250000"),
        ("x", "road", "6", "0.250000"),
        ("y", "car", "0", "0.000000"),
        ("y", "road", "25", "1.000000"),
    ]
    assert (rows[0]["confidence"], rows[2]["confidence"]) == (f"{expected[0]:.4f}", "")
    assert rows[2]["warnings"] == rows[3]["warnings"] == ""


@pytest.mark.parametrize(
    ("classes", "values", "told"),
    [
        ({"car": [1, 3], "road": 2}, [1, 2, 0], {"background": 0, "car": 1, "road": 2}),
        ({"car": "#ff0000", "road": "#00ff00"}, [1, 2, 0], {"background": 0, "car": 1, "road": 2}),
        ({"car": 256, "road": 2}, [1, 2, 0], {"background": 0, "car": 1, "road": 2}),
    ],
    ids=["several values", "colours", "too large"],
)
def test_values_that_an_image_of_8_bits_can_not_have_are_counted(
    store: MemoryStore, classes: dict[str, Any], values: list[int], told: dict[str, int]
) -> None:
    add_model(store, CAR_AND_ROAD, channels="rgb", classes=classes)
    write("in/x.png", COLOURS)
    assert main(["memory-1", "in", "-o", "out"]) == 0
    assert stored("out/masks/x.png")[1][0, ::2].tolist() == [*values, values[2]]
    assert json.loads(Path("out/classes.json").read_text()) == told


def test_where_every_pixel_has_a_class_a_removed_part_has_another_value(store: MemoryStore) -> None:
    model = linear([[9, 0], [0, 9], [0, 9]], [0, 1], "softmax")
    add_model(store, model, channels="rgb", classes={"car": 0, "rest": 255})
    write("in/x.png", COLOURS)
    assert main(["memory-1", "in", "-o", "out", "--min-area", "7"]) == 0
    assert stored("out/masks/x.png")[1].tolist() == [[254, 254, *[255] * 6]] * 3
    assert json.loads(Path("out/classes.json").read_text()) == {"car": 0, "rest": 255}


def test_overlapping_classes_have_a_mask_each_and_names_that_files_can_have(
    store: MemoryStore, capsys: pytest.CaptureFixture[str]
) -> None:
    # Anything bright is of the first, red alone of the second, blue alone of the third.
    model = linear([[9, 9, -9], [9, -9, -9], [9, -9, 9]], [-4, -4, -4], "sigmoid")
    add_model(store, model, channels="rgb", classes={"in/side": [1, 2], "in side": [2], "..": [3, 1]})
    write("in/a/x.png", COLOURS)
    write("in/b/x.png", COLOURS)
    assert main(["memory-1", "in", "-o", "out", "--probabilities", "16"]) == 0
    assert "classes  in/side in 2, in side in 2, .. in 2\n" in capsys.readouterr().out
    folders = ("in_side", "in_side_2", "_")
    masks = {f"{kind}/{folder}/{i}/x.png" for kind in ("masks", "probabilities") for folder in folders for i in "ab"}
    assert everything_in("out") == {"predictions.csv", "overlays/a/x.png", "overlays/b/x.png"} | masks
    found = [stored(f"out/masks/{folder}/a/x.png") for folder in folders]
    assert [mode for mode, _ in found] == ["L"] * 3
    assert [mask[0, ::2].tolist() for _, mask in found] == [[255, 255, 255, 0], [255, 0, 0, 0], [0, 0, 255, 0]]
    assert [(row["id"], row["class"]) for row in rows_in("out")][:3] == [
        ("a/x", "in/side"),
        ("a/x", "in side"),
        ("a/x", ".."),
    ]


TWO = {"channels": ["t1", "t1_ce"]}


def two_channels() -> Any:
    """Foreground is what is brighter in the second channel than in the first."""
    return linear([[-9], [9]], [-1], "sigmoid")


def test_files_of_named_channels_are_one_image(store: MemoryStore, capsys: pytest.CaptureFixture[str]) -> None:
    add_model(store, two_channels(), **TWO)
    dark, bright = np.full((4, 6), 40, np.uint8), np.full((4, 6), 40, np.uint8)
    bright[1:3, 1:4] = 240
    for patient, first, second in (("P1", dark, bright), ("P2", bright, dark)):
        write(f"in/{patient}/7_t1.png", first)
        write(f"in/{patient}/7_t1_ce.tif", second)
        write(f"in/{patient}/7_flair.png", bright)  # of no channel of the model
    write("in/P1/8_t1.png", dark)
    write("in/P1/9_t1.png", dark)
    write("in/P1/9_t1_ce.png", dark[:3])
    write("in/P2/8_t1.png", dark)
    write("in/P2/8_t1_ce.png", dark)
    write("in/P2/8_t1.tif", dark)
    assert main(["memory-1", "in", "-o", "out"]) == 1
    printed = capsys.readouterr()
    assert printed.err.splitlines() == [
        "error: in/P1/8_t1.png lacks 8_t1_ce beside it, and the model takes t1, t1_ce; add the missing files",
        "error: in/P1/9_t1_ce.png must have the size of in/P1/9_t1.png, 6x4, got 6x3; export all channels at one size",
        "error: in/P2/8_t1.png and in/P2/8_t1.tif are both the channel t1 of one image; leave one out",
    ]
    assert "images   2 of 5 predicted, 1 with foreground\n" in printed.out
    rows = {row["id"]: row for row in rows_in("out")}
    assert list(rows) == ["P1/7", "P1/8", "P1/9", "P2/7", "P2/8"]
    assert rows["P1/7"]["path"] == "in/P1/7_t1.png; in/P1/7_t1_ce.tif"
    assert rows["P1/7"]["area_px"] == str(np.count_nonzero(stored("out/masks/P1/7.png")[1])) != "0"
    assert rows["P2/7"]["area_px"] == "0"
    _, overlay = stored("out/overlays/P2/7.png")  # on the first channel
    np.testing.assert_array_equal(overlay, np.repeat(bright[..., np.newaxis], 3, axis=-1))


def test_images_without_a_channel_in_their_names_are_refused(
    store: MemoryStore, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(threads: int | None) -> None:
        raise AssertionError("the bad input got as far as TensorFlow")

    add_model(store, two_channels(), **TWO)
    monkeypatch.setattr("brainseg.runs.models.start_tensorflow", refuse)
    write("in/x.png", COLOURS)
    assert main(["memory-1", "in", "-o", "out"]) == 2
    assert capsys.readouterr().err == (
        "error: no image's name ends in _t1, _t1_ce, which are the channels of the model (such as in/x.png); "
        "name files such as ID_t1.png\n"
    )
    assert not Path("out").exists()
