"""Where a study is kept: a journal file on one host, or PostgreSQL for many; and the lock of all who count in it."""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from zlib import crc32

from filelock import FileLock, Timeout
from optuna.storages import BaseStorage, JournalStorage, RDBStorage, get_storage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from brainseg.errors import ConfigError, TrackingError
from brainseg.tracking.connection import reason
from brainseg.tracking.home import mask

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

ENVIRONMENT_KEY = "BRAINSEG_STORAGE"
POSTGRESQL = "postgresql"
JOURNAL_SUFFIX = ".journal"
LOCK_WAIT_S = 120.0  # who counts and asks holds it for a fraction of a second
_URL = re.compile(r"[a-z0-9+]+://")


class StudyStorage:
    """An Optuna storage, a lock that all processes on it share, and a folder for signs of life."""

    def __init__(self, optuna: BaseStorage, *, shown: str, folder: Path) -> None:
        """folder: of files that tell who is alive; on this host."""
        self.optuna = get_storage(optuna)
        self.shown = shown  # for messages; passwords are masked
        self.folder = folder

    @property
    def is_shared_between_hosts(self) -> bool:
        """Whether a worker on another host may hold a trial."""
        raise NotImplementedError

    def lock(self) -> contextlib.AbstractContextManager[None]:
        """Held while a process counts trials and takes one. Released by the kernel, or the server, if it dies."""
        raise NotImplementedError


class JournalStudyStorage(StudyStorage):
    """A journal file: trials and values are lines, appended."""

    def __init__(self, path: Path) -> None:
        """Makes the file and its folder where there are none. Raises TrackingError where that isn't possible."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            append_lock = _AppendLock(path)
            append_lock.acquire()  # mends what a killed writer left, before it is read
            append_lock.release()
            storage = JournalStorage(JournalFileBackend(str(path), lock_obj=append_lock))
        except OSError as error:
            raise TrackingError(
                f"the study can't be kept in {path} ({reason(error)}); choose another --storage"
            ) from error
        except (ValueError, KeyError) as error:
            raise TrackingError(
                f"{path} is not a journal of Optuna's ({reason(error)}); restore it or choose another --storage"
            ) from error
        super().__init__(storage, shown=str(path), folder=path.parent / "alive")
        self._lock = FileLock(f"{path}.turn", timeout=LOCK_WAIT_S)

    @property
    def is_shared_between_hosts(self) -> bool:
        """Never: Optuna's journal is for one host, or one file system."""
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
        """Makes Optuna's tables where there are none. Raises TrackingError where the server can't be used."""
        from sqlalchemy import create_engine
        from sqlalchemy.exc import SQLAlchemyError
        from sqlalchemy.pool import NullPool

        self._key = crc32(b"brainseg.sweep")
        try:
            # A connection of its own for the lock, which the server releases when the connection ends.
            self._engine: Engine = create_engine(url, poolclass=NullPool)
            with self._locked():  # or eight processes would make the tables at once
                storage = RDBStorage(url, engine_kwargs={"pool_pre_ping": True})
        except (SQLAlchemyError, ImportError) as error:
            remedy = "pip install 'brainseg[postgresql]'" if isinstance(error, ImportError) else "check --storage"
            raise TrackingError(f"the storage {mask(url)} can't be used ({reason(error)}); {remedy}") from None
        super().__init__(storage, shown=mask(url), folder=folder)

    @property
    def is_shared_between_hosts(self) -> bool:
        """Always possible."""
        return True

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """An advisory lock of the server's."""
        with self._locked():
            yield

    @contextlib.contextmanager
    def _locked(self) -> Iterator["Connection"]:
        from sqlalchemy import text

        with self._engine.connect() as connection:
            connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": self._key})
            try:
                yield connection
            finally:
                connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": self._key})


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
        """Lets the next one in."""
        self._lock.release()


def _cut_half_a_line(path: Path) -> None:
    if not path.exists() or path.stat().st_size == 0:
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


def open_storage(where: str | None, *, root: Path, name: str, create: bool = True) -> StudyStorage:
    """The storage of the study `name`.

    where: a journal's path, or a postgresql:// URL; by default BRAINSEG_STORAGE, else a journal in `root`/studies.
    create: make a journal where there is none. Raises ConfigError for anything else, and TrackingError where
    it can't be used, or has nothing yet and isn't to be made.
    """
    where = where or os.environ.get(ENVIRONMENT_KEY) or str(journal_path(root, name))
    if _URL.match(where):
        if not where.startswith(POSTGRESQL):
            raise ConfigError(
                f"--storage must be a path or a postgresql:// URL, got {mask(where)!r}; leave it out for a journal file"
            )
        return PostgresStudyStorage(where, folder=root / "studies" / "alive")
    path = Path(where).expanduser().absolute()
    if path.is_dir():
        raise ConfigError(f"--storage must name a file, got the folder {path}; try {path / f'{name}{JOURNAL_SUFFIX}'}")
    if not create and not path.exists():
        raise TrackingError(f"no study {name!r} in {path}; start it with: python -m brainseg.sweep run {name}")
    return JournalStudyStorage(path)
