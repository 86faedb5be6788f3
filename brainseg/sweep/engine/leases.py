"""Who trains a trial, and whether that process still lives: it holds a lock on a file, which the kernel releases."""

import contextlib
import os
import socket
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from filelock import FileLock, Timeout

HEARTBEAT_S = 10.0  # between two heartbeats of a worker, for processes on other hosts
STALE_S = 150.0  # without a heartbeat: the worker counts as dead


class ProcessLock:
    """A lock on a file `ID.alive`, which a worker or supervisor holds for as long as it lives."""

    def __init__(self, folder: Path) -> None:
        self.id = uuid.uuid4().hex
        self.path = _path(folder, self.id)
        self._lock = FileLock(self.path)

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        _delete_files_of_the_dead(self.path.parent)
        self._lock.acquire()
        return self

    def __exit__(self, *error: object) -> None:
        self.path.unlink(missing_ok=True)
        self._lock.release()


@dataclass(frozen=True, kw_only=True)
class Lease:
    """Who trains a trial; kept with the trial."""

    worker: str  # id of its process lock
    supervisor: str | None  # that of the process that restarts the worker; None: started by hand
    folder: str  # of the process locks, on its host
    host: str
    pid: int
    claimed_at: float  # seconds since 1970
    epochs_at_claim: int  # how many were reported then

    @classmethod
    def new(cls, lock: ProcessLock, *, supervisor: str | None, epochs_at_claim: int) -> Self:
        """This process's lease on a trial."""
        return cls(
            worker=lock.id,
            supervisor=supervisor,
            folder=str(lock.path.parent),
            host=this_host(),
            pid=os.getpid(),
            claimed_at=time.time(),
            epochs_at_claim=epochs_at_claim,
        )


class LeaseChecker:
    """Tells whether the holder of a lease is dead.

    It tries the process lock if it can see the file. Otherwise (on another host) the heartbeat has to change within
    STALE_S by this process's own clock: no two clocks are compared.
    """

    def __init__(self, folder: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        """folder: of the process locks, as this process sees it; a lease may name it by another path."""
        self._folder = folder
        self._clock = clock
        self._seen: dict[str, tuple[Any, float]] = {}  # worker -> its last new heartbeat, and when it was seen

    def is_dead(self, lease: Lease, *, heartbeat: Any) -> bool:
        """Whether the worker has died. heartbeat: the last one that the storage has, or None."""
        is_held = self._is_held(lease.worker, lease)
        if is_held is not None:
            return not is_held
        now = self._clock()
        known, since = self._seen.get(lease.worker, (None, now))
        if lease.worker not in self._seen or known != heartbeat:
            self._seen[lease.worker] = (heartbeat, now)
            return False
        return now - since > STALE_S

    def is_supervisor_dead(self, lease: Lease) -> bool:
        """Whether the process that restarts the worker has died as well; False if it can't be known."""
        return lease.supervisor is not None and self._is_held(lease.supervisor, lease) is False

    def _is_held(self, lock_id: str, lease: Lease) -> bool | None:
        """Whether a process holds this process lock; None if it can't be known from here."""
        folders = {self._folder, Path(lease.folder)}
        paths = [_path(folder, lock_id) for folder in folders]
        seen = [_is_locked(path) for path in paths if path.exists()]
        if not seen and lease.host == this_host() and Path(lease.folder).is_dir():
            return False  # its folder is here and its file is not: it has ended
        return seen[0] if seen else None


def this_host() -> str:
    """The host's name, and the id of its boot if the kernel tells it: hosts may share a name such as localhost."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    return f"{socket.gethostname()}/{boot.read_text().strip()}" if boot.exists() else socket.gethostname()


def _path(folder: Path, lock_id: str) -> Path:
    return folder / f"{lock_id}.alive"


def _delete_files_of_the_dead(folder: Path) -> None:
    for path in folder.glob("*.alive"):
        # A living process holds it, or another one has just taken it.
        with contextlib.suppress(OSError), FileLock(path, timeout=0):
            path.unlink(missing_ok=True)


def _is_locked(path: Path) -> bool | None:
    """Whether a process holds the file; None if this user may not try."""
    try:
        with FileLock(path, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:
        return None
