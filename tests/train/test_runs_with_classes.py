"""Whole runs with several classes, in colour, and of named channels: what is recorded, and that it can be repeated."""

import csv
import dataclasses
import io
import signal
from collections import defaultdict

import keras
import numpy as np
import pytest
from PIL import Image
from tiny_run import TIMINGS

from brainseg.data.load import load_data
from brainseg.errors import Interrupted
from brainseg.scoring.predictions import load_predictions
from brainseg.tracking import MODEL_FILE, MemoryTracker
from brainseg.train.experiment import run
from brainseg.train.progress import Silent

pytestmark = [pytest.mark.heavy, pytest.mark.usefixtures("unrendered")]

CLASSES = ("core", "rim", "oedema")
KEYS = {
    "data.phantom_kind": "classes",
    "data.phantom_patients": 10,
    "data.foreground_share": 0.5,
    "model.depth": 1,
    "model.foreground_prior": 0.05,
    "train.loss": "dice+focal",
    "train.epochs": 3,
    "optimizer.learning_rate": 0.02,
}


@pytest.fixture(autouse=True)
def dtype_policy():
    """Runs set it for the whole process."""
    before = keras.config.dtype_policy()
    yield
    keras.config.set_dtype_policy(before)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_in):
    """The record of a run of `KEYS` that nothing disturbed, and its result."""
    tracker = MemoryTracker()
    return tracker, run(tiny_in(tmp_path_factory.mktemp("classes"), **KEYS), tracker)


def rows_of(tracker):
    return list(csv.DictReader(io.StringIO(tracker.texts["val_scores.csv"])))


def without_timings(history):
    return [{name: value for name, value in metrics.items() if name not in TIMINGS} for metrics in history]


def test_a_run_records_each_class_and_ranks_by_their_mean_over_cases(finished):
    tracker, result = finished
    rows = rows_of(tracker)
    assert {row["class"] for row in rows} == set(CLASSES)
    assert len(rows) == 3 * len({row["id"] for row in rows})
    # Left out of a class's mean: slices where neither the true nor the predicted mask has it, whose Dice is 1.
    counted = defaultdict(list)
    for row in rows:
        if int(row["area_px"]) or float(row["dice"]) < 1:
            counted[row["class"]].append(float(row["dice"]))
    means = {name: np.mean(dices) for name, dices in counted.items()}
    assert result.dice_by_class == pytest.approx(means)
    assert result.final_dice == pytest.approx(np.mean(list(means.values())))
    last = tracker.metrics[-1][1]
    assert {name: last[f"final_dice_{name}"] for name in CLASSES} == pytest.approx(means)
    assert "val_dice_image_rim" in tracker.metrics[0][1]
    assert (tracker.params["data.channels"], tracker.params["data.score_by"]) == ("grey", "case")


def test_a_class_is_scored_as_a_mask_of_its_own(finished, tmp_path, tiny):
    tracker, _ = finished
    path = tmp_path / "predictions.npz"
    path.write_bytes(tracker.files["val_predictions.npz"])
    predictions = load_predictions(path)
    source = load_data(tiny(**KEYS)).slices.source
    for row in rows_of(tracker):
        place = CLASSES.index(row["class"])
        truth, predicted = source.read(row["id"])[1][..., 0] == place + 1, predictions[row["id"]][..., place]
        total = truth.sum() + predicted.sum()
        dice = 2 * (truth & predicted).sum() / total if total else 1.0
        assert float(row["dice"]) == pytest.approx(dice), row["id"]


class StoppedInStep(Silent):
    """Sends a signal in a step of the second epoch."""

    def step(self, *, epoch, step, dice, images_per_second):
        if (epoch, step) == (2, 2):
            signal.raise_signal(signal.SIGTERM)


# test_experiment.py has it for one class, test_patches.py and test_batches.py that batches go on as they were.
@pytest.mark.slow
def test_a_run_that_was_stopped_ends_as_if_it_had_not_been(finished, tiny):
    config, tracker = tiny(**KEYS), MemoryTracker()
    with pytest.raises(Interrupted):
        run(config, tracker, reporter=StoppedInStep())
    result = run(dataclasses.replace(config, resume="memory"), tracker)
    assert without_timings(result.history) == without_timings(finished[1].history)
    assert tracker.texts["val_scores.csv"] == finished[0].texts["val_scores.csv"]


def model_of(tracker, folder):
    folder.mkdir()
    (folder / "model.keras").write_bytes(tracker.files[MODEL_FILE])
    return keras.saving.load_model(folder / "model.keras", safe_mode=True)


def test_contrast_that_lies_in_colour_alone_is_learned(tiny):
    keys = {
        "data.phantom_kind": "colour",
        "data.phantom_patients": 9,
        "data.augment": "none",
        "model.depth": 1,
        "model.foreground_prior": 0.05,
        "optimizer.learning_rate": 0.02,
        "train.epochs": 12,
    }
    # test_phantom.py has that in grey there is no contrast.
    assert run(tiny(**keys), MemoryTracker()).best_val_dice_image > 0.5


def test_named_channels_and_overlapping_regions_are_trained_and_recorded(tiny, tmp_path):
    folder = tmp_path / "set"
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(6):
        mask = np.zeros((40, 36), np.uint8)
        mask[8:30, 6:28], mask[14:22, 10:20] = 1, 2  # the whole, and its core
        for name, level in (("flair", mask > 0), ("t1", mask == 2)):
            noise = rng.integers(0, 90, mask.shape)
            Image.fromarray((noise + 160 * level).astype(np.uint8)).save(folder / "images" / f"{number}_{name}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{number}.png")
    keys = {
        "data.name": "folder",
        "data.root": str(folder),
        "data.cache_dir": str(tmp_path / "cache"),
        "data.split_by": "image",
        "data.channels": ["flair", "t1"],
        "data.classes": {"whole": [1, 2], "core": 2},
        "data.batch_size": 2,
        "train.loss": "bce_dice",
        "train.deep_supervision": 0.5,
        "train.epochs": 20,
        "optimizer.learning_rate": 0.05,
    }
    tracker = MemoryTracker()
    result = run(tiny(**keys), tracker)
    model = model_of(tracker, tmp_path / "model")
    assert (model.input_shape[-1], model.output_shape[-1], model.layers[-1].activation.__name__) == (2, 2, "sigmoid")
    assert {row["class"]: int(row["area_px"]) for row in rows_of(tracker)} == {"whole": 22 * 22, "core": 8 * 10}
    assert min(result.dice_by_class.values()) > 0.5
