"""Where studies are kept: two kinds of storage with one behaviour, and what is refused before anything is written."""

import sqlite3
import sys
import time
from pathlib import Path
from typing import Any

import optuna
import pytest
from postgres import sql
from queue_processes import opened, started, trials_of
from study_files import made_study

from brainseg.errors import ConfigError, TrackingError
from brainseg.sweep.__main__ import main
from brainseg.sweep.engine import storage
from brainseg.sweep.engine.storage import ENVIRONMENT_KEY, JournalStudyStorage, open_storage
from brainseg.tracking.mlflow.connection import UnreachableError

SECRET = "rosebud"  # noqa: S105  # of nothing


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(ENVIRONMENT_KEY, raising=False)


def refusal(where: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line with which the command refuses a storage; nothing is printed or written beside it."""
    before = sorted(Path.cwd().rglob("*"))
    assert main(["status", "study", "--storage", where]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert sorted(Path.cwd().rglob("*")) == before
    return line


def test_who_opens_the_storage_again_finds_the_study(where: str, tmp_path: Path) -> None:
    study = started(where, made_study(tmp_path))
    study.set_user_attr("note", "Grüße")
    again = started(where, made_study(tmp_path))
    assert again.user_attrs == study.user_attrs
    assert again.user_attrs["note"] == "Grüße"
    assert len(trials_of(where)) == 1


def test_one_at_a_time_has_the_turn(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "LOCK_WAIT_S", 1.0)
    first, second = opened(where), opened(where)
    with first.lock(), pytest.raises(UnreachableError, match=r"is held by another process since 1 s; end it"):
        second.lock().__enter__()
    with second.lock():
        pass


def test_an_error_within_the_turn_ends_it(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "LOCK_WAIT_S", 1.0)
    first, second = opened(where), opened(where)
    with pytest.raises(ZeroDivisionError), first.lock():
        raise ZeroDivisionError
    with second.lock():
        pass


def test_each_study_of_a_database_has_a_turn_of_its_own(
    postgres_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "LOCK_WAIT_S", 1.0)
    one, other, again = (open_storage(postgres_server.get_uri(), root=tmp_path, name=name) for name in ("a", "b", "a"))
    with one.lock(), other.lock():
        with pytest.raises(UnreachableError):
            again.lock().__enter__()
        # Tables are made, and version 0.1 claims its trials, while nobody has a turn.
        (free,) = sql(postgres_server.get_uri(), f"SELECT pg_try_advisory_lock({storage.TABLES_KEY})")
        assert free == (False,)


def test_the_server_ends_the_turn_of_a_process_that_it_has_lost(
    postgres_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = str(postgres_server.get_uri())
    lost, second = opened(url), opened(url)
    monkeypatch.setattr(storage, "TURN_IDLE_S", 0.5)  # and no sign of life before the block ends
    begun = time.monotonic()
    turn = lost.lock()
    turn.__enter__()
    with second.lock():
        assert time.monotonic() - begun < 30
    with pytest.raises(UnreachableError, match="can't be reached"):
        turn.__exit__(None, None, None)
    with lost.lock():  # with another connection
        pass


def test_a_process_that_lives_keeps_its_turn_however_long_it_takes(
    postgres_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "TURN_IDLE_S", 1.5)
    monkeypatch.setattr(storage, "TURN_PULSE_S", 0.1)
    patient = opened(str(postgres_server.get_uri()))
    with patient.lock():
        time.sleep(2.5)
        assert patient.now() > 0


def test_a_connection_to_a_host_that_is_gone_is_given_up() -> None:
    parsed = storage._parsed("postgresql://host/studies?keepalives_idle=7")
    assert parsed.query == {
        "connect_timeout": "10",
        "keepalives": "1",
        "keepalives_idle": "7",
        "keepalives_interval": "10",
        "keepalives_count": "3",
        "tcp_user_timeout": "50000",
    }


def test_workers_on_other_hosts_can_share_postgresql_alone(where: str) -> None:
    assert opened(where).is_shared_between_hosts == where.startswith("postgresql")


def test_by_default_a_study_is_a_journal_beside_the_runs(tmp_path: Path) -> None:
    opened_here = open_storage(None, root=tmp_path / "mlruns", name="quick")
    assert opened_here.shown == str(tmp_path / "mlruns" / "studies" / "quick.journal")
    assert opened_here.folder == tmp_path / "mlruns" / "studies" / "alive"


def test_the_environment_names_the_storage_and_the_option_comes_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENVIRONMENT_KEY, str(tmp_path / "from_environment"))
    assert open_storage(None, root=tmp_path, name="quick").shown == str(tmp_path / "from_environment")
    assert open_storage("given", root=tmp_path, name="quick").shown == str(tmp_path / "given")


def test_a_journal_whose_first_line_was_cut_short_is_begun_again(tmp_path: Path) -> None:
    journal = tmp_path / "study.journal"
    for start in (b"", b'{"op', b'{"op_code":0,"worker_id":"x","study_na'):
        journal.write_bytes(start)
        JournalStudyStorage(journal)
        assert journal.read_bytes() == b""


def test_an_unknown_study_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    line = refusal("none.journal", capsys)
    assert line == (
        f"error: no study 'study' in {tmp_path / 'none.journal'}; start it with: python -m brainseg.sweep run study"
    )


@pytest.mark.parametrize("where", ["sqlite:///study.db", "SQLite:///study.db", "mysql://host/db", "postgres://host/db"])
def test_other_databases_are_refused(where: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert refusal(where, capsys) == (
        f"error: --storage must be a path or a postgresql:// URL, got '{where}'; leave it out for a journal file"
    )


def test_a_folder_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert refusal(".", capsys) == (
        f"error: --storage must name a file, got the folder {tmp_path}; try {tmp_path / 'study.journal'}"
    )


def test_a_device_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert refusal("/dev/null", capsys) == ("error: --storage must name a regular file, got /dev/null; choose another")


def write_sqlite(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE notes (text TEXT)")
    connection.close()


def test_a_file_that_is_no_journal_is_refused_and_stays_as_it_is(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "notes"
    for write in (
        lambda: file.write_bytes(b"first line\nno line end"),
        lambda: file.write_bytes(b'[{"op_code":0}]'),
        lambda: write_sqlite(file),
    ):
        file.unlink(missing_ok=True)
        write()
        content = file.read_bytes()
        line = refusal("notes", capsys)
        assert line == (
            f"error: {file} is not a journal of Optuna's (it holds something else); "
            "restore it or choose another --storage"
        )
        assert file.read_bytes() == content


def test_a_journal_that_is_damaged_in_the_middle_is_refused(tmp_path: Path) -> None:
    journal = tmp_path / "study.journal"
    started(str(journal), made_study(tmp_path))
    lines = journal.read_bytes().splitlines(keepends=True)
    for damage in (b"{\n", b"[]\n", b'{"op_code":4}\n'):
        journal.write_bytes(b"".join([lines[0], damage, *lines[2:]]))
        with pytest.raises(TrackingError, match=r"study\.journal is not a journal of Optuna's") as error:
            opened(str(journal))
        assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("where", ["/proc/study.journal", "/proc/none/study.journal", "file/study.journal"])
def test_a_place_that_cannot_be_written_to_is_refused(where: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TrackingError, match=r"^the study can't be kept in .*study\.journal \(.+\); choose another"):
        opened(where)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_server_that_does_not_answer_is_one_line_without_the_password(capsys: pytest.CaptureFixture[str]) -> None:
    line = refusal(f"postgresql://user:{SECRET}@127.0.0.1:1/studies", capsys)
    assert line.startswith("error: the storage postgresql://user:***@127.0.0.1:1/studies can't be used (")
    assert "Connection refused" in line
    assert SECRET not in line


def test_a_password_that_breaks_the_url_is_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    line = refusal(f"postgresql://user:pass:word@host:{SECRET}/studies", capsys)
    assert line == (
        "error: --storage must be a URL of PostgreSQL, got "
        f"'postgresql://user:***@host:{SECRET}/studies'; in a password, write / as %2F, : as %3A and @ as %40"
    )
    line = refusal(f"postgresql://user:12/{SECRET}@host/studies", capsys)
    assert SECRET not in line


def test_a_missing_driver_is_named_with_the_remedy(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg2", None)
    line = refusal(f"postgresql://user:{SECRET}@127.0.0.1:1/studies", capsys)
    assert line.endswith("pip install '.[postgresql]' in the clone of brainseg")
    assert "psycopg2" in line
    assert SECRET not in line


@pytest.mark.parametrize(
    "left",
    [
        "DROP TABLE alembic_version",
        "DELETE FROM alembic_version",
        "DROP TABLE trial_values; DELETE FROM alembic_version",
    ],
    ids=["without a version", "without the version's number", "without the last tables"],
)
def test_a_database_that_was_half_made_by_a_kill_is_made_to_its_end(
    left: str, empty_database: str, tmp_path: Path
) -> None:
    open_storage(empty_database, root=tmp_path, name="study")
    sql(empty_database, left)
    found = open_storage(empty_database, root=tmp_path, name="study")
    study = optuna.create_study(storage=found.optuna, study_name="study")
    study.tell(study.ask(), 1.0)
    assert study.best_value == 1.0


def test_a_database_of_another_program_is_refused_and_left_alone(
    empty_database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    sql(empty_database, "CREATE TABLE alembic_version (version_num text)", "CREATE TABLE experiments (name text)")
    line = refusal(empty_database, capsys)
    assert "it belongs to another program, such as MLflow: make a database for studies" in line
    found = sql(empty_database, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    assert sorted(found) == [("alembic_version",), ("experiments",)]


def test_a_user_who_may_not_make_tables_is_told(empty_database: str) -> None:
    sql(empty_database, "CREATE ROLE reader LOGIN", "REVOKE CREATE ON SCHEMA public FROM public")
    with pytest.raises(TrackingError, match="permission denied for schema public"):
        opened(empty_database.replace("postgres:@", "reader:@"))


def test_only_what_is_a_url_is_taken_for_one(tmp_path: Path) -> None:
    assert open_storage("a:b", root=tmp_path, name="study").shown == str(tmp_path / "a:b")
    with pytest.raises(ConfigError, match="must be a path or a postgresql:// URL"):
        open_storage("http://host/study", root=tmp_path, name="study")


def test_a_server_tells_how_many_connections_it_takes(postgres_server: Any, tmp_path: Path) -> None:
    assert opened(str(postgres_server.get_uri())).connections() == 97  # of PostgreSQL's 100, 3 are for superusers
    assert opened(str(tmp_path / "study.journal")).connections() is None


def test_a_rehearsal_leaves_nothing_behind(postgres: str, tmp_path: Path) -> None:
    storage = opened(postgres)
    storage.rehearse()
    assert storage.optuna.get_all_studies() == []
