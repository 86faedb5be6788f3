"""Who is still alive: each worker and supervisor holds a lock on a file of its own, which the kernel releases."""

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

BEAT_S = 10.0  # how often a worker that others can't see from their host says that it lives
STALE_S = 150.0  # and after how long without a beat it counts as dead


class SignOfLife:
    """Held by a process for as long as it lives."""

    def __init__(self, folder: Path) -> None:
        self.id = uuid.uuid4().hex
        self.path = _path(folder, self.id)
        self._lock = FileLock(self.path)

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        _sweep_up(self.path.parent)
        self._lock.acquire()
        return self

    def __exit__(self, *error: object) -> None:
        self.path.unlink(missing_ok=True)
        self._lock.release()


@dataclass(frozen=True, kw_only=True)
class Lease:
    """Who trains a trial, as it is kept with the trial."""

    worker: str  # id of its sign of life
    supervisor: str | None  # the same of the process that keeps the worker alive; None: started by hand
    folder: str  # of the signs of life, on its host
    host: str
    pid: int
    claimed_at: float  # seconds since 1970
    epochs_at_claim: int  # how many were reported then

    @classmethod
    def new(cls, sign: SignOfLife, *, supervisor: str | None, epochs_at_claim: int) -> Self:
        """This process's lease on a trial."""
        return cls(
            worker=sign.id,
            supervisor=supervisor,
            folder=str(sign.path.parent),
            host=this_host(),
            pid=os.getpid(),
            claimed_at=time.time(),
            epochs_at_claim=epochs_at_claim,
        )


class Coroner:
    """Tells whether the holder of a lease is dead.

    Where its file can be seen, by trying the lock; else (another host) by its beat, which has to change within
    STALE_S of this process's own clock: no two clocks are compared.
    """

    def __init__(self, folder: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        """folder: of the signs of life, as this process sees it; a lease may name it by another path."""
        self._folder = folder
        self._clock = clock
        self._seen: dict[str, tuple[Any, float]] = {}  # worker -> its last new beat, and when it was seen

    def is_dead(self, lease: Lease, *, beat: Any) -> bool:
        """Whether the worker has died; `beat` is what it last said, or None."""
        is_held = self._is_held(lease.worker, lease)
        if is_held is not None:
            return not is_held
        now = self._clock()
        known, since = self._seen.get(lease.worker, (None, now))
        if lease.worker not in self._seen or known != beat:
            self._seen[lease.worker] = (beat, now)
            return False
        return now - since > STALE_S

    def is_supervisor_dead(self, lease: Lease) -> bool:
        """Whether the process that kept the worker alive has died as well; False where it can't be known."""
        return lease.supervisor is not None and self._is_held(lease.supervisor, lease) is False

    def _is_held(self, sign_id: str, lease: Lease) -> bool | None:
        """Whether a process shows this sign of life; None where it can't be known from here."""
        folders = {self._folder, Path(lease.folder)}
        paths = [_path(folder, sign_id) for folder in folders]
        seen = [_is_locked(path) for path in paths if path.exists()]
        if not seen and lease.host == this_host() and Path(lease.folder).is_dir():
            return False  # its folder is here and its file is not: it has ended
        return seen[0] if seen else None


def this_host() -> str:
    """The host's name, and its boot where the kernel tells: hosts may share a name such as localhost."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    return f"{socket.gethostname()}/{boot.read_text().strip()}" if boot.exists() else socket.gethostname()


def _path(folder: Path, sign_id: str) -> Path:
    return folder / f"{sign_id}.alive"


def _sweep_up(folder: Path) -> None:
    """Deletes the files of those who have died."""
    for path in folder.glob("*.alive"):
        # Held meanwhile, or another process could just have taken it.
        with contextlib.suppress(OSError), FileLock(path, timeout=0):
            path.unlink(missing_ok=True)


def _is_locked(path: Path) -> bool | None:
    """Whether a process holds the file; None where this user may not try."""
    try:
        with FileLock(path, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:
        return None
