"""Whatever happens to the store, the disk or the process: nothing is lost, nothing is doubled, nothing raises."""

import contextlib
import dataclasses
import json
import logging
import os
import re
import shutil
import socket
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest
from backends import MlflowBackend, Server, in_front_of, refusing
from disks import small_disk
from mlflow import MlflowClient
from processes import Command
from processes import Server as ProcessServer

from brainseg.config import TrackingConfig
from brainseg.errors import ResumeError, TrackingError
from brainseg.tracking import MODEL_FILE, DatasetInfo, open_store, open_tracker
from brainseg.tracking.__main__ import main
from brainseg.tracking.mlflow.sync import waiting_note
from brainseg.tracking.paths import resolve_uri

# Logs an epoch for each line that it reads, and says so; never leaves its block by itself.
TRAIN = """
import sys
from brainseg.config import TrackingConfig
from brainseg.tracking import open_tracker
with open_tracker(TrackingConfig(root=sys.argv[1]), run_name="first", tags={}) as tracker:
    print(tracker.run_id, flush=True)
    for epoch, _ in enumerate(sys.stdin, start=1):
        tracker.log_metrics({"val_dice": epoch / 8}, epoch=epoch)
        tracker.log_text(f"epoch {epoch}", f"notes/{epoch}.txt")
        print(epoch, flush=True)
"""

# As many processes as its second argument says.
TRAIN_TOGETHER = """
import os, sys
from brainseg.config import TrackingConfig
from brainseg.tracking import open_tracker
children = []
for _ in range(int(sys.argv[2])):
    child = os.fork()
    if child == 0:
        with open_tracker(TrackingConfig(root=sys.argv[1]), run_name="first", tags={}) as tracker:
            for epoch in (1, 2):
                tracker.log_metrics({"val_dice": epoch / 8}, epoch=epoch)
        os._exit(0 if not tracker.unwritten and tracker.undelivered == 0 else 1)
    children.append(child)
sys.exit(sum(os.waitpid(child, 0)[1] != 0 for child in children))
"""


def points(config: TrackingConfig, run_id: str, key: str) -> list[tuple[int, float]]:
    """Every stored point, so that a double one shows."""
    history = MlflowClient(tracking_uri=resolve_uri(config)).get_metric_history(run_id, key)
    return [(point.step, point.value) for point in history]


def sync(config: TrackingConfig) -> int:
    return main(["sync", "--root", config.root, *(["--uri", config.uri] if config.uri else [])])


def spooled(config: TrackingConfig) -> list[str]:
    """Names in the spool folder."""
    folder = Path(config.root, "spool")
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_eight_processes_that_start_together_on_a_fresh_folder_all_succeed(
    tmp_path: Path, process_server: ProcessServer
) -> None:
    root, output = tmp_path / "runs", tmp_path / "printed.txt"
    pid = process_server.start("-c", TRAIN_TOGETHER, str(root), "8", folder=tmp_path, output=output)
    together = Command(pid, output, process_server)
    assert together.exit_code() == 0, together.text
    with contextlib.closing(sqlite3.connect(root / "mlflow.db")) as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        runs = database.execute("SELECT status, count(*) FROM runs GROUP BY status").fetchall()
        assert database.execute("SELECT count(*) FROM metrics").fetchone() == (16,)
    assert runs == [("FINISHED", 8)]
    assert list((root / "spool").iterdir()) == []


def test_a_server_that_is_killed_in_mid_run_costs_nothing(
    server: Server, server_config: TrackingConfig, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="brainseg"):
        tracker = MlflowBackend(config=server_config).open()
        with server.killed():
            with tracker:
                for epoch in (1, 2, 3):
                    tracker.log_metrics({"val_dice": epoch / 8}, epoch=epoch)
                tracker.log_params({"seed": 1})
                tracker.log_text("seed: 1", "config.yaml")
            assert sync(server_config) == 2  # still down
    assert tracker.unwritten == ()
    assert tracker.undelivered == 6  # three epochs, parameters, a text, the ending
    assert [record.message.partition("(")[0] for record in caplog.records] == [
        f"the tracking store {server.uri} doesn't take records "
    ]
    assert sync(server_config) == 0
    assert sync(server_config) == 0
    record = open_store(server_config).read(tracker.run_id)
    assert points(server_config, tracker.run_id, "val_dice") == [(1, 0.125), (2, 0.25), (3, 0.375)]
    assert (record.status, record.params) == ("FINISHED", {"seed": "1"})
    assert open_store(server_config).text(tracker.run_id, "config.yaml") == "seed: 1"
    assert spooled(server_config) == []


class Training(Command):
    """A process that runs TRAIN, killed at the end of the block."""

    def __init__(self, config: TrackingConfig, processes: ProcessServer) -> None:
        root = Path(config.root)
        typed, output = root / "typed", root / "printed.txt"
        os.mkfifo(typed)
        pid = processes.start("-c", TRAIN, config.root, folder=root, output=output, typed=str(typed))
        super().__init__(pid, output, processes)
        self._typed = typed.open("w")

    def __enter__(self) -> Self:
        self._wait_for_lines(1)
        return self

    def __exit__(self, *_: object) -> None:
        self.kill_all()
        self._typed.close()

    @property
    def run_id(self) -> str:
        return self.text.split()[0]

    def train_epoch(self) -> None:
        lines = self.text.count("\n")
        print(file=self._typed, flush=True)
        self._wait_for_lines(lines + 1)

    def _wait_for_lines(self, count: int) -> None:
        self.wait_until(lambda: self.text.count("\n") >= count)


def test_a_killed_process_loses_nothing_that_it_logged(
    sqlite_config: TrackingConfig, process_server: ProcessServer
) -> None:
    with Training(sqlite_config, process_server) as training:
        for _ in range(3):
            training.train_epoch()
        run_id = training.run_id
    with open_tracker(sqlite_config, run_name="first", tags={}, run_id=run_id) as tracker:
        tracker.log_metrics({"val_dice": 0.9}, epoch=3)  # not sure whether it was logged
        tracker.log_metrics({"val_dice": 0.5}, epoch=4)
    expected = [(1, 0.125), (2, 0.25), (3, 0.375), (4, 0.5)]
    assert points(sqlite_config, run_id, "val_dice") == expected
    assert open_store(sqlite_config).text(run_id, "notes/3.txt") == "epoch 3"
    assert open_store(sqlite_config).read(run_id).status == "FINISHED"
    assert spooled(sqlite_config) == []


def test_the_next_run_delivers_what_a_killed_one_left_and_marks_it_killed(
    sqlite_config: TrackingConfig, process_server: ProcessServer
) -> None:
    with Training(sqlite_config, process_server) as training:
        training.train_epoch()
        run_id = training.run_id
    with open_tracker(sqlite_config, run_name="second", tags={}):
        record = open_store(sqlite_config).read(run_id)
    assert (record.status, record.tags["state"], record.metrics) == ("KILLED", "killed", {"val_dice": {1: 0.125}})


def test_a_run_that_is_alive_can_not_be_resumed_or_synced(
    sqlite_config: TrackingConfig, process_server: ProcessServer, capsys: pytest.CaptureFixture[str]
) -> None:
    with Training(sqlite_config, process_server) as training:
        run_id = training.run_id
        with pytest.raises(ResumeError, match=f"run {run_id} is still being written"):
            open_tracker(sqlite_config, run_name="again", tags={}, run_id=run_id)
        assert sync(sqlite_config) == 0
        assert f"{run_id}: left alone" in capsys.readouterr().out
        assert open_store(sqlite_config).read(run_id).status == "RUNNING"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 12 MB."""
    with small_disk(tmp_path / "small", "12m") as folder:
        yield folder


@pytest.mark.usefixtures("not_asked_again")
@pytest.mark.heavy
def test_a_full_disk_costs_no_metric_and_names_what_could_not_be_kept(
    disk: Path, empty_store: Path, tmp_path: Path
) -> None:
    shutil.copy(empty_store, disk / "mlflow.db")
    config = TrackingConfig(root=str(disk))
    figure = tmp_path / "curves.png"
    figure.write_bytes(bytes(100_000))
    with open_tracker(config, run_name="first", tags={}) as tracker:
        filler = disk / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
        for epoch in range(1, 101):
            tracker.log_metrics({"val_dice": epoch / 128, "val_loss": 1.0}, epoch=epoch)
        tracker.log_file(figure, "figures")
    assert tracker.unwritten == ("figures/curves.png: No space left on device",)
    assert tracker.undelivered > 0
    filler.unlink()
    assert sync(config) == 0
    assert points(config, tracker.run_id, "val_dice") == [(epoch, epoch / 128) for epoch in range(1, 101)]
    assert open_store(config).read(tracker.run_id).status == "FINISHED"


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port of this machine on which nobody answers."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))  # bound, but not listening: connections are refused
        yield holder.getsockname()[1]


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that takes connections and never answers."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        yield holder.getsockname()[1]


@pytest.mark.parametrize("port", ["closed_port", "silent_port"])
def test_a_server_that_does_not_answer_at_the_start_is_an_error(
    port: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("brainseg.tracking.mlflow.connection.START_PATIENCE_S", 1.0)
    uri = f"http://ada:s3cret@127.0.0.1:{request.getfixturevalue(port)}"
    config = TrackingConfig(root=str(tmp_path / "runs"), uri=uri)
    with pytest.raises(TrackingError, match=r"http://ada:\*\*\*@127\.0\.0\.1:\d+ can't be reached") as caught:
        open_tracker(config, run_name="first", tags={})
    assert "set tracking.offline=true" in str(caught.value)
    assert "s3cret" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not Path(config.root).exists()


LOG_IN = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (401, "You are not authenticated.", rf"refused the login \(.*401.*; set {LOG_IN}$"),
        (403, "Permission denied", r"denies this .*403.*; ask its administrator .* tracking\.experiment$"),
    ],
)
def test_a_server_that_refuses_is_not_one_that_is_away(status: int, body: str, said: str, tmp_path: Path) -> None:
    with refusing(status, body) as server:
        config = TrackingConfig(root=str(tmp_path / "runs"), uri=server.uri, offline=True)
        with pytest.raises(TrackingError, match=f"^the tracking store {server.uri} {said}") as caught:
            open_tracker(config, run_name="first", tags={})
    assert "can't be reached" not in str(caught.value)
    assert not Path(config.root).exists()


def test_a_run_name_that_the_store_refuses_is_no_reason_to_go_offline(
    server: Server, server_config: TrackingConfig
) -> None:
    too_long = {"error_code": "BAD_REQUEST", "message": "value too long for type character varying(250)"}
    with in_front_of(server, refusing=("runs/create", 400, json.dumps(too_long))) as strict:
        config = dataclasses.replace(server_config, uri=strict.uri, offline=True)
        said = r"refused this: BAD_REQUEST: value too long .*; check run_name, tracking\.experiment and tracking\.tags$"
        with pytest.raises(TrackingError, match=said):
            open_tracker(config, run_name="x" * 300, tags={})
    assert not Path(config.root).exists()


def test_nothing_is_made_by_a_server_that_answers_after_the_limit(
    server: Server, server_config: TrackingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("brainseg.tracking.mlflow.connection.START_PATIENCE_S", 1.0)
    with in_front_of(server, first_after_s=3.0) as slow:
        config = dataclasses.replace(server_config, uri=slow.uri, offline=True)
        with open_tracker(config, run_name="late", tags={}) as tracker:
            time.sleep(5.0)  # the answer comes meanwhile
    assert tracker.run_id.startswith("local-")
    client = MlflowClient(tracking_uri=server.uri)
    experiment = client.get_experiment_by_name(config.experiment)
    assert [run.info.status for run in client.search_runs([experiment.experiment_id])] == ["FINISHED"]


@pytest.fixture
def unwritable(server: Server, server_config: TrackingConfig, tmp_path: Path) -> Path:
    """The artifact root of the server's experiment, which this machine can't write."""
    (tmp_path / "file").write_text("no folder")
    location = tmp_path / "file" / "artifacts"
    MlflowClient(tracking_uri=server.uri).create_experiment(server_config.experiment, location.as_uri())
    return location


@pytest.mark.usefixtures("not_asked_again")
def test_a_run_whose_artifacts_can_not_be_written_says_why_and_how_to_go_on(
    unwritable: Path, server_config: TrackingConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_tracker(server_config, run_name="first", tags={}) as tracker:
        tracker.log_text("seed: 1", "config.yaml")
    cause = rf"Not a directory: '?{unwritable}.*"
    assert re.fullmatch(cause, tracker.problem)
    command = f"python -m brainseg.tracking sync --root {server_config.root} --uri {server_config.uri}"
    note = waiting_note(server_config, tracker.undelivered, tracker.problem)
    assert note == f"note: 2 records wait for the store ({tracker.problem}); deliver them with: {command}"
    assert sync(server_config) == 1
    assert re.search(rf"2 still wait \({cause}\)\n", capsys.readouterr().out)


def test_an_offline_run_is_made_by_sync_and_keeps_its_id(
    server: Server, server_config: TrackingConfig, tmp_path: Path, keras_file: Path
) -> None:
    config = dataclasses.replace(server_config, offline=True)
    with server.killed():
        with open_tracker(config, run_name="trip", tags={}) as tracker:
            tracker.log_params({"seed": 1})
            tracker.log_dataset(DatasetInfo(name="phantom", fingerprint="f" * 64, source="0", slices=9, patients=3))
            tracker.log_metrics({"val_dice": 0.25}, epoch=1)
            tracker.log_text("seed: 1", "config.yaml")
            tracker.log_model(keras_file)
        run_id = tracker.run_id
        store = open_store(config)
        before = store.read(run_id)
        assert store.text(run_id, "config.yaml") == "seed: 1"
        assert store.file(run_id, MODEL_FILE, tmp_path).read_bytes() == keras_file.read_bytes()
        with open_tracker(config, run_name="trip", tags={}, run_id=run_id) as resumed:
            resumed.log_metrics({"val_dice": 0.5}, epoch=2)
    assert run_id.startswith("local-")
    assert resumed.run_id == run_id
    assert (before.status, before.metrics, before.params) == ("FINISHED", {"val_dice": {1: 0.25}}, {"seed": "1"})

    assert sync(server_config) == 0
    record = open_store(server_config).read(run_id)
    assert (record.run_id, record.name, record.status) == (run_id, "trip", "FINISHED")
    assert record.metrics == {"val_dice": {1: 0.25, 2: 0.5}}
    assert open_store(server_config).text(run_id, "config.yaml") == "seed: 1"
    client = MlflowClient(tracking_uri=server.uri)
    experiment = client.get_experiment_by_name(server_config.experiment)
    (made,) = client.search_runs([experiment.experiment_id])
    for known_as in (run_id, made.info.run_id):
        assert open_store(server_config).read(known_as) == record
        with open_tracker(server_config, run_name="trip", tags={}, run_id=known_as) as tracker:
            assert tracker.run_id == run_id
    assert spooled(server_config) == []


@pytest.mark.usefixtures("not_asked_again")
def test_nothing_of_a_password_is_spooled_or_said(
    closed_port: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    uri = f"http://ada:s3cret@127.0.0.1:{closed_port}"
    config = TrackingConfig(root=str(tmp_path / "runs"), uri=uri, offline=True)
    tracker = open_tracker(config, run_name="first", tags={})
    with caplog.at_level(logging.DEBUG, logger="brainseg"), contextlib.suppress(RuntimeError), tracker:
        raise RuntimeError(f"{uri} went away")
    assert "s3cret" not in caplog.text
    assert open_store(config).read(tracker.run_id).tags["failure"].startswith("RuntimeError: http://ada:***@127")
    written = b"".join(path.read_bytes() for path in Path(config.root).rglob("*") if path.is_file())
    assert b"ada:***@" in written
    assert b"s3cret" not in written


@pytest.mark.usefixtures("not_asked_again")
def test_nothing_is_added_to_a_run_that_waits_in_the_spool(tmp_path: Path) -> None:
    config = TrackingConfig(root=str(tmp_path / "runs"), uri="http://127.0.0.1:9", offline=True)
    with open_tracker(config, run_name="first", tags={}) as tracker:
        pass
    (tmp_path / "in").mkdir()
    with pytest.raises(TrackingError, match=r"still waits in .*/spool; deliver it first, with python -m brainseg"):
        open_store(config).add(tracker.run_id, tmp_path / "in", to="evaluation/val", tags={})


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("./mlruns", r"tracking\.uri must start with one of sqlite://, http://.* got './mlruns'"),
        ("ftp://ada:s3cret@host/runs", r"got 'ftp://ada:\*\*\*@host/runs'"),
        ("sqlite://", "must name an SQLite file"),
        ("sqlite:///:memory:", "must name an SQLite file"),
        ("sqlite:///what?.db", r"must not hold \? or %"),
        ("sqlite:////proc/nowhere/mlflow.db", "must be a folder that can be written to, got /proc/nowhere"),
    ],
)
def test_a_uri_that_can_not_be_used_is_an_error(uri: str, message: str, tmp_path: Path) -> None:
    config = TrackingConfig(root=str(tmp_path / "runs"), uri=uri)
    with pytest.raises(TrackingError, match=message) as caught:
        open_tracker(config, run_name="first", tags={})
    assert "\n" not in str(caught.value)
    assert "s3cret" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_variable_in_the_environment_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "file:///runs")
    with pytest.raises(TrackingError, match=r"^MLFLOW_TRACKING_URI must start with"):
        open_tracker(TrackingConfig(root=str(tmp_path)), run_name="first", tags={})


def test_a_root_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("mine")
    with pytest.raises(TrackingError, match=r"tracking\.root must be a folder, got the file"):
        open_tracker(TrackingConfig(root=str(tmp_path / "runs" / "deep")), run_name="first", tags={})
    assert (tmp_path / "runs").read_text() == "mine"


def test_a_file_that_is_no_database_is_an_error_and_stays(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("not a database, but my notes" * 100)
    with pytest.raises(TrackingError, match=r"mlflow\.db is not an SQLite database"):
        open_tracker(TrackingConfig(root=str(tmp_path)), run_name="first", tags={})
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]


def test_the_database_of_another_program_is_an_error_and_stays(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        database.execute("CREATE TABLE studies (study_id INTEGER)")
    with pytest.raises(TrackingError, match=r"something other than MLflow \(it has the table 'studies'\)"):
        open_tracker(TrackingConfig(root=str(tmp_path)), run_name="first", tags={})
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]


def test_reading_where_there_are_no_runs_makes_nothing(tmp_path: Path) -> None:
    store = open_store(TrackingConfig(root=str(tmp_path / "runs")))
    with pytest.raises(TrackingError, match="no runs are kept in sqlite:///"):
        store.read("0" * 32)
    assert os.listdir(tmp_path) == []


@pytest.mark.usefixtures("not_asked_again")
def test_a_run_that_waits_in_the_spool_has_the_tags_that_every_store_shows(tmp_path: Path) -> None:
    config = TrackingConfig(root=str(tmp_path / "runs"), uri="http://127.0.0.1:9", offline=True)
    with open_tracker(config, run_name="first", tags={"source": "python -m brainseg.train"}) as tracker:
        tracker.set_tags({"git_commit": "c" * 40})
    tags = open_store(config).read(tracker.run_id).tags
    assert (tags["source"], tags["git_commit"]) == ("python -m brainseg.train", "c" * 40)
    assert open_store(config).read(tracker.run_id).tags.keys().isdisjoint({"mlflow.source.name"})
