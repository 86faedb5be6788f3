"""A database that is damaged or half-made, and a run that was deleted for good: each is said in one line."""

import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from brainseg.compare.__main__ import main as compare
from brainseg.config import TrackingConfig
from brainseg.errors import TrackingError
from brainseg.tracking import open_store, open_tracker
from brainseg.tracking.__main__ import main as tracking
from brainseg.tracking.mlflow.connection import UnreachableError, reached
from brainseg.tracking.mlflow.database import prepare_database
from brainseg.tracking.paths import resolve_uri
from brainseg.tracking.spool.spool import open_spool


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100_000])


def overwritten(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096 : len(content) // 2] = (len(content) // 2 - 4096) * b"\xff"
    path.write_bytes(content)


def of_another_format(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[44:48] = b"\0\0\0\x63"  # the schema format number
    path.write_bytes(content)


def notes(path: Path) -> None:
    path.write_text("my notes" * 1000)


def with_statements(*statements: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        with contextlib.closing(sqlite3.connect(path)) as database, database:
            for statement in statements:
                database.execute(statement)

    return change


BROKEN = {
    "cut off": (cut, "is damaged (database disk image is malformed); restore a copy of it, or move it away and "),
    "overwritten": (overwritten, "is damaged (database disk image is malformed); restore a copy of it, or move it "),
    "of another format": (of_another_format, "is not an SQLite database (unsupported file format); move it away or "),
    "notes": (notes, "is not an SQLite database (file is not a database); move it away or choose another with "),
    "no version": (
        with_statements("DELETE FROM alembic_version"),
        "was not made to its end, or by another version of MLflow (its alembic_version is empty); restore a copy of ",
    ),
    "a table lacks": (
        with_statements("PRAGMA foreign_keys=off", "DROP TABLE runs"),
        "was not made to its end, or by another version of MLflow (table runs has no column named deleted_time); ",
    ),
    "in the middle of a migration": (
        with_statements("DROP TABLE trace_info", "UPDATE alembic_version SET version_num = '181f10493468'"),
        "was not made to its end, or by another version of MLflow (table experiment_tags already exists); restore ",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_database_that_is_damaged_or_half_made_is_said_to_be(name: str, sqlite_config: TrackingConfig) -> None:
    change, told = BROKEN[name]
    path = Path(sqlite_config.root, "mlflow.db")
    change(path)
    with pytest.raises(TrackingError) as caught:
        open_tracker(sqlite_config, run_name="first", tags={})
    assert not isinstance(caught.value, UnreachableError)
    assert str(caught.value).startswith(f"{path} {told}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["cut off", "overwritten", "notes"])
def test_a_command_that_reads_says_so_too(
    name: str, sqlite_config: TrackingConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    change, told = BROKEN[name]
    path = Path(sqlite_config.root, "mlflow.db")
    change(path)
    assert compare(["--root", sqlite_config.root]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {path} {told}")


@pytest.mark.parametrize("run_id", ["a\0b", "local-a\0b", "local-../../a", "local-", "a" * 5000])
def test_an_id_that_is_no_id_is_an_unknown_run(run_id: str, sqlite_config: TrackingConfig) -> None:
    Path(sqlite_config.root, "spool").mkdir()
    store = open_store(sqlite_config)
    for ask in (store.read, lambda name: store.text(name, "config.yaml")):
        with pytest.raises(TrackingError, match=r"^no run "):
            ask(run_id)


def test_what_a_kill_left_of_a_database_is_deleted_when_it_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SqlAlchemyStore, "__init__", lambda store, *_: 1 / 0)
    path = tmp_path / "mlflow.db"
    for left in (".mlflow.db.17.unfinished", ".mlflow.db.17.unfinished-wal"):
        (tmp_path / left).write_bytes(b"half of it")
    (tmp_path / ".mlflow.db.notes").write_text("mine")
    with pytest.raises(TrackingError, match="MLflow couldn't make its tables: division by zero"):
        prepare_database(path)
    assert sorted(each.name for each in tmp_path.iterdir()) == [".mlflow.db.notes", "mlflow.db.lock"]


def begun(run_id: str, config: TrackingConfig) -> dict[str, Any]:
    """The first record of a run."""
    known = {"run_id": run_id, "is_new": True, "experiment": "Default", "name": "x", "tags": {}}
    return known | {"uri": resolve_uri(config), "time_ms": 1}


def test_a_run_that_was_deleted_for_good_does_not_fail_every_sync(
    sqlite_config: TrackingConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    spools = Path(sqlite_config.root, "spool")
    client: MlflowClient = reached(resolve_uri(sqlite_config))
    run_id = client.create_run("0").info.run_id
    with open_spool(spools, run_id) as spool:
        spool.append("open", begun(run_id, sqlite_config))
        spool.append("begin", {"tags": {}})
    client.delete_run(run_id)
    assert tracking(["sync", "--root", sqlite_config.root]) == 1
    assert f"restore it with `mlflow runs restore --run-id {run_id}`" in capsys.readouterr().out
    with contextlib.closing(sqlite3.connect(Path(sqlite_config.root, "mlflow.db"))) as database, database:
        database.execute("DELETE FROM runs WHERE run_uuid = ?", (run_id,))  # as `mlflow gc` does
    for _ in range(2):
        assert tracking(["sync", "--root", sqlite_config.root]) == 0
        assert capsys.readouterr().out == (
            f"{run_id}: 0 records delivered (this store doesn't have the run; if it was deleted, delete its 3 records: "
            f"{spools / run_id})\n"
        )
    assert (spools / run_id / "records.jsonl").exists()  # the store may be the wrong one


def test_a_damaged_spool_is_one_line_and_keeps_no_other_run_from_the_store(
    sqlite_config: TrackingConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    spools = Path(sqlite_config.root, "spool")
    run_id = reached(resolve_uri(sqlite_config)).create_run("0").info.run_id
    for each in ("local-0", run_id):
        with open_spool(spools, each) as spool:
            spool.append("open", begun(run_id, sqlite_config))
    records = spools / "local-0" / "records.jsonl"
    damaged = records.read_bytes().replace(b'"is_new":true', b'"is_new":[[[[', 1)
    records.write_bytes(damaged)
    assert tracking(["sync", "--root", sqlite_config.root]) == 1
    local, other = sorted(capsys.readouterr().out.splitlines(), key=lambda line: not line.startswith("local"))
    assert local.startswith(f"local-0: 0 records delivered, 1 still wait ({records} line 1 is not JSON (")
    assert local.endswith(f"; restore it, or delete {records.parent} and what waits there for the store)")
    assert other == f"{run_id}: 1 records delivered"
    assert records.read_bytes() == damaged
    with pytest.raises(TrackingError, match=r"/records.jsonl line 1 is not JSON"):
        open_store(sqlite_config).read("local-0")
    with pytest.raises(TrackingError, match=r"/records.jsonl line 1 is not JSON"):
        open_tracker(sqlite_config, run_name="", tags={}, run_id="local-0")


def test_a_spooled_run_of_foreign_records_is_refused_in_one_line(sqlite_config: TrackingConfig) -> None:
    with open_spool(Path(sqlite_config.root, "spool"), "local-0") as spool:
        spool.append("open", {"is_new": True, "experiment": "brainseg", "name": "x", "tags": {}})
        spool.append("metrics", {"values": [1]})
    with pytest.raises(
        TrackingError, match=r"/records.jsonl line 2 isn't a record of a run \(KeyError\('metrics'\)\);"
    ):
        open_store(sqlite_config).read("local-0")
