"""A checkpoint that is damaged or foreign is refused before anything is touched, in one line."""

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from refusal import exit_code

from brainseg.config import RunConfig, TrackingConfig
from brainseg.errors import Interrupted
from brainseg.tracking import open_store, open_tracker
from brainseg.train import __main__ as train
from brainseg.train import experiment
from brainseg.train.checkpoint import Checkpoints
from brainseg.train.experiment import run
from brainseg.train.single import train_single

pytestmark = pytest.mark.heavy

Arrays = dict[str, Any]


@pytest.fixture(scope="module")
def killed(
    tmp_path_factory: pytest.TempPathFactory, tiny_in: Callable[..., RunConfig], empty_store: Path
) -> tuple[TrackingConfig, str]:
    """A run that was stopped after its second epoch: its store and its id."""
    return killed_in(tmp_path_factory.mktemp("killed"), tiny_in, empty_store)


def killed_in(folder: Path, tiny_in: Callable[..., RunConfig], empty_store: Path) -> tuple[TrackingConfig, str]:
    (folder / "mlruns").mkdir()
    shutil.copy(empty_store, folder / "mlruns" / "mlflow.db")
    config = tiny_in(folder, **{"model.depth": 1, "model.base_filters": 2, "train.epochs": 3})
    tracker = open_tracker(config.tracking, run_name="killed", tags={})

    def stop_after_two(epoch: int, _: Any) -> None:
        if epoch == 2:
            raise Interrupted(15)

    with pytest.raises(Interrupted):
        run(config, tracker, on_epoch=stop_after_two)
    return config.tracking, tracker.run_id


def refused(killed: tuple[TrackingConfig, str], capsys: pytest.CaptureFixture[str], *further: str) -> str:
    """What a resume says in one line, once it is sure that it has changed nothing: not the record, nor any file."""
    tracking, run_id = killed
    root, store = Path(tracking.root), open_store(tracking)
    kept = [root / "checkpoints", root / "spool"]
    before = store.read(run_id), files_in(*kept)
    code = exit_code(train.main, [f"resume={run_id}", f"tracking.root={root}", *further])
    printed = capsys.readouterr()
    assert (code, printed.out) == (2, "")
    assert (store.read(run_id), files_in(*kept)) == before
    assert store.read(run_id).status == "KILLED"
    (line,) = printed.err.splitlines()
    return line.removeprefix("error: ")


def files_in(*folders: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def folder(killed: tuple[TrackingConfig, str]) -> Any:
    """The checkpoint folder of the run, which is put back as it was."""
    tracking, run_id = killed
    own = Path(tracking.root, "checkpoints", run_id)
    before = files_in(own)
    yield own
    for path in own.iterdir():
        path.unlink()
    for path, content in before.items():
        path.write_bytes(content)


def test_a_store_that_is_not_there_is_not_made(
    killed: tuple[TrackingConfig, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.db"
    line = refused(killed, capsys, f"tracking.uri=sqlite:///{other}")
    assert line == f"no run {killed[1]!r}, since there is no {other}; check tracking.root and tracking.uri"
    assert list(tmp_path.iterdir()) == []


def manifest(change: Callable[[Any], Any]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / "run.json"
        path.write_text(json.dumps(change(json.loads(path.read_text()))))

    return damage


def with_config(**changes: str) -> Callable[[Any], Any]:
    """A manifest whose configuration has other lines."""

    def change(stored: Any) -> Any:
        text = stored["config_yaml"]
        for before, after in changes.items():
            assert f"{before}: " in text
            text = "\n".join(
                f"{line.partition(before)[0]}{before}: {after}" if line.strip().startswith(f"{before}: ") else line
                for line in text.split("\n")
            )
        return stored | {"config_yaml": text}

    return change


def without(key: str) -> Callable[[Any], Any]:
    return lambda stored: {name: value for name, value in stored.items() if name != key}


def split_with(**parts: Any) -> Callable[[Any], Any]:
    return lambda stored: stored | {"split_json": json.dumps(json.loads(stored["split_json"]) | parts)}


MANIFESTS = {
    "a list": (lambda stored: [stored], "run.json can't be read (it must be a JSON object, got list)"),
    "null": (lambda stored: None, "run.json can't be read (it must be a JSON object, got NoneType)"),
    "another schema": (
        lambda stored: stored | {"schema_version": 2},
        "has schema_version 2, and this brainseg reads 1",
    ),
    "an unknown field": (lambda stored: stored | {"gpu": 1}, "run.json can't be read (it has an unknown field 'gpu')"),
    "a field gone": (without("threads"), "run.json can't be read (it has no 'threads')"),
    "threads in words": (
        lambda stored: stored | {"threads": "two"},
        "run.json can't be read (threads must be int, got 'two')",
    ),
    "threads below 1": (
        lambda stored: stored | {"threads": 0},
        "run.json can't be read (threads must be at least 1, got 0)",
    ),
    "another precision": (
        lambda stored: stored | {"precision": "float8"},
        "run.json can't be read (precision must be one of float32, mixed_bfloat16, got 'float8'; did you mean",
    ),
    "no configuration": (
        lambda stored: stored | {"config_yaml": "- 1"},
        "the checkpoint of run ID has schema_version None, and this brainseg reads 1",
    ),
    "a configuration of another type": (
        with_config(base_filters="many"),
        "the checkpoint of run ID is no configuration that brainseg wrote",
    ),
    "a configuration out of range": (
        with_config(base_filters="-3"),
        "model.base_filters must be between 1 and 256, got -3",
    ),
    "a split that is no JSON": (lambda stored: stored | {"split_json": "{"}, "the split in run.json is not JSON"),
    "a split of numbers": (split_with(val=[1, 2]), "the split in run.json: val must be a list of ids"),
    "a split of other slices": (split_with(val=["zz"]), "the split in run.json names slice zz, which the data doesn't"),
    "an empty part": (split_with(val=[]), "the split in run.json must have slices in train and val"),
}


@pytest.mark.parametrize(("change", "expected"), MANIFESTS.values(), ids=MANIFESTS)
def test_a_foreign_manifest_is_refused(
    change: Callable[[Any], Any],
    expected: str,
    killed: tuple[TrackingConfig, str],
    folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    manifest(change)(folder)
    line = refused(killed, capsys).replace(killed[1], "ID").replace(f"{folder.parent}/ID/", "")
    assert expected in line


def arrays(change: Callable[[Arrays], Any], name: str = "last.npz") -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (path,) = folder.glob(name)
        with np.load(path) as stored:
            content = dict(stored)
        np.savez(path, **(change(content) or content))

    return damage


def progress(**changes: Any) -> Callable[[Path], None]:
    """Other values of the progress; `...` takes a field away."""

    def change(content: Arrays) -> None:
        stored = json.loads(str(content["text"])) | changes
        content["text"] = np.array(json.dumps({key: value for key, value in stored.items() if value is not ...}))

    return arrays(change)


def history(change: Callable[[list[Any]], Any]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        with np.load(folder / "last.npz") as stored:
            before = json.loads(str(stored["text"]))["history"]
        progress(history=change(before))(folder)

    return damage


def cut(folder: Path) -> None:
    path = folder / "last.npz"
    path.write_bytes(path.read_bytes()[:-100])


def a_single_array(folder: Path) -> None:
    with (folder / "last.npz").open("wb") as file:
        np.save(file, np.zeros(3))


def a_pickle(folder: Path) -> None:
    arrays(lambda content: content | {"00000": np.array([{}], dtype=object)})(folder)


def no_best(folder: Path) -> None:
    for path in folder.glob("best-*.npz"):
        path.unlink()


STATES = {
    "cut off": (cut, "last.npz can't be read"),
    "a single array": (a_single_array, "last.npz can't be read"),
    "a pickle": (a_pickle, "last.npz can't be read"),
    "no text": (arrays(without("text")), "last.npz can't be read"),
    "text that is no JSON": (arrays(lambda content: content | {"text": np.arange(3)}), "last.npz can't be read"),
    "text that is a list": (
        arrays(lambda content: content | {"text": np.array("[]")}),
        "last.npz can't be read (it must be a JSON object, got list)",
    ),
    "an unknown field": (progress(lr=1.0), "last.npz can't be read (it has an unknown field 'lr')"),
    "no epoch": (progress(epoch=...), "last.npz can't be read (history must have 0 epochs before epoch 1, got 2)"),
    "epoch below 1": (progress(epoch=-1), "last.npz can't be read (epoch must be at least 1, got -1)"),
    "epoch in words": (progress(epoch="3"), "last.npz can't be read (epoch must be int, got '3')"),
    "step below 0": (progress(step=-1), "last.npz can't be read (step must be at least 0, got -1)"),
    "loss not finite": (progress(loss_sum=float("nan")), "last.npz can't be read (loss_sum must be finite, got nan)"),
    "history of another length": (
        history(lambda epochs: epochs[:1]),
        "last.npz can't be read (history must have 2 epochs before epoch 3, got 1)",
    ),
    "history of numbers": (
        history(lambda epochs: [0.5, 0.5]),
        "last.npz can't be read (history must have finite metrics of each epoch, val_dice_image among them)",
    ),
    "history without the score": (
        history(lambda epochs: [without("val_dice_image")(epoch) for epoch in epochs]),
        "last.npz can't be read (history must have finite metrics of each epoch, val_dice_image among them)",
    ),
    "best epoch to come": (
        progress(best_epoch=7),
        "last.npz can't be read (best_epoch must be one of the 2 before epoch 3, got 7)",
    ),
    "no best epoch": (
        progress(best_epoch=0),
        "last.npz can't be read (best_epoch must be one of the 2 before epoch 3, got 0)",
    ),
    "a step beyond the epoch": (progress(step=99), "ID isn't of this training (step 99 of an epoch of "),
    "an array gone": (arrays(without("00001")), "ID isn't of this training ("),
    "an array more": (arrays(lambda content: content | {"09999": np.zeros(2)}), "ID isn't of this training ("),
    "another shape": (
        arrays(lambda content: content | {"00000": np.zeros((5, 4), np.float32)}),
        "ID isn't of this training (",
    ),
    "another type": (
        arrays(lambda content: content | {"00000": content["00000"].astype(str)}),
        "ID isn't of this training (",
    ),
    "no best weights": (no_best, "can't be read"),
    "best weights of another shape": (
        arrays(lambda content: content | {"00000": np.zeros((5, 4), np.float32)}, "best-*.npz"),
        "ID isn't of this training (",
    ),
    "a best array gone": (arrays(without("00001"), "best-*.npz"), "ID isn't of this training ("),
}


@pytest.mark.parametrize(("damage", "expected"), STATES.values(), ids=STATES)
def test_a_foreign_state_is_refused(
    damage: Callable[[Path], None],
    expected: str,
    killed: tuple[TrackingConfig, str],
    folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    damage(folder)
    line = refused(killed, capsys)
    assert line.startswith(f"resume={killed[1]}: {folder}")
    assert expected in line.replace(killed[1], "ID")
    assert line.endswith("; start a new run")


def test_of_two_resumes_at_once_the_later_one_leaves_the_record_alone(
    tmp_path: Path,
    tiny_in: Callable[..., RunConfig],
    empty_store: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tracking, run_id = killed_in(tmp_path, tiny_in, empty_store)
    store, checkpoints = open_store(tracking), Checkpoints(Path(tracking.root), run_id)
    line, prepare = [f"resume={run_id}", f"tracking.root={tracking.root}"], experiment.prepare

    def after(meanwhile: Callable[[RunConfig], Any]) -> Callable[..., Any]:
        """What checks a resume, while the other one does something."""

        def prepared(config: RunConfig, data: Any) -> Any:
            found = prepare(config, data)
            monkeypatch.setattr(experiment, "prepare", prepare)
            meanwhile(config)
            return found

        return prepared

    before = store.read(run_id)
    with contextlib.ExitStack() as held:
        monkeypatch.setattr(experiment, "prepare", after(lambda _: held.enter_context(checkpoints.lease())))
        assert exit_code(train.main, line) == 2
    assert "the run is alive, in process" in capsys.readouterr().err
    assert store.read(run_id) == before

    monkeypatch.setattr(experiment, "prepare", after(lambda config: train_single(config, line, quiet=True)))
    assert exit_code(train.main, line) == 2
    assert "there is no checkpoint of this run" in capsys.readouterr().err
    record = store.read(run_id)
    assert (record.status, sorted(record.metrics["train_loss"])) == ("FINISHED", [1, 2, 3])
    assert not checkpoints.folder.exists()
