"""Where a study is kept: a journal file on one host, or PostgreSQL for many; and the lock of those who claim trials."""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from zlib import crc32

from filelock import FileLock, Timeout
from optuna.exceptions import OptunaError, StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage, get_storage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from brainseg.cli.secrets import mask
from brainseg.errors import ConfigError, TrackingError
from brainseg.tracking.mlflow.connection import UnreachableError, reason

if TYPE_CHECKING:
    from sqlalchemy import URL

ENVIRONMENT_KEY = "BRAINSEG_STORAGE"
POSTGRESQL = "postgresql"
JOURNAL_SUFFIX = ".journal"
OPTUNAS_TABLE = "version_info"
OTHERS_TABLE = "alembic_version"  # Optuna and MLflow each make one; in one database they would break each other
JOURNAL_START = b'{"op_code":'  # of every line that Optuna writes
LOCK_WAIT_S = 120.0  # a process that claims a trial holds it for a fraction of a second
CONNECT_WAIT_S = 10  # for a server's first answer
_URL = re.compile(r"[a-z0-9+]+://", re.IGNORECASE)


class StudyStorage:
    """An Optuna storage, a lock that all processes on it share, and a folder for process locks."""

    def __init__(self, optuna: BaseStorage, *, shown: str, folder: Path) -> None:
        """folder: for the process locks of this host."""
        self.optuna = get_storage(optuna)
        self.shown = shown  # for messages; passwords are masked
        self.folder = folder

    @property
    def is_shared_between_hosts(self) -> bool:
        """Whether a worker on another host may hold a trial."""
        raise NotImplementedError

    def now(self) -> float | None:
        """The time by the storage's own clock, in seconds since 1970; None where all processes are on one host."""
        return None

    def lock(self) -> contextlib.AbstractContextManager[None]:
        """Held while a process counts trials and takes one. Released by the kernel, or the server, if it dies."""
        raise NotImplementedError

    @contextlib.contextmanager
    def reached(self) -> Iterator[None]:
        """Raises UnreachableError for what Optuna raises inside when a server doesn't answer."""
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except (StorageInternalError, SQLAlchemyError) as error:
            raise UnreachableError(
                f"the storage {self.shown} can't be reached ({reason(error.__cause__ or error)}); "
                "start it, and run the same command again"
            ) from error


class JournalStudyStorage(StudyStorage):
    """A journal file: trials and values are lines, appended."""

    def __init__(self, path: Path) -> None:
        """Makes the file and its folder if they don't exist. Raises TrackingError if that isn't possible."""
        try:
            _check_start(path)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.open("ab").close()  # fails at once, where a lock file would be tried for LOCK_WAIT_S
            append_lock = _AppendLock(path)
            append_lock.acquire()  # mends what a killed writer left, before it is read
            append_lock.release()
            storage = JournalStorage(JournalFileBackend(str(path), lock_obj=append_lock))
        except OSError as error:
            raise TrackingError(
                f"the study can't be kept in {path} ({reason(error)}); choose another --storage"
            ) from error
        except (ValueError, LookupError, TypeError) as error:
            raise TrackingError(
                f"{path} is not a journal of Optuna's ({reason(error)}); restore it or choose another --storage"
            ) from error
        super().__init__(storage, shown=str(path), folder=path.parent / "alive")
        self._lock = FileLock(f"{path}.turn", timeout=LOCK_WAIT_S)

    @property
    def is_shared_between_hosts(self) -> bool:
        """False: Optuna's journal is for one host, or one file system."""
        return False

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """A file lock beside the journal."""
        try:
            with self._lock:
                yield
        except Timeout:
            raise TrackingError(
                f"{self._lock.lock_file} is held by another process since {LOCK_WAIT_S:.0f} s; end it"
            ) from None


class PostgresStudyStorage(StudyStorage):
    """A PostgreSQL database, which workers on any number of hosts share."""

    def __init__(self, url: str, *, folder: Path) -> None:
        """Makes Optuna's tables if they don't exist.

        Raises ConfigError for a malformed URL, and TrackingError if the server can't be used.
        """
        from sqlalchemy import create_engine, inspect
        from sqlalchemy.exc import SQLAlchemyError
        from sqlalchemy.pool import NullPool

        self._key = crc32(b"brainseg.sweep")
        self._shown = mask(url)
        parsed = _parsed(url)
        try:
            # A connection for each turn, so that the server ends the turn of a process that dies.
            self._engine = create_engine(parsed, poolclass=NullPool)
            with self.lock():  # or eight processes would make the tables at once
                tables = inspect(self._engine).get_table_names()
                if OTHERS_TABLE in tables and OPTUNAS_TABLE not in tables:
                    raise RuntimeError("it belongs to another program, such as MLflow: make a database for studies")
                storage = RDBStorage(
                    parsed.render_as_string(hide_password=False), engine_kwargs={"pool_pre_ping": True}
                )
        except (SQLAlchemyError, OptunaError, RuntimeError, ImportError) as error:
            remedy = "pip install 'brainseg[postgresql]'" if isinstance(error, ImportError) else "check --storage"
            raise TrackingError(f"the storage {self._shown} can't be used ({reason(error)}); {remedy}") from None
        self._pooled = storage.engine
        super().__init__(storage, shown=self._shown, folder=folder)

    @property
    def is_shared_between_hosts(self) -> bool:
        """True."""
        return True

    def now(self) -> float:
        """The server's time: no host's clock is compared with another one's."""
        from sqlalchemy import text

        with self._pooled.connect() as connection:
            return float(connection.execute(text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one())

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """An advisory lock of the server's, until the transaction ends."""
        from sqlalchemy import text
        from sqlalchemy.exc import OperationalError

        with contextlib.ExitStack() as transaction:
            try:
                connection = transaction.enter_context(self._engine.begin())
                connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_WAIT_S:.0f}s'"))
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": self._key})
            except OperationalError as error:
                raise TrackingError(
                    f"the storage {self._shown} can't be used ({reason(error)}); check --storage"
                ) from None
            yield


def _parsed(url: str) -> "URL":
    """The URL with the driver and the time limit for SQLAlchemy. Raises ConfigError for a malformed URL."""
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # whose text may hold a part of the password
        raise ConfigError(
            f"--storage must be a URL of PostgreSQL, got {mask(url)!r}; "
            "in a password, write / as %2F, : as %3A and @ as %40"
        ) from None
    if parsed.drivername == POSTGRESQL:  # for which SQLAlchemy 2.1 takes another driver than 2.0
        parsed = parsed.set(drivername=f"{POSTGRESQL}+psycopg2")
    if parsed.drivername.startswith(f"{POSTGRESQL}+psycopg") and "connect_timeout" not in parsed.query:
        parsed = parsed.update_query_dict({"connect_timeout": str(CONNECT_WAIT_S)})
    return parsed


class _AppendLock(JournalFileOpenLock):
    """Lets one process append to the journal at a time.

    Optuna's own locks are files that a killed process leaves behind, for others to wait for; the kernel releases
    this one. Half a line that a killed process, or a full disk, has left is cut off: whoever wrote it was never
    told that it is written.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self._path = path
        self._lock = FileLock(f"{path}.append", timeout=LOCK_WAIT_S)

    def acquire(self) -> bool:
        """Waits for the lock."""
        self._lock.acquire()
        _cut_half_a_line(self._path)
        return True

    def release(self) -> None:
        """Releases the lock."""
        self._lock.release()


def _check_start(path: Path) -> None:
    """Raises ValueError for a file that holds something else, before anything is written to it."""
    if not path.exists():
        return
    with path.open("rb") as file:
        start = file.read(len(JOURNAL_START))
    if not JOURNAL_START.startswith(start):
        raise ValueError("it holds something else")


def _cut_half_a_line(path: Path) -> None:
    if path.stat().st_size == 0:
        return
    with path.open("rb+") as file:
        file.seek(-1, os.SEEK_END)
        if file.read(1) == b"\n":
            return
        file.seek(0)
        content = file.read()
        file.truncate(content.rfind(b"\n") + 1)


def journal_path(root: Path, name: str) -> Path:
    """Where the study of this name is kept by default."""
    return root / "studies" / f"{name}{JOURNAL_SUFFIX}"


def place_of(where: str | None, *, root: Path, name: str) -> str | Path:
    """Where the study `name` is kept: a postgresql:// URL, or the path of a journal. Opens nothing.

    where: either of them; by default BRAINSEG_STORAGE, else a journal in `root`/studies. Raises ConfigError for
    anything else.
    """
    where = where or os.environ.get(ENVIRONMENT_KEY) or str(journal_path(root, name))
    if _URL.match(where):
        if not where.startswith(POSTGRESQL):
            raise ConfigError(
                f"--storage must be a path or a postgresql:// URL, got {mask(where)!r}; leave it out for a journal file"
            )
        return where
    path = Path(where).expanduser().absolute()
    if path.is_dir():
        raise ConfigError(f"--storage must name a file, got the folder {path}; try {path / f'{name}{JOURNAL_SUFFIX}'}")
    if path.exists() and not path.is_file():
        raise ConfigError(f"--storage must name a regular file, got {path}; choose another")
    return path


def open_storage(where: str | None, *, root: Path, name: str, create: bool = True) -> StudyStorage:
    """The storage of the study `name`, at its `place_of`.

    create: make the journal if it doesn't exist. Raises ConfigError like `place_of`, and TrackingError if it can't be
    used, or doesn't exist and isn't to be made.
    """
    place = place_of(where, root=root, name=name)
    if isinstance(place, str):
        return PostgresStudyStorage(place, folder=root / "studies" / "alive")
    if not create and not place.exists():
        raise TrackingError(f"no study {name!r} in {place}; start it with: python -m brainseg.sweep run {name}")
    return JournalStudyStorage(place)
