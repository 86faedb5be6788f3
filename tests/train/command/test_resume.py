"""What a resume refuses, with nothing changed in the store, and what it may change."""

import shutil
import signal

import numpy as np
import pytest
from PIL import Image
from trainings import PLAIN

from brainseg.config_file import from_yaml


def write_slices(root):
    """A folder of eight slices of noise, each with a square of tumour."""
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for number in range(8):
        Image.fromarray(rng.integers(0, 256, (16, 16), dtype=np.uint8)).save(root / "images" / f"{number}.png")
        mask = np.zeros((16, 16), np.uint8)
        mask[4:10, number : number + 6] = 255
        Image.fromarray(mask).save(root / "masks" / f"{number}.png")


@pytest.fixture(scope="module")
def killed(commands, uninterrupted, tmp_path_factory):
    """A run on a folder, killed after its first epoch: its id and the folder.

    After `uninterrupted`, whose start would notice that this run's process is gone.
    """
    root = tmp_path_factory.mktemp("slices") / "set"
    write_slices(root)
    split = root.with_name("split.json")
    parts = '"train": ["0", "1", "2", "3", "4", "5"], "val": ["6", "7"]'
    split.write_text(f'{{"schema_version": 1, {parts}}}')
    overrides = ("data=folder", f"data.root={root}", f"data.split_file={split}", "train.epochs=1000")
    shared = (override for override in commands.small if not override.startswith("data.phantom"))
    training = commands.start(*shared, *PLAIN, *overrides)
    training.wait_for("epoch    1/1000")
    assert training.stop() == -signal.SIGKILL, training.text
    split.unlink()  # the run keeps its split
    return training.run_id, root


def refused(commands, run_id, *overrides):
    """What a resume answers that is refused, once it is sure that nothing was changed by it."""
    before = commands.store.read(run_id), commands.points(run_id), stored_files(commands, run_id)
    training = commands.start(f"resume={run_id}", *overrides)
    assert training.exit_code() == 2, training.text
    assert (commands.store.read(run_id), commands.points(run_id), stored_files(commands, run_id)) == before
    (line,) = training.text.splitlines()
    return line


def stored_files(commands, run_id):
    folder = commands.checkpoints(run_id).folder
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*") if not path.name.startswith("lease")}


@pytest.mark.parametrize(
    ("override", "values"),
    [
        ("model.dropout=0.3", ("model.dropout", "0.2", "0.3")),
        ("seed=1", ("seed", "0", "1")),
        ("train.threads=1", ("train.threads", "2", "1")),
        ("data.augment=none", ("data.augment", "'standard'", "'none'")),
    ],
)
def test_another_value_of_a_key_is_refused_with_both_values(commands, killed, override, values):
    key, before, after = values
    line = refused(commands, killed[0], override)
    assert line.startswith(f"error: {key} can't change on a resume: the run has {before}, got {after}; ")
    assert "train.epochs and train.patience" in line


def test_data_with_one_changed_pixel_are_refused(commands, killed):
    run_id, root = killed
    path = root / "images" / "3.png"
    kept = path.read_bytes()
    image = np.array(Image.open(path))
    image[0, 0] ^= 1
    Image.fromarray(image).save(path)
    try:
        line = refused(commands, run_id)
    finally:
        path.write_bytes(kept)
    assert line.startswith(f"error: resume={run_id}: the data in {root} has changed since the run started; ")


def test_data_with_a_slice_more_are_refused(commands, killed):
    run_id, root = killed
    added = [root / name / "9.png" for name in ("images", "masks")]
    for path in added:
        shutil.copy(path.with_name("3.png"), path)
    try:
        line = refused(commands, run_id)
    finally:
        for path in added:
            path.unlink()
    assert "has changed since the run started" in line


def test_a_run_that_is_alive_is_refused_and_its_process_named(commands, killed):
    with commands.checkpoints(killed[0]).lease():
        line = refused(commands, killed[0])
    assert line.startswith(f"error: resume={killed[0]}: the run is alive, in process ")


def test_an_unknown_run_is_refused(commands, uninterrupted):
    training = commands.start("resume=0123456789abcdef")
    assert training.exit_code() == 2
    (line,) = training.text.splitlines()
    assert line.startswith("error: resume=0123456789abcdef: there is no checkpoint of this run in ")


def test_a_finished_run_is_refused(commands, uninterrupted):
    line = refused(commands, uninterrupted)
    assert f"resume={uninterrupted}: there is no checkpoint" in line
    assert "finished runs keep no checkpoint" in line


def test_epochs_may_change_and_the_split_file_may_be_gone(commands, killed):
    run_id, _ = killed
    assert commands.store.read(run_id).status == "RUNNING"  # nobody could say that it was killed
    history = commands.checkpoints(run_id).load().progress.history
    epochs = len(history) + 3
    training = commands.start(f"resume={run_id}", f"train.epochs={epochs}")
    assert training.exit_code() == 0, training.text
    record = commands.store.read(run_id)
    assert record.status == "FINISHED"
    assert sorted(record.metrics["train_loss"]) == list(range(1, epochs + 1))
    before = [record.metrics["train_loss"][epoch] for epoch in range(1, len(history) + 1)]
    assert before == [epoch["train_loss"] for epoch in history]
    stored = from_yaml(commands.store.text(run_id, "config.yaml"), where="the record")
    assert (stored.train.epochs, stored.resume) == (epochs, None)


def test_a_run_that_becomes_nan_fails_with_exit_code_1(commands):
    # Each step multiplies the kernels by 1 - 9 * 1: they overflow within two epochs.
    explosive = (
        "optimizer=sgd",
        "optimizer.learning_rate=9",
        "optimizer.weight_decay=1",
        "optimizer.schedule=constant",
    )
    training = commands.start(*commands.small, *PLAIN, *explosive)
    assert training.exit_code() == 1, training.text
    line = training.text.splitlines()[-1]
    assert line.startswith("error: ")
    assert "in epoch " in line
    record = commands.store.read(training.run_id)
    assert (record.status, record.tags["state"]) == ("FAILED", "failed")
    assert record.tags["failure"] == f"NonFiniteError: {line.removeprefix('error: ')}"
