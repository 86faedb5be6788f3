"""Where a study is kept: a journal file on one host, or PostgreSQL for many; and the lock of those who claim trials."""

import contextlib
import os
import re
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

from filelock import FileLock, Timeout
from optuna import create_study
from optuna.distributions import FloatDistribution
from optuna.exceptions import OptunaError, StorageInternalError
from optuna.samplers import RandomSampler
from optuna.storages import BaseStorage, JournalStorage, RDBStorage, get_storage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from brainseg.cli.secrets import mask
from brainseg.errors import ConfigError, TrackingError, how_to_install
from brainseg.sweep.engine.batch import BatchStorage
from brainseg.sweep.engine.leases import machine_at_work
from brainseg.tracking.mlflow.connection import UnreachableError, reason

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection, Engine

ENVIRONMENT_KEY = "BRAINSEG_STORAGE"
POSTGRESQL = "postgresql"
JOURNAL_SUFFIX = ".journal"
OPTUNAS_TABLE = "version_info"
OTHERS_TABLE = "alembic_version"  # Optuna and MLflow each make one; in one database they would break each other
JOURNAL_START = b'{"op_code":'  # of every line that Optuna writes
LOCK_WAIT_S = 600.0  # a process that claims a trial holds it for a fraction of a second, but there may be many
TURN_IDLE_S = 50.0  # of silence, after which a server ends the turn of a process that it has lost
TURN_PULSE_S = 10.0  # between two signs of life of a process that has the turn
# By which a server, and this process, notice that the other one is gone; libpq's names and units.
ADDRESS_OPTIONS = {
    "connect_timeout": "10",
    "keepalives": "1",
    "keepalives_idle": "20",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "50000",
}
# In what a server says that refuses a connection: it may take the next one. Not so a password, or an unknown database.
PASSING = ("starting up", "shutting down", "recovery", "too many", "terminating", "remaining connection slots")
TABLES_KEY = crc32(b"brainseg.sweep")  # of the turn to make tables; version 0.1 takes it to claim trials as well

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

    def connections(self) -> int | None:
        """How many connections the storage takes in all; None for a file. A worker holds one, and for moments two."""
        return None

    def now(self) -> float | None:
        """The time by the storage's own clock, in seconds since 1970; None where all processes are on one host."""
        return None

    def lock(self) -> contextlib.AbstractContextManager[None]:
        """The turn: held while a process counts trials and takes one. It ends by itself if the process is lost.

        Raises UnreachableError where another process has it for LOCK_WAIT_S, and where it was lost, in which case
        nothing was written.
        """
        raise NotImplementedError

    def together(self) -> contextlib.AbstractContextManager[object]:
        """Inside, what this thread does to its own trial is quicker, and seen by others at the end."""
        return contextlib.nullcontext()

    def rehearse(self) -> None:
        """Does once, and undoes, what a worker does with a trial, where that makes the first time faster."""

    @contextlib.contextmanager
    def reached(self) -> Iterator[None]:
        """Raises UnreachableError for what Optuna raises inside when a server doesn't answer."""
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except (StorageInternalError, SQLAlchemyError, Timeout) as error:
            raise UnreachableError(
                f"the storage {self.shown} can't be reached ({reason(error.__cause__ or error)}); "
                "start it, and run the same command again"
            ) from error


class JournalStudyStorage(StudyStorage):
    """A journal file: trials and values are lines, appended."""

    def __init__(self, path: Path) -> None:
        """Makes the file and its folder if they don't exist.

        Raises TrackingError if that isn't possible, or if another host uses the journal now.
        """
        folder = path.parent / "alive"
        other = machine_at_work(folder)
        if other is not None:
            raise TrackingError(
                f"{path} is used on {other}, and a journal is for one host; "
                "end that first, or keep the study in PostgreSQL: --storage postgresql://HOST/DATABASE"
            )
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
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            raise TrackingError(
                f"{path} is not a journal of Optuna's ({reason(error)}); restore it or choose another --storage"
            ) from error
        super().__init__(storage, shown=str(path), folder=folder)
        self._lock = FileLock(f"{path}.turn", timeout=LOCK_WAIT_S)

    @property
    def is_shared_between_hosts(self) -> bool:
        """False: Optuna's journal is for one host, or one file system."""
        return False

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """A file lock beside the journal."""
        try:
            self._lock.acquire()
        except Timeout:
            raise UnreachableError(
                f"{self._lock.lock_file} is held by another process since {LOCK_WAIT_S:.0f} s; end it"
            ) from None
        try:
            yield
        finally:
            self._lock.release()


class PostgresStudyStorage(StudyStorage):
    """A PostgreSQL database, which workers on any number of hosts share."""

    def __init__(self, url: str, *, name: str, folder: Path) -> None:
        """Makes Optuna's tables if they don't exist. name: of the study, which has a turn of its own.

        Raises ConfigError for a malformed URL, UnreachableError if the server doesn't answer, and TrackingError if it
        can't be used.
        """
        from sqlalchemy import create_engine
        from sqlalchemy.exc import SQLAlchemyError
        from sqlalchemy.pool import NullPool

        self._shown = mask(url)
        self._key = crc32(name.encode())
        parsed = _parsed(url)
        try:
            connections = create_engine(parsed, poolclass=NullPool)
            if not _has_tables(connections):
                _make_tables(connections)
            self._rdb = BatchStorage(
                parsed.render_as_string(hide_password=False),
                # One connection for each of many workers; a second one while heartbeats and the turn coincide.
                engine_kwargs={"pool_pre_ping": True, "pool_size": 1},
                skip_table_creation=True,
            )
        except (SQLAlchemyError, OptunaError, RuntimeError, ImportError) as error:
            raise self._unusable(error) from None
        super().__init__(self._rdb, shown=self._shown, folder=folder)

    def _unusable(self, error: Exception) -> TrackingError:
        from sqlalchemy.exc import OperationalError

        remedy = how_to_install("postgresql") if isinstance(error, ImportError) else "check --storage"
        is_passing = isinstance(error, OperationalError) and (
            "FATAL" not in str(error) or any(word in str(error) for word in PASSING)
        )
        kind = UnreachableError if is_passing else TrackingError
        return kind(f"the storage {self._shown} can't be used ({reason(error)}); {remedy}")

    @property
    def is_shared_between_hosts(self) -> bool:
        """True."""
        return True

    def connections(self) -> int:
        """Without those that PostgreSQL keeps for superusers."""
        setting = "current_setting('{}')::int".format
        return int(self._asked(f"SELECT {setting('max_connections')} - {setting('superuser_reserved_connections')}"))

    def now(self) -> float:
        """The server's time: no host's clock is compared with another one's."""
        return float(self._asked("SELECT extract(epoch FROM clock_timestamp())"))

    def rehearse(self) -> None:
        """A trial of a study that nobody else ever sees.

        Statements take three times as long at their first time. In the turn of a worker's first claim that would hold
        up all others which start with it.
        """
        with self.reached(), self._rdb.engine.connect() as connection, connection.begin() as transaction:
            with self._rdb.together_on(connection):
                study = create_study(storage=self._rdb, sampler=RandomSampler())
                trial = study.ask({"x": FloatDistribution(0.0, 1.0)})
                trial.set_user_attr("x", 0)
                trial.report(0.0, 1)
                trial.should_prune()
                study.tell(trial, 0.0)
            transaction.rollback()

    def _asked(self, query: str) -> Any:
        with self._rdb.together() as batch:
            ((answer,),) = batch.asked(query)
        return answer

    def together(self) -> contextlib.AbstractContextManager[object]:
        """One transaction."""
        return self._rdb.together()

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """An advisory lock, until the end of the transaction in which all that this thread writes meanwhile is kept."""
        try:
            with self.reached(), self._turn() as connection, self._rdb.together_on(connection):
                yield
        except BaseException:
            self._forget()
            raise

    @contextlib.contextmanager
    def _turn(self) -> Iterator["Connection"]:
        from sqlalchemy.exc import OperationalError

        begun = time.monotonic()
        with self._rdb.engine.begin() as connection, _Pulse(connection):
            try:
                _take(
                    connection,
                    "SELECT pg_advisory_xact_lock_shared(:tables), pg_advisory_xact_lock(:ours, :key)",
                    {"ours": _signed(TABLES_KEY), "key": _signed(self._key)},
                )
            except OperationalError:
                if time.monotonic() - begun < LOCK_WAIT_S:
                    raise
                raise UnreachableError(
                    f"the turn in {self._shown} is held by another process since {LOCK_WAIT_S:.0f} s; end it"
                ) from None
            yield connection

    def _forget(self) -> None:
        """Has Optuna read all trials afresh: what it has read in a turn that failed may never be so."""
        vars(self.optuna).update(vars(get_storage(self._rdb)))


def _take(connection: "Connection", lock: str, keys: Mapping[str, int]) -> None:
    """Waits for a lock of the transaction's, which the server then ends if it hears nothing of this process."""
    from sqlalchemy import text

    connection.execute(
        text(
            "SELECT set_config('lock_timeout', :wait, true),"
            " set_config('idle_in_transaction_session_timeout', :idle, true)"
        ),
        {"wait": f"{LOCK_WAIT_S * 1000:.0f}ms", "idle": f"{TURN_IDLE_S * 1000:.0f}ms"},
    )
    connection.execute(text(lock), {"tables": TABLES_KEY, **keys})


class _Pulse:
    """Tells the server, while the turn is waited for and held, that this process lives."""

    def __init__(self, connection: "Connection") -> None:
        # The driver's own, which threads may share.
        self._connection: Any = connection.connection.driver_connection
        self._ended = threading.Event()
        self._in_use = threading.Lock()

    def __enter__(self) -> None:
        threading.Thread(target=self._beat, name="brainseg-turn", daemon=True).start()

    def __exit__(self, *error: object) -> None:
        with self._in_use:  # the thread itself isn't waited for: others wait for the turn
            self._ended.set()

    def _beat(self) -> None:
        while not self._ended.wait(TURN_PULSE_S):
            # Of a turn that is lost, its holder's next statement tells.
            with self._in_use, contextlib.suppress(Exception):
                if not self._ended.is_set():
                    self._connection.cursor().execute("SELECT 1")


def _make_tables(engine: "Engine") -> None:
    """Makes Optuna's tables, one process at a time."""
    with engine.begin() as connection:
        _take(connection, "SELECT pg_advisory_xact_lock(:tables)", {})
        RDBStorage(engine.url.render_as_string(hide_password=False))


def _has_tables(engine: "Engine") -> bool:
    """Whether Optuna's tables are there, to the last one. Raises RuntimeError for a database of another program."""
    from sqlalchemy import inspect, text

    with engine.connect() as connection:
        tables = inspect(connection).get_table_names()
        if OTHERS_TABLE in tables and OPTUNAS_TABLE not in tables:
            raise RuntimeError("it belongs to another program, such as MLflow: make a database for studies")
        if OTHERS_TABLE not in tables:
            return False
        # Written last; the table's name is OTHERS_TABLE.
        return int(connection.execute(text("SELECT count(*) FROM alembic_version")).scalar_one()) > 0


def _signed(key: int) -> int:
    """A key of 32 bits as PostgreSQL counts."""
    return key - (1 << 32) if key >= 1 << 31 else key


def _parsed(url: str) -> "URL":
    """The URL with the driver and the time limits for SQLAlchemy. Raises ConfigError for a malformed URL."""
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
    if parsed.drivername.startswith(f"{POSTGRESQL}+psycopg"):
        parsed = parsed.set(query={**ADDRESS_OPTIONS, **parsed.query})
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
        return PostgresStudyStorage(place, name=name, folder=root / "studies" / "alive")
    if not create and not place.exists():
        raise TrackingError(f"no study {name!r} in {place}; start it with: python -m brainseg.sweep run {name}")
    return JournalStudyStorage(place)
