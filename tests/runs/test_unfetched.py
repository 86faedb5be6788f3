"""An artifact that a run has and that can't be fetched: each command says so, and none that the run lacks it."""

import errno
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import made_runs
import numpy as np
import pytest

import brainseg
from brainseg.compare.__main__ import main as compare
from brainseg.config import TrackingConfig
from brainseg.data.split import Split
from brainseg.errors import BrainsegError
from brainseg.evaluate.__main__ import main as evaluate
from brainseg.export.__main__ import main as export
from brainseg.gallery.__main__ import main as gallery
from brainseg.predict.__main__ import main as predict
from brainseg.register.__main__ import main as register
from brainseg.report.__main__ import main as report
from brainseg.tracking import Tracker, open_tracker

pytestmark = pytest.mark.heavy  # records a model in MLflow

Main = Callable[[list[str]], int]


@dataclass(frozen=True)
class Opener:
    """What `made_runs.add_run` takes for a store."""

    config: TrackingConfig

    def open_tracker(self, *, run_name: str, tags: Mapping[str, str] | None) -> Tracker:
        return open_tracker(self.config, run_name=run_name, tags=tags or {})


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory, empty_store: Path, keras_file: Path) -> tuple[Path, str]:
    """The folder of a store with one run, and the run's id."""
    folder = tmp_path_factory.mktemp("recorded")
    root = folder / "mlruns"
    root.mkdir()
    shutil.copy(empty_store, root / "mlflow.db")
    config = TrackingConfig(root=str(root), experiment="brainseg")
    slices = made_runs.write_slices(folder / "slices")
    opener: Any = Opener(config)
    run_id = made_runs.add_run(opener, slices, name="one", shifts=[0, 1, 2, 3, 4, 5])
    with open_tracker(config, run_name="", tags={}, run_id=run_id) as tracker:
        tracker.log_text(Split(train=("s1", "s2", "s3"), val=("s4", "s5", "s6")).to_json(), "split.json")
        tracker.log_model(keras_file)
    return folder, run_id


@pytest.fixture
def out_of_reach(recorded: tuple[Path, str]) -> Iterator[Callable[[str], None]]:
    """Lets the file of an artifact be there, and not be readable: a link that leads to itself, for which root's
    permissions don't matter.
    """
    kept: list[tuple[Path, Path]] = []

    def break_it(name: str) -> None:
        (path,) = recorded[0].glob(f"mlruns/artifacts/**/{name}")
        away = path.rename(path.with_name(f"{path.name}.away"))
        path.symlink_to(path)
        kept.append((away, path))

    yield break_it
    for away, path in kept:
        path.unlink()
        away.rename(path)


COMMANDS: dict[str, tuple[Main, str, str]] = {
    "predict, the model": (predict, "RUN SLICES/images -o OUT", "model.keras"),
    "predict, the split": (predict, "RUN SLICES/images -o OUT", "split.json"),
    "export": (export, "RUN --format keras -o OUT.keras", "model.keras"),
    "evaluate": (evaluate, "RUN", "model.keras"),
    "register": (register, "RUN", "model.keras"),
    "register, the scores": (register, "RUN", "val_scores.csv"),
    "report, the scores": (report, "RUN -o OUT.html", "val_scores.csv"),
    "report, the masks": (report, "RUN -o OUT.html", "val_predictions.npz"),
    "report, the packages": (report, "RUN -o OUT.html", "packages.txt"),
    "gallery": (gallery, "RUN -o OUT.html", "val_predictions.npz"),
    "gallery, the scores": (gallery, "RUN -o OUT.html", "val_scores.csv"),
    "compare": (compare, "", "val_scores.csv"),
}


@pytest.mark.parametrize(("main", "arguments", "artifact"), COMMANDS.values(), ids=COMMANDS)
def test_what_can_not_be_fetched_is_not_called_missing(
    main: Main,
    arguments: str,
    artifact: str,
    recorded: tuple[Path, str],
    out_of_reach: Callable[[str], None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, run_id = recorded
    out_of_reach(artifact)
    words = {"RUN": run_id, "OUT": str(tmp_path / "out"), "SLICES": str(folder / "slices")}
    for word, value in words.items():
        arguments = arguments.replace(word, value)
    assert main([*arguments.split(), "--root", str(folder / "mlruns")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert_told(line, run_id, artifact)
    assert list(tmp_path.iterdir()) == []


def assert_told(line: str, run_id: str, artifact: str) -> None:
    assert "the artifact " in line
    assert f"{artifact}' of run {run_id} can't be " in line
    assert not any(word in line for word in ("has no", "train", "unknown"))


def test_the_library_says_so_too(recorded: tuple[Path, str], out_of_reach: Callable[[str], None]) -> None:
    folder, run_id = recorded
    run = brainseg.load_run(run_id, root=str(folder / "mlruns"))
    for artifact in ("model.keras", "val_scores.csv"):
        out_of_reach(artifact)
    with pytest.raises(BrainsegError) as told:
        run.predict(np.zeros((8, 8), np.uint8))
    assert_told(str(told.value), run_id, "model.keras")
    with pytest.raises(BrainsegError) as told:
        run.evaluate()
    assert_told(str(told.value), run_id, "model.keras")
    with pytest.raises(BrainsegError) as told:
        _ = run.scores
    assert_told(str(told.value), run_id, "val_scores.csv")


def test_a_disk_that_fills_up_while_a_model_is_fetched_is_named(
    recorded: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(self: object, remote_file_path: str, local_path: str) -> None:
        Path(local_path).write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    folder, run_id = recorded
    monkeypatch.setattr("mlflow.store.artifact.local_artifact_repo.LocalArtifactRepository._download_file", full)
    root = folder / "mlruns"
    assert predict([run_id, str(folder / "slices" / "images"), "-o", str(tmp_path / "out"), "--root", str(root)]) == 2
    said = capsys.readouterr().err
    expected = (
        f"error: the artifact 'model/data/model.keras' of run {run_id} can't be fetched ([Errno 28] No space left on "
        f"device); check that the artifacts of sqlite:///{root}/mlflow.db can be reached, and that "
    )
    assert said.startswith(expected)
    assert said.endswith(f"/{run_id}/model has room\n")


@pytest.mark.parametrize("main", [predict, export], ids=["predict", "export"])
def test_a_full_temporary_folder_is_named_with_the_remedy(
    main: Main,
    recorded: tuple[Path, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, run_id = recorded
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    options = [str(folder / "slices" / "images")] if main is predict else ["--format", "keras"]
    out = tmp_path / "out"
    assert main([run_id, *options, "-o", str(out), "--root", str(folder / "mlruns")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: temporary files can't be written (No such file or directory: {tmp_path}/gone/")
    assert line.endswith("; make room, or name another folder by the environment variable TMPDIR")
    assert not out.exists()
