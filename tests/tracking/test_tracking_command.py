"""`python -m brainseg.tracking`: what it prints, deletes and keeps."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
from backends import MlflowBackend
from processes import environment

from brainseg.config import TrackingConfig
from brainseg.errors import Interrupted
from brainseg.tracking import open_tracker
from brainseg.tracking.__main__ import main


def with_checkpoints(config: TrackingConfig, run_id: str, *, store: str | None = None) -> Path:
    folder = Path(config.root, "checkpoints", run_id)
    folder.mkdir(parents=True)
    if store is not None:
        (folder / "run.json").write_text(json.dumps({"store": store}))
    (folder / "epoch.keras").write_bytes(bytes(1_000_000))
    return folder


@pytest.fixture
def checkpoints(sqlite_config: TrackingConfig) -> dict[str, Path]:
    """Checkpoint folders of a finished, a killed and a failed run, and of one that the store doesn't have."""
    endings = {"finished": None, "killed": Interrupted(15), "failed": ValueError("broke")}
    folders = {"unknown": with_checkpoints(sqlite_config, "0" * 32)}
    for name, error in endings.items():
        tracker = MlflowBackend(config=sqlite_config).open()
        try:
            with tracker:
                if error is not None:
                    raise error
        except (Interrupted, ValueError):
            pass
        folders[name] = with_checkpoints(sqlite_config, tracker.run_id)
    return folders


def kept(checkpoints: dict[str, Path]) -> set[str]:
    return {name for name, folder in checkpoints.items() if folder.exists()}


def test_clean_deletes_only_what_no_run_can_need(
    sqlite_config: TrackingConfig, checkpoints: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["clean", "--root", sqlite_config.root, "--yes"]) == 0
    assert kept(checkpoints) == {"killed", "failed", "unknown"}
    printed = capsys.readouterr().out
    assert f"1.0 MB  FINISHED  {checkpoints['finished']}" in printed
    assert f"kept: {checkpoints['unknown']} (its store isn't known); " in printed
    assert "deleted 1 folder\n" in printed


@pytest.mark.heavy
def test_clean_keeps_the_run_of_another_store_and_names_it(
    sqlite_config: TrackingConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = f"sqlite:///{tmp_path}/elsewhere.db"
    tracker = MlflowBackend(config=dataclasses.replace(sqlite_config, uri=elsewhere)).open()
    with pytest.raises(Interrupted), tracker:
        raise Interrupted(15)
    folder = with_checkpoints(sqlite_config, tracker.run_id, store=tracker.store)
    assert main(["clean", "--root", sqlite_config.root, "--yes"]) == 0
    assert folder.exists()
    assert f"kept: {folder} (recorded in {elsewhere}); name the run or its --uri to " in capsys.readouterr().out
    assert main(["clean", "--root", sqlite_config.root, "--yes", tracker.run_id]) == 0
    assert not folder.exists()


def test_clean_deletes_a_run_that_is_finished_here_whatever_store_it_names(sqlite_config: TrackingConfig) -> None:
    with MlflowBackend(config=sqlite_config).open() as tracker:
        pass
    folder = with_checkpoints(sqlite_config, tracker.run_id, store="http://127.0.0.1:5000")
    assert main(["clean", "--root", sqlite_config.root, "--yes"]) == 0
    assert not folder.exists()


@pytest.mark.parametrize(("answer", "left"), [("n", 4), ("", 4), ("y", 3)])
def test_clean_asks_first(
    sqlite_config: TrackingConfig,
    checkpoints: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
    left: int,
) -> None:
    monkeypatch.setattr("builtins.input", lambda prompt: answer)
    assert main(["clean", "--root", sqlite_config.root]) == 0
    assert len(kept(checkpoints)) == left


def test_clean_deletes_a_run_that_could_be_resumed_only_by_name(
    sqlite_config: TrackingConfig, checkpoints: dict[str, Path]
) -> None:
    killed = checkpoints["killed"].name
    assert main(["clean", "--root", sqlite_config.root, "--yes", killed]) == 0
    assert kept(checkpoints) == {"unknown", "finished", "failed"}


def test_clean_never_touches_a_run_that_is_alive(
    sqlite_config: TrackingConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_tracker(sqlite_config, run_name="first", tags={}) as tracker:
        folder = with_checkpoints(sqlite_config, tracker.run_id)
        assert main(["clean", "--root", sqlite_config.root, "--yes", tracker.run_id]) == 2
        assert "still being written by a process" in capsys.readouterr().err
        assert main(["clean", "--root", sqlite_config.root, "--yes"]) == 0
    assert folder.exists()


def test_clean_says_which_run_has_no_checkpoints(
    sqlite_config: TrackingConfig, checkpoints: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["clean", "--root", sqlite_config.root, "--yes", "typo"]) == 2
    assert "run 'typo' has no checkpoints in " in capsys.readouterr().err
    assert len(kept(checkpoints)) == 4


def test_sync_and_clean_on_a_folder_without_runs_make_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "runs"
    assert main(["sync", "--root", str(root)]) == 0
    assert main(["clean", "--root", str(root)]) == 0
    assert capsys.readouterr().out == f"nothing waits in {root}/spool\nno checkpoints in {root}/checkpoints\n"
    assert not root.exists()


@pytest.mark.heavy
def test_help_and_the_memory_twin_need_neither_mlflow_nor_tensorflow(tmp_path: Path) -> None:
    code = """
import sys
from brainseg.tracking import MemoryTracker
from brainseg.tracking.__main__ import main
with MemoryTracker() as tracker:
    tracker.log_metrics({"val_dice": 0.5}, epoch=1)
assert tracker.metrics == [(1, {"val_dice": 0.5})]
try:
    main(["--help"])
except SystemExit:
    pass
print({"mlflow", "tensorflow", "keras"} & set(sys.modules))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment(), cwd=tmp_path
    )
    assert "sync" in done.stdout
    assert done.stdout.endswith("set()\n")


def test_ctrl_c_is_one_line(
    sqlite_config: TrackingConfig,
    checkpoints: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupted(prompt: str) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("builtins.input", interrupted)
    assert main(["clean", "--root", sqlite_config.root]) == 130
    assert capsys.readouterr().err.splitlines()[1:] == ["error: stopped by SIGINT"]
    assert len(kept(checkpoints)) == 4


def test_no_error_shows_a_password(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["clean", "--root", str(tmp_path), "http://ada:s3cret@host"]) == 2  # --uri was forgotten
    assert capsys.readouterr().err.startswith("error: run http://ada:***@host has no checkpoints in ")


@pytest.mark.parametrize("is_shared", [False, True])
def test_sync_on_a_host_that_comes_back_drops_what_a_later_attempt_has_made_good(
    sqlite_config: TrackingConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str], is_shared: bool
) -> None:
    backend = MlflowBackend(config=sqlite_config)
    first = backend.open(attempt=1)
    first._spool.append("metrics", {"epoch": 1, "metrics": {"val_dice": 0.25}, "time_ms": 0})
    first._spool.close()  # killed
    checkpoint = with_checkpoints(sqlite_config, first.run_id)
    with backend.on_another_host(tmp_path / "other").open(run_id=first.run_id, attempt=2):
        pass
    # On a shared folder, the later attempt has gone on from the checkpoint.
    (checkpoint / "lease.json").write_text(json.dumps({"attempt": 2 if is_shared else 1}))
    uri = f"sqlite:///{sqlite_config.root}/mlflow.db"
    assert main(["sync", "--root", sqlite_config.root, "--uri", uri]) == 0
    out = capsys.readouterr().out
    assert f"{first.run_id}: 0 records delivered (attempt 2 writes the run, and this one is 1; dropped)" in out
    record = backend.store.read(first.run_id)
    assert (record.status, record.tags["state"], record.metrics) == ("FINISHED", "finished", {})
    assert checkpoint.exists() == is_shared
    assert list(Path(sqlite_config.root, "spool").iterdir()) == []


def test_a_trial_that_began_offline_and_has_moved_gets_no_second_run(
    sqlite_config: TrackingConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = dataclasses.replace(sqlite_config, uri="http://127.0.0.1:1", offline=True)
    trial = {"sweep_id": "s", "trial": "3"}
    first = open_tracker(here, run_name="first", tags=trial, attempt=1)
    first._spool.close()  # its host is lost
    store = MlflowBackend(config=sqlite_config)
    with store.on_another_host(tmp_path / "other").open(attempt=2, **trial) as second:
        pass
    records = Path(here.root, "spool", first.run_id, "records.jsonl")
    records.write_bytes(
        records.read_bytes().replace(b"http://127.0.0.1:1", f"sqlite:///{here.root}/mlflow.db".encode())
    )
    assert main(["sync", "--root", here.root, "--uri", f"sqlite:///{here.root}/mlflow.db"]) == 0
    assert "attempt 2 writes the run of this trial, and this one is 1; dropped" in capsys.readouterr().out
    assert store.store.find({"trial": "3"}) == [second.run_id]
    assert list(Path(here.root, "spool").iterdir()) == []
