"""Creates MLflow's SQLite database in write-ahead mode, safely for processes that start together, and opens it."""

import contextlib
import glob
import os
import shlex
import sqlite3
from pathlib import Path
from urllib.parse import quote

from filelock import FileLock, Timeout

from brainseg.cli.output import disk_or
from brainseg.errors import TrackingError
from brainseg.tracking.paths import SQLITE, sqlite_path

LOCK_WAIT_S = 120.0  # making the database takes 1 to 3 seconds; a machine under load needs more
BUSY_WAIT_S = 20.0  # as long as MLflow itself waits for another writer


def prepare_database(path: Path) -> str:
    """Makes sure that `path` holds an MLflow database in write-ahead (WAL) mode; the URI by which MLflow opens it.

    It is made under a temporary name and renamed, under a lock beside it: MLflow's own migrations fail
    where processes open a fresh database together. A database that can't be written to is opened for reading.
    Raises TrackingError where neither is possible, or where the file is something else; DiskError where the disk is
    full or broken.
    """
    if path.exists() and not is_writable(path):
        return _for_reading(path)
    try:
        if _is_ready(path):
            return f"{SQLITE}{path}"
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock", timeout=LOCK_WAIT_S):
            if not _tables(path):
                _create(path)
            _use_wal(path)
        return f"{SQLITE}{path}"
    except Timeout:
        raise TrackingError(f"{path}.lock is held by another process since {LOCK_WAIT_S:.0f} s; end it") from None
    except (OSError, sqlite3.DatabaseError) as error:
        raise what_is_wrong(path, error) or disk_or(TrackingError, error)(
            f"tracking.root must be a folder that can be written to, got {path.parent} ({_reason(error)}); "
            "choose another with tracking.root=DIR"
        ) from error


def what_is_wrong(path: Path, error: BaseException) -> TrackingError | None:
    """The error of a file that is no database, damaged, or not made to its end; None for any other error.

    error: what was raised, with its causes.
    """
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, sqlite3.Error):
        cause = cause.__cause__ or cause.__context__
    code, found = getattr(cause, "sqlite_errorcode", None), str(cause)
    if code == sqlite3.SQLITE_NOTADB or found == "unsupported file format":
        return TrackingError(
            f"{path} is not an SQLite database ({found}); move it away or choose another with tracking.uri"
        )
    if code == sqlite3.SQLITE_CORRUPT:
        return TrackingError(
            f"{path} is damaged ({found}); restore a copy of it, or move it away and save what can be read: "
            f"sqlite3 {shlex.quote(path.name)} .recover"
        )
    return half_made(path, found) if code == sqlite3.SQLITE_ERROR else None  # a table or a column is missing


def half_made(path: Path, found: str) -> TrackingError:
    """The error of a database whose tables were not made to their end. found: what is missing."""
    return TrackingError(
        f"{path} was not made to its end, or by another version of MLflow ({found}); restore a copy of it, or if it "
        "never had runs, move it away"
    )


def is_writable(path: Path) -> bool:
    """Whether SQLite can write to the database, for which it also writes to its folder."""
    return os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)


def check_writable(uri: str) -> None:
    """Raises TrackingError for an SQLite database without write permission."""
    path = sqlite_path(uri)
    if path is not None and path.exists() and not is_writable(path):
        raise TrackingError(
            f"{path} can't be written to (permission denied, or a read-only disk); "
            "ask its owner, or name another store with tracking.uri"
        )


def reading_uri(path: Path) -> str:
    """SQLite's own URI for opening the database read-only."""
    # Write-ahead mode needs a file beside the database even for reading, unless told that nobody writes.
    is_settled = not is_writable(path) and not Path(f"{path}-wal").exists()
    return f"file:{quote(str(path))}?{'immutable=1' if is_settled else 'mode=ro'}"


def artifacts_beside(path: Path) -> Path:
    """Where the artifacts of the runs in this database go."""
    return path.parent / "artifacts"


def set_artifact_location(path: Path, experiment_id: int, location: str) -> None:
    """Where the artifacts of new runs in this experiment go."""
    with _connected(path) as connection, connection:
        connection.execute(
            "UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?", (location, experiment_id)
        )


def _is_ready(path: Path) -> bool:
    tables = _tables(path)
    if not tables:
        return False
    if "experiments" not in tables:
        # Optuna's database, for one: both libraries own a table named alembic_version.
        raise TrackingError(
            f"{path} is a database of something other than MLflow (it has the table {min(tables)!r}); "
            "name another with tracking.uri"
        )
    with _connected(path) as connection:
        return bool(connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal")


def _for_reading(path: Path) -> str:
    uri = reading_uri(path)
    try:
        with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=BUSY_WAIT_S)) as connection:
            connection.execute("SELECT count(*) FROM experiments")
    except sqlite3.Error as error:
        raise TrackingError(
            f"{path} can't be read without writing beside it ({error}); ask its owner to list the runs, or copy it"
        ) from error
    return f"{SQLITE}{uri}&uri=true"


def _tables(path: Path) -> set[str]:
    if not path.exists():
        return set()
    with _connected(path) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def _create(path: Path) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    for left in path.parent.glob(f"{glob.escape(f'.{path.name}.')}*.unfinished*"):  # by a kill: we hold the lock
        left.unlink(missing_ok=True)
    try:
        unfinished.touch()
        _use_wal(unfinished)  # before the tables: MLflow's migrations then wait less for the disk
        store = SqlAlchemyStore(f"{SQLITE}{unfinished}", artifacts_beside(path).as_uri())
        store.engine.dispose()
        with _connected(unfinished) as connection:  # everything into the one file that is renamed
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        unfinished.replace(path)
    except OSError:
        raise
    except Exception as error:
        raise OSError(f"MLflow couldn't make its tables: {_reason(error)}") from error
    finally:
        for suffix in ("", "-journal", "-wal", "-shm"):
            Path(f"{unfinished}{suffix}").unlink(missing_ok=True)


def _use_wal(path: Path) -> None:
    # Readers go on while a run writes, and an epoch's batch costs half. The mode is kept in the file.
    with _connected(path) as connection:
        connection.execute("PRAGMA journal_mode=WAL")


def _connected(path: Path) -> contextlib.closing[sqlite3.Connection]:
    uri = f"file:{quote(str(path))}?mode=rw"  # never creates the file
    return contextlib.closing(sqlite3.connect(uri, uri=True, timeout=BUSY_WAIT_S))


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).splitlines()[0] if str(error) else type(error).__name__
