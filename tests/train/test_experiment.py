"""One run in this process, with its record in memory: what is recorded, and that it can be repeated."""

import csv
import dataclasses
import gc
import io
import itertools
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import f1_score, jaccard_score
from tiny_run import TIMINGS

from brainseg.config import OWN_TAGS, flatten
from brainseg.config_file import from_yaml
from brainseg.data.cache import resize_image
from brainseg.data.load import load_data
from brainseg.data.training_statistics import statistics_of
from brainseg.errors import Interrupted, NonFiniteError
from brainseg.scoring.predictions import load_predictions
from brainseg.scoring.slice_score import TRAINING_COLUMNS
from brainseg.tracking import MODEL_FILE, MemoryTracker
from brainseg.train.checkpoint import Checkpoints
from brainseg.train.environment import code_state
from brainseg.train.experiment import run
from brainseg.train.progress import Silent
from brainseg.train.record import as_recorded

pytestmark = [pytest.mark.heavy, pytest.mark.usefixtures("unrendered")]

# Small, but with more validation slices than an evaluation batch holds.
KEYS = {
    "data.phantom_patients": 16,
    "data.val_fraction": 0.4,
    "data.batch_size": 5,
    "model.depth": 1,
    "model.base_filters": 2,
    "model.dropout": 0.2,
    "optimizer.learning_rate": 0.02,
    "optimizer.schedule": "constant",
    "train.epochs": 4,
}
SMALLEST = {
    "data.image_size": 16,
    "model.depth": 1,
    "model.base_filters": 4,
    "optimizer.warmup_epochs": 0.0,
    "optimizer.schedule": "constant",
    "tracking.predictions": 0,
}
EPOCH_METRICS = {
    *("train_loss", "train_dice", "val_loss", "val_dice", "val_dice_image"),
    *("learning_rate", "seconds", "images_per_second"),
}
FINAL_METRICS = {"best_val_dice_image", "best_epoch", "final_dice", "parameters", "seconds_per_image"}


@pytest.fixture(autouse=True)
def dtype_policy():
    """Runs set it for the whole process."""
    before = keras.config.dtype_policy()
    yield
    keras.config.set_dtype_policy(before)


@dataclasses.dataclass
class Finished:
    config: object
    tracker: MemoryTracker
    result: object
    data: object


@pytest.fixture(scope="module")
def finished(tmp_path_factory, slice_cache, tiny_in):
    """A run of `KEYS` that nothing disturbed."""
    config = tiny_in(tmp_path_factory.mktemp("finished"), **KEYS)
    tracker = MemoryTracker()
    result = run(config, tracker)
    return Finished(config=config, tracker=tracker, result=result, data=load_data(config))


@pytest.fixture
def saved_model(finished, tmp_path):
    """The recorded model, as anybody reads it."""
    return read_model(finished.tracker, tmp_path)


def read_model(tracker, folder):
    path = folder / "model.keras"
    path.write_bytes(tracker.files[MODEL_FILE])
    return keras.saving.load_model(path, compile=False, safe_mode=True)


def assert_same_weights(tracker, other, folder):
    arrays, others = (read_model(one, folder).get_weights() for one in (tracker, other))
    assert len(arrays) == len(others) > 10
    for array, expected in zip(arrays, others, strict=True):
        np.testing.assert_array_equal(array, expected, strict=True)


class SignalledAtTheEnd(MemoryTracker):
    """Is sent a signal while the last of the record is written, and another one while the run is being ended."""

    def log_model(self, path):
        signal.raise_signal(signal.SIGTERM)
        super().log_model(path)

    def __exit__(self, *raised):
        signal.raise_signal(signal.SIGTERM)
        super().__exit__(*raised)


def test_a_signal_while_the_record_is_written_waits_for_its_end_and_is_told(tiny):
    tracker = SignalledAtTheEnd()
    result = run(tiny(**KEYS | {"train.epochs": 1}), tracker)
    assert (tracker.status, MODEL_FILE in tracker.files, result.stopped_by) == ("FINISHED", True, signal.SIGTERM)


def without_timings(history):
    return [{k: v for k, v in epoch.items() if k not in TIMINGS} for epoch in history]


def test_the_record_is_complete(finished):
    tracker, data = finished.tracker, finished.data
    assert tracker.status == "FINISHED"
    recorded = as_recorded(data.config)
    assert recorded.tracking.experiment == "brainseg"  # what `null` stands for without MLflow's environment
    assert tracker.params == {key: str(value) for key, value in flatten(recorded).items() if key != "resume"}
    assert tracker.tags.keys() <= set(OWN_TAGS)
    code = code_state()
    of_code = {} if code is None else {
        "git_commit": code.commit, "code_changed": "yes" if code.diff else "no"
    }  # fmt: skip
    tags = dict(tracker.tags)
    note = tags.pop("description")
    tags.pop("code_changed", None)
    of_code.pop("code_changed", None)  # others may edit the checkout meanwhile
    assert tags == of_code | {
        "state": "finished",
        "schema_version": "1",
        "data": "phantom",
        "data_fingerprint": data.slices.fingerprint,
        "split": "patient",
        "split_fingerprint": data.split.fingerprint,
        "patients_on_both_sides": "0",
        "precision": "float32",
        "threads": "2",
    }
    assert note.startswith(f"**Dice {finished.result.final_dice:.4f}** over {len(data.split.val)} validation slices")
    assert tracker.dataset.fingerprint == data.slices.fingerprint
    assert tracker.dataset.slices == len(data.slices.slices)
    assert set(tracker.texts) - {"environment/code.diff"} == {
        "config.yaml", "split.json", "data_statistics.json", "val_scores.csv", "environment/packages.txt",
        "environment/machine.json",
    }  # fmt: skip
    assert set(tracker.files) == {MODEL_FILE, "val_predictions.npz", "figures/curves.png", "figures/predictions.png"}
    assert from_yaml(tracker.texts["config.yaml"], where="the record") == recorded
    assert json.loads(tracker.texts["split.json"])["val"] == list(data.split.val)
    assert tracker.texts["data_statistics.json"] == statistics_of(data.slices, data.split.train).to_json()


def test_every_epoch_has_its_metrics_and_the_last_one_the_final_scores(finished):
    recorded = [(epoch, set(metrics)) for epoch, metrics in finished.tracker.metrics]
    assert recorded == [(1, EPOCH_METRICS), (2, EPOCH_METRICS), (3, EPOCH_METRICS), (4, EPOCH_METRICS | FINAL_METRICS)]
    result = finished.result
    for (_, metrics), epoch in zip(finished.tracker.metrics, result.history, strict=True):
        assert {key: metrics[key] for key in EPOCH_METRICS} == epoch
    final = finished.tracker.metrics[-1][1]
    assert {key: final[key] for key in FINAL_METRICS} == {
        "best_val_dice_image": result.best_val_dice_image,
        "best_epoch": result.best_epoch,
        "final_dice": result.final_dice,
        "parameters": result.parameters,
        "seconds_per_image": result.seconds_per_image,
    }
    assert 0 < result.seconds_per_image < 60
    assert (result.unwritten, result.undelivered, result.run_id) == ((), 0, "memory")


def test_the_best_epoch_is_the_first_with_the_highest_score(finished):
    scores = [epoch["val_dice_image"] for epoch in finished.result.history]
    assert finished.result.best_epoch == scores.index(max(scores)) + 1
    assert finished.result.best_val_dice_image == max(scores)


def test_a_finished_run_keeps_no_checkpoint(finished):
    assert not Checkpoints(Path(finished.config.tracking.root), "memory").folder.exists()


def test_the_saved_model_is_the_best_epochs_and_its_soft_dice_is_of_batches_of_16(finished, saved_model):
    result, data = finished.result, finished.data
    assert result.best_epoch < len(result.history), "the last epoch must not be the best for this test to say anything"
    ids = sorted(data.split.val)
    assert len(ids) > 16
    where = [[item.id for item in data.slices.slices].index(slice_id) for slice_id in ids]
    soft, hard = [], []
    for first in range(0, len(ids), 16):
        chosen = where[first : first + 16]
        images = np.asarray(data.slices.images[chosen], np.float32) / np.float32(255)
        masks = np.asarray(data.slices.masks[chosen], np.float64)
        found = np.asarray(saved_model(images, training=False), np.float64)
        soft.append((2 * (masks * found).sum() + 1) / (masks.sum() + found.sum() + 1))
        hard += [
            f1_score(mask.ravel(), (one >= 0.5).ravel(), zero_division=1.0)
            for mask, one in zip(masks, found, strict=True)
        ]
    best = result.history[result.best_epoch - 1]
    assert best["val_dice"] == pytest.approx(np.mean(soft), abs=1e-6)
    assert best["val_dice_image"] == pytest.approx(np.mean(hard), abs=1e-6)


def independent_scores(model, source, slice_ids, size):
    """Id -> (Dice, IoU) at the stored size, by other libraries, one slice at a time."""
    scores = {}
    for slice_id in slice_ids:
        image, mask = source.read(slice_id)
        batch = resize_image(image, (size, size))[None].astype(np.float32) / np.float32(255)
        resized = tf.image.resize(model(batch, training=False), mask.shape[:2], antialias=False)
        predicted = (np.asarray(resized)[0, :, :, 0] >= 0.5).ravel()
        scores[slice_id] = (
            f1_score(mask.ravel(), predicted, zero_division=1.0),
            jaccard_score(mask.ravel(), predicted, zero_division=1.0),
        )
    return scores


def assert_scores_are_independent(tracker, model, data, size):
    rows = list(csv.DictReader(io.StringIO(tracker.texts["val_scores.csv"])))
    assert [row["id"] for row in rows] == sorted(data.split.val)
    expected = independent_scores(model, data.slices.source, [row["id"] for row in rows], size)
    for row in rows:
        assert (float(row["dice"]), float(row["iou"])) == pytest.approx(expected[row["id"]], abs=1e-6), row["id"]
        assert int(row["area_px"]) == data.slices.source.read(row["id"])[1].sum()
    final = tracker.record().metrics["final_dice"]
    assert list(final.values()) == pytest.approx([np.mean([dice for dice, _ in expected.values()])], abs=1e-6)


def test_the_final_scores_are_those_of_other_libraries_at_the_stored_size(finished, saved_model):
    assert_scores_are_independent(finished.tracker, saved_model, finished.data, 32)
    assert tuple(finished.tracker.texts["val_scores.csv"].splitlines()[0].split(",")) == TRAINING_COLUMNS


def test_the_recorded_predictions_have_the_recorded_scores(finished, tmp_path):
    path = tmp_path / "predictions.npz"
    path.write_bytes(finished.tracker.files["val_predictions.npz"])
    predictions = load_predictions(path)
    rows = list(csv.DictReader(io.StringIO(finished.tracker.texts["val_scores.csv"])))
    assert list(predictions) == [row["id"] for row in rows]
    for row in rows:
        mask = finished.data.slices.source.read(row["id"])[1]
        expected = f1_score(mask.ravel(), predictions[row["id"]].ravel(), zero_division=1.0)
        assert float(row["dice"]) == pytest.approx(expected, abs=1e-12)


@pytest.mark.figshare
def test_the_scores_of_real_slices_are_those_of_other_libraries(figshare, tiny, tmp_path):
    root = tmp_path / "real"
    rows = (figshare / "metadata.csv").read_text().splitlines()
    chosen = rows[1::51]
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
        for row in chosen:
            file = f"{row.partition(',')[0]}.png"
            (root / name / file).symlink_to(figshare / name / file)
    (root / "metadata.csv").write_text("\n".join([rows[0], *chosen]) + "\n")
    keys = {"data.name": "folder", "data.root": str(root), "data.image_size": 64, "data.cache_dir": None}
    config = tiny(**KEYS | keys | {"train.epochs": 1, "data.split_by": "image"})
    tracker = MemoryTracker()
    run(config, tracker)
    data = load_data(config)
    assert len(data.slices.slices) >= 60
    assert data.slices.source.read(data.split.val[0])[1].shape != (64, 64)
    assert_scores_are_independent(tracker, read_model(tracker, tmp_path), data, 64)


def test_the_same_configuration_gives_the_same_run(finished, tiny, tmp_path):
    tracker = MemoryTracker()
    result = run(tiny(**KEYS), tracker)
    assert without_timings(result.history) == without_timings(finished.result.history)
    assert_same_weights(tracker, finished.tracker, tmp_path)
    assert tracker.texts["val_scores.csv"] == finished.tracker.texts["val_scores.csv"]


def test_a_finished_run_leaves_nothing_of_its_graph_in_memory(tiny, tmp_path):
    # A sweep's worker trains many models in one process.
    config = tiny(**{"tracking.root": str(tmp_path), "model.depth": 1, "train.epochs": 1})
    gc.collect()  # what other tests have left would hide a leak
    before = _train_steps()
    run(config, MemoryTracker())
    keras.backend.clear_session()
    gc.collect()
    assert _train_steps() <= before


def _train_steps():
    """How many graphs of a training step are in memory."""
    return sum(type(each).__name__ == "FuncGraph" and each.name == "_step" for each in gc.get_objects())


def test_another_seed_gives_another_run_on_the_same_split(finished, tiny):
    tracker = MemoryTracker()
    result = run(tiny(**KEYS | {"seed": 1, "train.epochs": 1}), tracker)
    assert result.history[0]["train_loss"] != finished.result.history[0]["train_loss"]
    assert tracker.texts["split.json"] == finished.tracker.texts["split.json"]


def test_patience_ends_a_run_that_gets_no_better(tiny):
    keys = {"optimizer.learning_rate": 1e-12, "model.norm": "none", "train.epochs": 9, "train.patience": 2}
    result = run(tiny(**KEYS | keys), MemoryTracker())
    assert (len(result.history), result.best_epoch) == (3, 1)


class Signals(Silent):
    """Sends signals at a moment of the training."""

    def __init__(self, *, epoch, step=None, count=1):
        self._when, self._count = (epoch, step), count
        self.said = []

    def say(self, text):
        self.said.append(text)

    def step(self, *, epoch, step, dice, images_per_second):
        self._send(epoch, step)

    def epoch(self, epoch, metrics):
        self._send(epoch, None)

    def _send(self, epoch, step):
        if (epoch, step) == self._when:
            for _ in range(self._count):
                signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize(
    ("moment", "stored"),
    [
        pytest.param({"epoch": 2, "step": 3}, (2, 3), id="in mid-epoch"),
        pytest.param({"epoch": 4}, (5, 0), id="after the last epoch"),
        # test_signals.py has the rule
        pytest.param({"epoch": 3, "step": 2, "count": 2}, (3, 2), id="twice, as by SLURM", marks=pytest.mark.slow),
    ],
)
def test_a_signalled_run_is_killed_and_resumes_to_the_same_end(finished, tiny, tmp_path, moment, stored):
    config = tiny(**KEYS)
    tracker, reporter = MemoryTracker(), Signals(**moment)
    with pytest.raises(Interrupted, match="stopped by SIGTERM"):
        run(config, tracker, reporter=reporter)
    assert (tracker.status, tracker.state) == ("KILLED", "killed")
    checkpoints = Checkpoints(tmp_path / "mlruns", "memory")
    assert checkpoints.manifest().store == tracker.store == "memory"
    progress = checkpoints.load().progress
    assert (progress.epoch, progress.step) == stored

    resumed = Signals(epoch=0)
    result = run(dataclasses.replace(config, resume="memory"), tracker, reporter=resumed)
    here = f"in epoch {stored[0]}, after {stored[1]} of its steps"
    assert f"goes on {'after epoch 4, the last one' if stored == (5, 0) else here}" in resumed.said
    assert without_timings(result.history) == without_timings(finished.result.history)
    assert [epoch for epoch, _ in tracker.metrics] == [1, 2, 3, 4]
    assert (tracker.status, tracker.state) == ("FINISHED", "finished")
    assert_same_weights(tracker, finished.tracker, tmp_path)
    assert not checkpoints.folder.exists()


@pytest.mark.slow  # test_optimizers.py has the rule for each of them
@pytest.mark.parametrize("name", ["lamb", "nadam", "rmsprop", "lion", "adafactor", "muon"])
def test_what_an_optimizer_remembers_is_in_the_checkpoint(tiny, tmp_path, name):
    config = tiny(**SMALLEST, **{"optimizer.name": name, "train.ema_decay": 0.5})
    checkpoint, kept = Checkpoints(tmp_path / "mlruns", "memory").folder, tmp_path / "kept"
    straight, resumed = MemoryTracker(), MemoryTracker()

    def keep_first(epoch, _):
        if epoch == 1:
            shutil.copytree(checkpoint, kept)

    expected = run(config, straight, on_epoch=keep_first)
    shutil.copytree(kept, checkpoint)
    reporter = Signals(epoch=0)
    result = run(dataclasses.replace(config, resume="memory"), resumed, reporter=reporter)
    assert without_timings(result.history) == without_timings(expected.history)
    assert "goes on in epoch 2, after 0 of its steps" in reporter.said
    assert_same_weights(resumed, straight, tmp_path)


def test_a_full_disk_costs_checkpoints_and_not_the_training(tiny, tmp_path, monkeypatch):
    def full(self, state):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Checkpoints, "save", full)
    tracker, reporter = MemoryTracker(), Signals(epoch=0)
    result = run(tiny(**KEYS | {"train.epochs": 2}), tracker, reporter=reporter)
    assert (tracker.status, len(result.history)) == ("FINISHED", 2)
    assert result.unwritten == ("the checkpoint of epoch 2 (No space left on device)",)
    warnings = [line for line in reporter.said if line.startswith("warning: no checkpoint in ")]
    assert len(warnings) == 1  # not one an epoch


def test_nan_stops_the_run_and_is_named(tiny, monkeypatch):
    steps = itertools.count(1)

    def loss_of(train, labels):
        def loss(mask, probability):
            # A graph is traced once: the count must be kept inside it.
            is_late = tf.numpy_function(lambda: next(steps) > 3, [], tf.bool)
            is_late.set_shape(())
            return tf.reduce_mean(probability) * tf.where(is_late, np.nan, 1.0)

        return loss

    monkeypatch.setattr("brainseg.train.loop.loss_of", loss_of)
    tracker = MemoryTracker()
    with pytest.raises(NonFiniteError) as failure:
        run(tiny(**KEYS), tracker)
    expected = "train_loss is nan in epoch 1, step 4; try a lower optimizer.learning_rate"
    assert str(failure.value) == expected
    assert (tracker.status, tracker.state) == ("FAILED", "failed")
    assert expected in tracker.tags["failure"]
    assert failure.value.exit_code == 1


AS_A_LIBRARY = """
import sys
from brainseg.config import from_flat
from brainseg.tracking import MemoryTracker
from brainseg.train.experiment import run
import json
tracker = MemoryTracker()
run(from_flat(json.loads(sys.argv[1])), tracker)
print(tracker.status, sorted({"hydra", "mlflow", "omegaconf", "optuna"} & set(sys.modules)))
"""


def test_a_run_as_a_library_needs_neither_hydra_nor_mlflow(tiny):
    values = flatten(tiny(**SMALLEST | {"model.norm": "none", "train.epochs": 1}))
    command = [sys.executable, "-c", AS_A_LIBRARY, json.dumps(values)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250)
    assert done.stdout.splitlines()[-1:] == ["FINISHED []"], done.stderr
