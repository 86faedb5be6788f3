"""One suite over every backend: what a tracker writes, its store reads back."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from backends import Backend

from brainseg.errors import Interrupted, Pruned, ResumeError, TrackingError
from brainseg.tracking import MODEL_FILE, DatasetInfo, RunFilter, RunRecord
from brainseg.tracking.rules import NoArtifactError, UnknownRunError


def own_tags(record: RunRecord) -> dict[str, str]:
    """Without those that MLflow keeps for itself, and without the program's name, which it fills in."""
    return {key: value for key, value in record.tags.items() if not key.startswith("mlflow.") and key != "source"}


def test_a_run_is_read_back_as_it_was_written(backend: Backend) -> None:
    with backend.open(sweep="reference") as tracker:
        tracker.log_params({"model.dropout": 0.1, "data.limit": None, "seed": 0})
        tracker.set_tags({"git_commit": "abc"})
        tracker.log_dataset(DatasetInfo(name="phantom", fingerprint="f" * 64, source="seed 0", slices=9, patients=3))
        tracker.log_metrics({"val_dice": 0.25, "train_loss": 1.5}, epoch=1)
        tracker.log_metrics({"val_dice": 0.5, "train_loss": 0.75}, epoch=2)
    record = backend.store.read(tracker.run_id)
    assert record.run_id == tracker.run_id
    assert record.name == "first"
    assert record.status == "FINISHED"
    assert record.params == {"model.dropout": "0.1", "data.limit": "None", "seed": "0"}
    assert own_tags(record) == {"sweep": "reference", "git_commit": "abc", "state": "finished"}
    assert record.metrics == {"val_dice": {1: 0.25, 2: 0.5}, "train_loss": {1: 1.5, 2: 0.75}}
    assert tracker.unwritten == ()
    assert tracker.undelivered == 0


def test_a_parameter_keeps_its_first_value_and_a_tag_its_last(backend: Backend) -> None:
    with backend.open() as tracker:
        tracker.log_params({"seed": 1})
        tracker.log_params({"seed": 2, "epochs": 3})
        tracker.set_tags({"note": "one"})
        tracker.set_tags({"note": "two"})
    record = backend.store.read(tracker.run_id)
    assert record.params == {"seed": "1", "epochs": "3"}
    assert own_tags(record) == {"note": "two", "state": "finished"}


def test_an_epoch_that_is_logged_again_keeps_its_first_values(backend: Backend) -> None:
    with backend.open() as tracker:
        tracker.log_metrics({"val_dice": 0.25}, epoch=1)
        tracker.log_metrics({"val_dice": 0.75, "val_loss": 1.0}, epoch=1)
    assert backend.store.read(tracker.run_id).metrics == {"val_dice": {1: 0.25}, "val_loss": {1: 1.0}}


def test_texts_and_files_are_read_back_after_the_caller_deleted_them(backend: Backend, tmp_path: Path) -> None:
    figure = tmp_path / "curves.png"
    figure.write_bytes(b"\x89PNG")
    with backend.open() as tracker:
        tracker.log_text("seed: 0\n", "config.yaml")
        tracker.log_text("größe", "environment/packages.txt")
        tracker.log_file(figure)
        tracker.log_file(figure, "figures/epochs")
        figure.unlink()
    store, run = backend.store, tracker.run_id
    assert store.text(run, "config.yaml") == "seed: 0\n"
    assert store.text(run, "environment/packages.txt") == "größe"
    assert store.file(run, "curves.png", tmp_path / "out").read_bytes() == b"\x89PNG"
    assert store.file(run, "figures", tmp_path / "out") == tmp_path / "out" / "figures"
    assert (tmp_path / "out" / "figures" / "epochs" / "curves.png").read_bytes() == b"\x89PNG"


def test_the_model_that_is_read_back_predicts_the_same(backend: Backend, keras_file: Path, tmp_path: Path) -> None:
    import keras

    with backend.open() as tracker:
        tracker.log_model(keras_file)
    assert tracker.unwritten == ()
    path = backend.store.file(tracker.run_id, MODEL_FILE, tmp_path / "out")
    assert path == tmp_path / "out" / MODEL_FILE
    slices = np.random.default_rng(0).random((2, 8, 8, 1), dtype=np.float32)
    expected = np.asarray(keras.saving.load_model(keras_file, compile=False)(slices))
    np.testing.assert_array_equal(np.asarray(keras.saving.load_model(path, compile=False)(slices)), expected)


@pytest.mark.parametrize("error", [Interrupted(15), KeyboardInterrupt(), SystemExit(1)])
def test_a_run_that_is_stopped_from_outside_ends_killed(backend: Backend, error: BaseException) -> None:
    tracker = backend.open()
    with pytest.raises(type(error)), tracker:
        raise error
    record = backend.store.read(tracker.run_id)
    assert (record.status, own_tags(record)) == ("KILLED", {"state": "killed"})


def test_a_pruned_run_ends_regularly(backend: Backend) -> None:
    tracker = backend.open()
    with pytest.raises(Pruned), tracker:
        raise Pruned("pruned after epoch 3", epoch=3)
    record = backend.store.read(tracker.run_id)
    assert (record.status, own_tags(record)) == ("FINISHED", {"state": "pruned"})


def test_a_run_that_fails_says_why_in_one_line(backend: Backend) -> None:
    tracker = backend.open()
    with pytest.raises(ValueError, match="no such"), tracker:
        raise ValueError("no such\n  thing")
    record = backend.store.read(tracker.run_id)
    assert record.status == "FAILED"
    assert own_tags(record) == {"state": "failed", "failure": "ValueError: no such thing"}


def test_a_state_set_by_the_caller_stays_on_a_regular_end(backend: Backend) -> None:
    with backend.open() as tracker:
        tracker.set_tags({"state": "pruned"})
    record = backend.store.read(tracker.run_id)
    assert (record.status, own_tags(record)) == ("FINISHED", {"state": "pruned"})


def test_a_run_is_running_inside_the_block(backend: Backend) -> None:
    with backend.open() as tracker:
        record = backend.store.read(tracker.run_id)
    assert (record.status, own_tags(record)) == ("RUNNING", {"state": "running"})


def test_a_resumed_run_goes_on_in_the_same_record(backend: Backend) -> None:
    first = backend.open()
    with contextlib.suppress(OSError), first:
        first.log_params({"seed": 1})
        first.log_metrics({"val_dice": 0.25}, epoch=1)
        raise OSError("no space")
    with backend.open(run_id=first.run_id, resumed="yes") as second:
        during = backend.store.read(first.run_id)
        second.log_params({"seed": 1, "epochs": 2})
        second.log_metrics({"val_dice": 0.9}, epoch=1)
        second.log_metrics({"val_dice": 0.5}, epoch=2)
    after = backend.store.read(first.run_id)
    assert second.run_id == first.run_id
    assert (during.status, own_tags(during)) == ("RUNNING", {"state": "running", "resumed": "yes"})
    assert (after.status, own_tags(after)) == ("FINISHED", {"state": "finished", "resumed": "yes"})
    assert after.params == {"seed": "1", "epochs": "2"}
    assert after.metrics == {"val_dice": {1: 0.25, 2: 0.5}}


def test_once_a_later_attempt_holds_a_run_an_earlier_one_writes_nothing_more(
    backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("brainseg.tracking.mlflow.writer.FENCE_S", 0.3)
    first = backend.open(attempt=1)
    with contextlib.suppress(Interrupted), first:  # on a host that is cut off just now
        first.log_metrics({"val_dice": 0.25}, epoch=1)
        first_wrote = eventually(lambda: backend.store.read(first.run_id).metrics)
        with backend.on_another_host(tmp_path / "other").open(run_id=first.run_id, attempt=2) as second:
            second.log_metrics({"val_dice": 0.5}, epoch=2)
        time.sleep(0.4)
        first.log_metrics({"val_dice": 0.125}, epoch=3)
        raise Interrupted(15)
    record = backend.store.read(first.run_id)
    assert first_wrote == {"val_dice": {1: 0.25}}
    assert record.metrics == {"val_dice": {1: 0.25, 2: 0.5}}
    assert (record.status, own_tags(record)) == ("FINISHED", {"state": "finished", "attempt": "2"})
    assert (first.unwritten, first.undelivered) == ((), 0)
    assert (first.attempt, second.attempt) == (1, 2)


def test_an_earlier_attempt_cannot_open_the_run_again(backend: Backend, tmp_path: Path) -> None:
    with backend.open(attempt=2) as tracker:
        pass
    before = backend.store.read(tracker.run_id)
    for run in (backend, backend.on_another_host(tmp_path / "other")):
        with pytest.raises(ResumeError, match=f"run {tracker.run_id} is written by its attempt 2, and this one is 1"):
            run.open(run_id=tracker.run_id, attempt=1)
    assert backend.store.read(tracker.run_id) == before
    with backend.open(run_id=tracker.run_id, attempt=3):
        pass
    assert backend.store.read(tracker.run_id).tags["attempt"] == "3"


def eventually(read: Callable[[], Mapping[str, object]]) -> Mapping[str, object]:
    """What it gives once that isn't empty: a thread delivers it."""
    deadline = time.monotonic() + 240
    while not (found := read()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


def test_runs_are_found_by_all_of_the_tags_the_oldest_first(backend: Backend) -> None:
    opened = []
    for tags in ({"sweep": "it's one", "trial": "0"}, {"sweep": "other", "trial": "0"}, {"sweep": "it's one"}):
        with backend.open(**tags) as tracker:
            opened.append(tracker.run_id)
    assert backend.store.find({"sweep": "it's one"}) == [opened[0], opened[2]]
    assert backend.store.find({"sweep": "it's one", "trial": "0"}) == [opened[0]]
    assert backend.store.find({"sweep": "it's one", "trial": "1"}) == []
    assert set(opened) <= set(backend.store.find({}))


def test_the_tags_that_every_store_shows_are_set_read_and_searched_by_one_name(backend: Backend) -> None:
    shown = {"source": "python -m brainseg.train seed=1", "git_commit": "d" * 40, "parent": "1" * 32}
    with backend.open(**{key: shown[key] for key in ("source", "parent")}) as tracker:
        tracker.set_tags({"git_commit": "d" * 40, "description": "# Dice 0.5"})
    backend.store.add(tracker.run_id, Path(__file__).parent / "mlflow", to="more", tags={"description": "# Dice 0.75"})
    read = backend.store.read(tracker.run_id).tags
    assert {key: read[key] for key in (*shown, "description")} == shown | {"description": "# Dice 0.75"}
    assert backend.store.find({"git_commit": "d" * 40}) == backend.store.find(shown) == [tracker.run_id]
    asked = RunFilter(tags=shown)
    (found,) = backend.store.overview(asked, rank_by="final_dice", total_of="seconds", limit=5).finished
    assert (found.run_id, found.tags) == (tracker.run_id, read)


def test_a_run_is_found_while_it_is_running(backend: Backend) -> None:
    with backend.open(sweep="still running") as tracker:
        assert backend.store.find({"sweep": "still running"}) == [tracker.run_id]


def test_an_alias_of_a_registered_model_leads_to_a_run(backend: Backend) -> None:
    with backend.open() as first, backend.open() as second:
        pass
    backend.register("champion", first.run_id)
    backend.register("candidate", second.run_id)
    assert {"brainseg@champion", "brainseg@candidate"} <= set(backend.store.aliases())
    assert backend.store.run_of_alias("brainseg@champion") == first.run_id
    assert backend.store.run_of_alias("brainseg@candidate") == second.run_id
    backend.register("champion", second.run_id)
    assert backend.store.run_of_alias("brainseg@champion") == second.run_id


def test_an_unknown_run_is_an_error_that_names_it(backend: Backend) -> None:
    with backend.open():
        pass
    unknown = "0" * 32
    with pytest.raises(UnknownRunError, match=f"no run '{unknown}' in .*; "):
        backend.store.read(unknown)
    with pytest.raises(TrackingError, match=f"no run '{unknown}' in .*; "):
        backend.open(run_id=unknown)


def test_an_unknown_artifact_is_an_error_that_names_it(backend: Backend, tmp_path: Path) -> None:
    with backend.open() as tracker:
        pass
    for name in ("notes.txt", MODEL_FILE):
        with pytest.raises(NoArtifactError, match=f"run {tracker.run_id} has no artifact '{name}' in "):
            backend.store.file(tracker.run_id, name, tmp_path)
    with pytest.raises(NoArtifactError, match="has no artifact 'notes"):
        backend.store.text(tracker.run_id, "notes.txt")


def test_a_file_that_is_made_is_recorded_and_one_that_fails_is_not(backend: Backend, tmp_path: Path) -> None:
    def makes(path: Path) -> None:
        path.with_name("beside").touch()
        path.write_text("whole")

    def fails(path: Path) -> None:
        path.write_text("half")
        raise ValueError("inside")

    with backend.open() as tracker:
        tracker.log_made("figures/made.txt", makes)
        with pytest.raises(ValueError, match="inside"):
            tracker.log_made("figures/failed.txt", fails)
    assert backend.store.text(tracker.run_id, "figures/made.txt") == "whole"
    for name in ("figures/beside", "figures/failed.txt"):
        with pytest.raises(NoArtifactError):
            backend.store.text(tracker.run_id, name)


def test_a_text_keeps_its_line_breaks(backend: Backend) -> None:
    text = "a\r\nb\rc\u2028d\x85e\x0bf\n"
    with backend.open() as tracker:
        tracker.log_text(text, "notes.txt")
    assert backend.store.text(tracker.run_id, "notes.txt") == text


def test_a_tracker_refuses_to_log_outside_its_block(backend: Backend) -> None:
    tracker = backend.open()
    with pytest.raises(RuntimeError, match="only inside its with block"):
        tracker.log_params({"seed": 1})
    with tracker:
        pass
    with pytest.raises(RuntimeError, match="only inside its with block"):
        tracker.log_metrics({"val_dice": 0.5}, epoch=1)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_metric_that_is_not_finite_is_refused(backend: Backend, value: float) -> None:
    with backend.open() as tracker, pytest.raises(ValueError, match="val_loss must be finite"):
        tracker.log_metrics({"val_loss": value}, epoch=3)


@pytest.mark.parametrize("name", ["../config.yaml", "/etc/config.yaml", ""])
def test_an_artifact_can_not_leave_its_run(backend: Backend, name: str) -> None:
    with backend.open() as tracker, pytest.raises(ValueError, match="relative path inside the run"):
        tracker.log_text("text", name)


def write_files(folder: Path, **texts: str) -> Path:
    """Writes `a__b="text"` as folder/a/b."""
    for name, text in texts.items():
        path = folder.joinpath(*name.split("__"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def contents(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def finished_run(backend: Backend) -> str:
    with backend.open() as tracker:
        tracker.log_metrics({"val_dice": 0.25}, epoch=1)
        tracker.log_text("kept", "evaluation/other.txt")
    return tracker.run_id


def test_what_is_added_to_a_finished_run_is_read_back(backend: Backend, tmp_path: Path) -> None:
    run_id = finished_run(backend)
    folder = write_files(tmp_path / "in", scores="1", pictures__worst="2")
    backend.store.add(run_id, folder, to="evaluation/test", tags={"evaluation_test": "0.5000"})
    found = backend.store.file(run_id, "evaluation", tmp_path / "out")
    assert contents(found) == {"other.txt": "kept", "test/scores": "1", "test/pictures/worst": "2"}
    assert backend.store.find({"evaluation_test": "0.5000"}) == [run_id]


def test_what_is_added_leaves_the_record_of_the_run_as_it_was(backend: Backend, tmp_path: Path) -> None:
    run_id = finished_run(backend)
    before = backend.store.read(run_id)
    backend.store.add(run_id, write_files(tmp_path / "in", scores="1"), to="evaluation/val", tags={"note": "new"})
    after = backend.store.read(run_id)
    assert dataclasses.replace(after, tags=before.tags) == before
    assert own_tags(after) == own_tags(before) | {"note": "new"}


def test_what_is_added_again_takes_the_place_of_what_was_there(backend: Backend, tmp_path: Path) -> None:
    run_id = finished_run(backend)
    first = write_files(tmp_path / "first", scores="1", choice="tuned", pictures__worst="2")
    backend.store.add(run_id, first, to="evaluation/val", tags={"note": "one"})
    backend.store.add(run_id, first, to="evaluation/valid", tags={})
    second = write_files(tmp_path / "second", scores="3")
    backend.store.add(run_id, second, to="evaluation/val", tags={"note": "two"})
    assert contents(backend.store.file(run_id, "evaluation/val", tmp_path / "out")) == {"scores": "3"}
    assert contents(backend.store.file(run_id, "evaluation/valid", tmp_path / "out")) == contents(first)
    assert own_tags(backend.store.read(run_id)) == {"state": "finished", "note": "two"}


@pytest.mark.parametrize("tag", ["state", "failure"])
def test_how_a_run_ended_can_not_be_changed_by_adding(backend: Backend, tmp_path: Path, tag: str) -> None:
    run_id = finished_run(backend)
    folder = write_files(tmp_path / "in", scores="1")
    with pytest.raises(ValueError, match=f"the tag '{tag}' says how a run ended"):
        backend.store.add(run_id, folder, to="evaluation/val", tags={tag: "failed"})
    with pytest.raises(ValueError, match="relative path inside the run"):
        backend.store.add(run_id, folder, to="../val", tags={})
    with pytest.raises(TrackingError, match="has no artifact 'evaluation/val'"):
        backend.store.file(run_id, "evaluation/val", tmp_path / "out")


def test_nothing_is_added_to_an_unknown_run(backend: Backend, tmp_path: Path) -> None:
    finished_run(backend)
    unknown = "0" * 32
    with pytest.raises(TrackingError, match=f"no run '{unknown}' in .*; "):
        backend.store.add(unknown, write_files(tmp_path / "in", scores="1"), to="evaluation/val", tags={})
