"""Who is still alive: each worker and supervisor holds a lock on a file of its own, which the kernel releases."""

import contextlib
import os
import socket
import time
import uuid
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
        self.path = folder / f"{self.id}.alive"
        self._lock = FileLock(self.path)

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
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
            host=socket.gethostname(),
            pid=os.getpid(),
            claimed_at=time.time(),
            epochs_at_claim=epochs_at_claim,
        )


class Coroner:
    """Tells whether the holder of a lease is dead.

    Where its file can be seen, by trying the lock; else (another host) by its beat, which has to change within
    STALE_S of this process's own clock: no two clocks are compared.
    """

    def __init__(self) -> None:
        self._seen: dict[str, tuple[Any, float]] = {}  # worker -> its last new beat, and when it was seen

    def is_dead(self, lease: Lease, *, beat: Any) -> bool:
        """Whether the worker has died; `beat` is what it last said, or None."""
        state = _locked(Path(lease.folder) / f"{lease.worker}.alive")
        if state is not None:
            return not state
        if lease.host == socket.gethostname() and Path(lease.folder).is_dir():
            return True  # its folder is here and its file is not: it has ended
        now = time.monotonic()
        known, since = self._seen.get(lease.worker, (None, now))
        if lease.worker not in self._seen or known != beat:
            self._seen[lease.worker] = (beat, now)
            return False
        return now - since > STALE_S

    def is_supervisor_dead(self, lease: Lease) -> bool:
        """Whether the process that kept the worker alive has died as well; False where it can't be known."""
        if lease.supervisor is None:
            return False
        path = Path(lease.folder) / f"{lease.supervisor}.alive"
        return path.parent.is_dir() and _locked(path) is not True


def sweep_up(folder: Path) -> None:
    """Deletes the files of those who have died."""
    for path in folder.glob("*.alive") if folder.is_dir() else ():
        if _locked(path) is False:
            path.unlink(missing_ok=True)


def _locked(path: Path) -> bool | None:
    """Whether a process holds the file; None where there is no such file."""
    if not path.exists():
        return None
    with contextlib.suppress(OSError):
        try:
            with FileLock(path, timeout=0):
                return False
        except Timeout:
            return True
    return None
