"""`sweep serve`: the server of a `tracking.root`, in the foreground."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence

from brainseg.errors import AwayError, TrackingError
from brainseg.sweep.engine.leases import STALE_S, ProcessLock, another_at_work, host_name, this_host
from brainseg.sweep.server.address import ServerFolder, server_folder, service, write_secret
from brainseg.sweep.server.postgres import clients, free_port, make_databases, postgres, programs, wait_for
from brainseg.tracking.mlflow.connection import connect, store_errors
from brainseg.tracking.paths import SERVER_URI, SERVICE_FILE_KEY
from brainseg.train.signals import StopRequest, stop_on_signals

AUTO = "auto"
LOOK_S = 1.0
LOST_S = STALE_S / 2  # of silence, after which another host may soon think that this one is lost
ASK_S = 30.0  # between two looks at who is connected
IDLE_S = 600.0  # without a connection


def serve(tracking: Sequence[str], *, host: str, is_needed: Callable[[], bool] | None) -> int:
    """Runs the server until a signal comes; the exit code.

    host: the address that it listens on; AUTO for the one by which the host that submitted this job sees this one.
    is_needed: asked after IDLE_S without a connection: it ends with 0 where that is False. Raises InputError where it
    can't start, AwayError where PostgreSQL has ended, and Interrupted.
    """
    folder = server_folder(tracking)
    address = _own_address() if host == AUTO else host
    port = str(free_port(address))
    programs(folder.data)  # an error before anything is written
    with stop_on_signals() as stop, _alone(folder) as lock:
        starting = folder.path / f"{lock.id}.conf"  # others come when the tables are there
        content = service({"host": address, "port": port, "password": folder.password()})
        write_secret(starting, content)
        os.environ |= {SERVICE_FILE_KEY: str(starting), "PGAPPNAME": "serve"}
        try:
            with postgres(folder, host=address, port=port) as process, stop.deferred():
                wait_for(process, folder)
                make_databases()
                with store_errors(SERVER_URI):
                    connect(SERVER_URI).search_experiments(max_results=1)  # MLflow makes its tables
                starting.rename(folder.file)
                os.environ[SERVICE_FILE_KEY] = str(folder.file)
                print(f"serves {folder.root} on {address}:{port} ({host_name(this_host())})", flush=True)
                try:
                    return _until_idle(lock, stop, process, is_needed)
                finally:
                    if folder.file.exists() and folder.file.read_text(encoding="utf-8") == content:
                        folder.file.unlink()  # not that of another host, which took this one for lost
        finally:
            starting.unlink(missing_ok=True)


@contextlib.contextmanager
def _alone(folder: ServerFolder) -> Iterator[ProcessLock]:
    """The lock of the folder, once no other server holds it. Raises TrackingError where one does."""
    folder.path.mkdir(parents=True, exist_ok=True)
    with ProcessLock(folder.path / "alive") as lock:
        deadline, is_told = time.monotonic() + STALE_S + 30, False
        while (other := another_at_work(lock)) is not None:
            if other.is_here or time.monotonic() > deadline:
                raise TrackingError(f"{folder.root} is served on {other.host} already; end that one first")
            if not is_told:
                print(f"the server on {other.host} may be lost; waits up to {STALE_S:.0f} s", flush=True)
            is_told = True
            time.sleep(LOOK_S)
        yield lock


def _until_idle(
    lock: ProcessLock,
    stop: StopRequest,
    process: "subprocess.Popen[bytes]",
    is_needed: Callable[[], bool] | None,
) -> int:
    looked, used, asked = time.time(), time.time(), 0.0
    while process.poll() is None:
        stop.check()
        with contextlib.suppress(FileNotFoundError):
            os.utime(lock.path)  # here, too: a folder that doesn't answer is noticed
        if time.time() - looked > LOST_S:
            process.send_signal(signal.SIGQUIT)  # nothing more is written
            raise AwayError("this server was silent for too long: another host may have taken its place")
        looked = time.time()
        if is_needed is not None and looked - asked > ASK_S:
            asked = looked
            if clients() or (looked - used > IDLE_S and is_needed()):
                used = looked
            elif looked - used > IDLE_S:
                print(f"nobody was connected for {IDLE_S / 60:.0f} minutes, and no worker waits; ends", flush=True)
                return 0
        time.sleep(LOOK_S)
    raise AwayError("PostgreSQL has ended")


def _own_address() -> str:
    """By which other hosts reach this one: the one that submitted the job, or where that is this one, any."""
    for other in (os.environ.get("SLURM_SUBMIT_HOST", socket.gethostname()), "10.255.255.255"):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
            probe.connect((other, 9))  # which sends nothing
            found = str(probe.getsockname()[0])
            if not found.startswith("127."):
                return found
    return "127.0.0.1"  # a machine without a network
