"""A project folder that was renamed or copied: its runs are read and written where they lie now, and nowhere else."""

import contextlib
import shutil
import sqlite3
from pathlib import Path

import pytest

from brainseg.config import TrackingConfig
from brainseg.errors import Interrupted, TrackingError
from brainseg.tracking import MODEL_FILE, NewVersion, open_registry, open_store, open_tracker
from brainseg.tracking.__main__ import main


def mlruns(project: Path) -> TrackingConfig:
    return TrackingConfig(root=str(project / "mlruns"))


def files(folder: Path) -> dict[str, bytes]:
    """The files that runs have written, without the database, which may be opened for reading."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if "mlflow.db" not in name}


@pytest.fixture
def project(tmp_path: Path, empty_store: Path, keras_file: Path) -> tuple[Path, str]:
    """A project folder, and its run with a text and a model."""
    folder = tmp_path / "before"
    (folder / "mlruns").mkdir(parents=True)
    shutil.copy(empty_store, folder / "mlruns" / "mlflow.db")
    with open_tracker(mlruns(folder), run_name="first", tags={}) as tracker:
        tracker.log_text("seed: 1", "config.yaml")
        tracker.log_model(keras_file)
    return folder, tracker.run_id


@pytest.fixture
def renamed(project: tuple[Path, str], tmp_path: Path) -> tuple[Path, str]:
    folder, run_id = project
    return folder.rename(tmp_path / "after"), run_id


@pytest.mark.parametrize("by", ["SQL", "MLflow's client"])
def test_a_run_of_a_renamed_folder_is_read_with_its_model(
    renamed: tuple[Path, str], keras_file: Path, tmp_path: Path, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if by != "SQL":
        monkeypatch.setattr("brainseg.tracking.mlflow.sqlite_runs.COLUMNS", {"runs": {"of a later MLflow"}})
    folder, run_id = renamed
    store = open_store(mlruns(folder))
    assert store.text(run_id, "config.yaml") == "seed: 1"
    assert store.file(run_id, "config.yaml", tmp_path / "out").read_text() == "seed: 1"
    assert store.file(run_id, MODEL_FILE, tmp_path / "out").exists()


@pytest.mark.heavy
def test_what_is_written_after_a_rename_lies_in_the_renamed_folder(
    renamed: tuple[Path, str], keras_file: Path, tmp_path: Path
) -> None:
    folder, run_id = renamed
    config = mlruns(folder)
    with open_tracker(config, run_name="first", tags={}, run_id=run_id) as resumed:
        resumed.log_text("more", "notes.txt")
    with open_tracker(config, run_name="second", tags={}) as new:
        new.log_text("seed: 2", "config.yaml")
        new.log_model(keras_file)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "scores.csv").write_text("id\n")
    open_store(config).add(run_id, tmp_path / "in", to="evaluation/val", tags={})
    open_registry(config).register(
        run_id, NewVersion(name="tumors", artifact="evaluation/val", tags={}, description="")
    )
    assert (resumed.unwritten, new.unwritten, new.undelivered) == ((), (), 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["after", "in"]
    written = files(folder / "mlruns" / "artifacts")
    assert written[f"{run_id}/artifacts/notes.txt"] == b"more"
    assert written[f"{run_id}/artifacts/evaluation/val/scores.csv"] == b"id\n"
    assert written[f"{new.run_id}/artifacts/config.yaml"] == b"seed: 2"
    assert open_store(config).file(new.run_id, MODEL_FILE, tmp_path / "out").exists()
    # What MLflow's own pages open.
    with contextlib.closing(sqlite3.connect(folder / "mlruns" / "mlflow.db")) as database:
        where = database.execute("SELECT artifact_uri FROM runs WHERE run_uuid = ?", (new.run_id,)).fetchone()[0]
        (source,) = database.execute("SELECT source FROM model_versions").fetchone()
    assert where == (folder / "mlruns" / "artifacts" / new.run_id / "artifacts").as_uri()
    assert source == (folder / "mlruns" / "artifacts" / run_id / "artifacts" / "evaluation" / "val").as_uri()


def test_a_copy_leaves_the_original_as_it_was(project: tuple[Path, str], tmp_path: Path, keras_file: Path) -> None:
    original, run_id = project
    copy = tmp_path / "copy"
    shutil.copytree(original, copy)
    before = files(original)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "scores.csv").write_text("id\n")
    open_store(mlruns(copy)).add(run_id, tmp_path / "in", to="evaluation/val", tags={})
    with open_tracker(mlruns(copy), run_name="second", tags={}) as tracker:
        tracker.log_text("seed: 2", "config.yaml")
        tracker.log_model(keras_file)
    assert files(original) == before
    shutil.rmtree(copy / "mlruns" / "artifacts" / run_id)
    with pytest.raises(TrackingError, match=f"run {run_id} has no artifact 'config.yaml'"):  # not the original's
        open_store(mlruns(copy)).text(run_id, "config.yaml")


@pytest.mark.usefixtures("not_asked_again")
def test_a_run_that_was_killed_before_the_rename_is_synced(
    project: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = project
    artifacts = folder / "mlruns" / "artifacts"
    artifacts.rename(tmp_path / "away")
    artifacts.write_text("no folder")  # so that what follows stays in the spool
    tracker = open_tracker(mlruns(folder), run_name="stopped", tags={})
    with contextlib.suppress(Interrupted), tracker:
        tracker.log_text("seed: 3", "config.yaml")
        raise Interrupted(15)
    artifacts.unlink()
    (tmp_path / "away").rename(artifacts)
    after = folder.rename(tmp_path / "after")
    assert main(["sync", "--root", str(after / "mlruns")]) == 0
    assert f"{tracker.run_id}: 2 records delivered\n" in capsys.readouterr().out
    assert open_store(mlruns(after)).text(tracker.run_id, "config.yaml") == "seed: 3"
    assert not folder.exists()


def test_artifacts_that_are_gone_are_named_and_nothing_takes_their_place(
    project: tuple[Path, str], tmp_path: Path, keras_file: Path
) -> None:
    folder, run_id = project
    gone = tmp_path / "disk" / "store"
    with contextlib.closing(sqlite3.connect(folder / "mlruns" / "mlflow.db")) as database, database:
        for table, column in (
            ("experiments", "artifact_location"), ("runs", "artifact_uri"), ("logged_models", "artifact_location"),
        ):  # fmt: skip
            old = (folder / "mlruns" / "artifacts").as_uri()
            statement = f"UPDATE {table} SET {column} = replace({column}, ?, ?)"  # noqa: S608  # constants
            database.execute(statement, (old, gone.as_uri()))
    said = f"the artifacts of .* were recorded in {gone}.*, and {gone} isn't there; bring the folder back"
    with pytest.raises(TrackingError, match=said):
        open_tracker(mlruns(folder), run_name="second", tags={})
    with pytest.raises(TrackingError, match=said):
        open_store(mlruns(folder)).file(run_id, MODEL_FILE, tmp_path / "out")
    with pytest.raises(TrackingError, match=said):
        open_store(mlruns(folder)).add(run_id, tmp_path, to="evaluation/val", tags={})
    assert not (tmp_path / "disk").exists()
    gone.parent.mkdir()
    (folder / "mlruns" / "artifacts").rename(gone)  # as its experiment says: a place that the user has chosen
    assert open_store(mlruns(folder)).text(run_id, "config.yaml") == "seed: 1"
    with open_tracker(mlruns(folder), run_name="second", tags={}) as tracker:
        tracker.log_text("seed: 2", "config.yaml")
    assert (gone / tracker.run_id / "artifacts" / "config.yaml").exists()
