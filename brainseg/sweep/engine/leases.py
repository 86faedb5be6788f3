"""Who trains a trial, and whether that process still lives.

Inside one `Place` the kernel tells: a process holds a lock on a file for as long as it lives. From anywhere else a file
lock says nothing: another host or container may have another file of this name, or a file system that doesn't hand on
locks. There, heartbeats decide.
"""

import contextlib
import fcntl
import os
import socket
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from brainseg.model.gpus import VISIBLE_KEY

HEARTBEAT_S = 10.0  # between two heartbeats of a process, for those in other places
STALE_S = 150.0  # without a heartbeat: the process counts as dead
# How long a reader that finds a stale heartbeat waits for another one: the storage may have been away for everybody,
# and a process needs so long to connect again.
CONFIRM_S = 30.0
KILLED = "killed"  # suffix of what is left of a file whose process didn't delete it itself
FORGET_S = 30 * 24 * 3600.0  # after which what is left of a dead process tells nobody anything
UNKNOWN_PLACE = ""  # of leases and files of version 0.1


def this_host() -> str:
    """The host's name, and the id of its boot if the kernel tells it: hosts may share a name such as localhost."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    return f"{socket.gethostname()}/{boot.read_text().strip()}" if boot.exists() else socket.gethostname()


def host_name(host: str) -> str:
    """The name in what `this_host` gives."""
    return host.partition("/")[0]


def place_of_locks(folder: Path) -> str:
    """Where a lock on a file in this folder counts: the boot of the machine, namespaces, device and inode.

    Equal for two processes only where one kernel keeps both their locks, on the same folder, which is made here.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stat = folder.stat()
    return " ".join([this_host(), _namespace("mnt"), _namespace("pid"), f"{stat.st_dev}:{stat.st_ino}"])


def _namespace(kind: str) -> str:
    try:
        return os.readlink(f"/proc/self/ns/{kind}")
    except OSError:  # not Linux, which alone has them
        return kind


class ProcessLock:
    """A lock on a file `ID.alive`, which a worker or supervisor holds for as long as it lives.

    The file says in which place its lock counts, and is touched every HEARTBEAT_S, for those who may not try the lock.
    """

    def __init__(self, folder: Path) -> None:
        self.id = uuid.uuid4().hex
        self.path = _path(folder, self.id)
        self.place = UNKNOWN_PLACE  # known once the folder is there
        self._file: int | None = None
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        self.place = place_of_locks(self.path.parent)
        _sweep_up(self.path.parent, place=self.place)
        unlocked = self.path.with_suffix(".new")  # under which nobody looks for it
        self._file = os.open(unlocked, os.O_RDWR | os.O_CREAT, 0o644)
        fcntl.flock(self._file, fcntl.LOCK_EX)
        os.write(self._file, self.place.encode())
        unlocked.rename(self.path)
        threading.Thread(target=self._touch, name="brainseg-alive", daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.path.unlink(missing_ok=True)
        self.drop()

    def drop(self) -> None:
        """Lets go of the lock and leaves the file, as a kill does."""
        self._ended.set()
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _touch(self) -> None:
        while not self._ended.wait(HEARTBEAT_S):
            with contextlib.suppress(OSError):
                os.utime(self.path)


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
    place: str = UNKNOWN_PLACE  # where its process lock counts
    gpu: str = ""  # those that it may use, as in CUDA_VISIBLE_DEVICES

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
            place=lock.place,
            gpu=os.environ.get(VISIBLE_KEY, ""),
        )


class LeaseChecker:
    """Tells whether the holder of a lease is dead: by its process lock where that counts, else by its heartbeat.

    A heartbeat is the storage's own time, and is compared with the storage's time alone. It counts as missed only if
    this process finds the same one again after CONFIRM_S. The heartbeats of version 0.1 are numbers that are counted
    up: they have to change within STALE_S by this process's own clock.
    """

    def __init__(
        self, folder: Path, *, is_for_one_host: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """folder: of the process locks, as this process sees it.

        is_for_one_host: whether all holders are on this host, as with a journal, which itself relies on file locks.
        """
        self._folder = folder
        self._place = place_of_locks(folder)
        self._is_for_one_host = is_for_one_host
        self._clock = clock
        self._seen: dict[str, tuple[Any, float]] = {}  # worker -> its last new heartbeat, and when it was seen
        self._silent: set[str] = set()  # those whose heartbeat is stale, and who have yet to be given CONFIRM_S

    def is_dead(self, lease: Lease, *, heartbeat: Any, now: float | None = None) -> bool:
        """Whether the worker has died. heartbeat: the last one that the storage has, or None. now: of the storage."""
        is_held = self._is_held(lease.worker, lease)
        if is_held is not None:
            return not is_held
        clock = self._clock()
        known, since = self._seen.get(lease.worker, (None, clock))
        if lease.worker not in self._seen or known != heartbeat:
            self._seen[lease.worker] = (heartbeat, clock)
            since = clock
        unchanged_s = clock - since
        if now is None or not isinstance(heartbeat, float):  # version 0.1 counted heartbeats
            return unchanged_s > STALE_S
        if now - heartbeat <= STALE_S:
            self._silent.discard(lease.worker)
            return False
        if unchanged_s > CONFIRM_S:
            return True
        self._silent.add(lease.worker)
        return False

    def is_silent(self, lease: Lease) -> bool:
        """Whether the worker has missed its heartbeats, and another look within CONFIRM_S will tell."""
        return lease.worker in self._silent

    def was_killed(self, lease: Lease) -> bool:
        """Whether the process was killed here, as far as the kernel tells: it would have deleted its file.

        False for one that ended by itself, for one in another place, and where the process that restarts it has died
        as well: a host that was stopped says nothing about the trial.
        """
        if not self._counts(lease) or self.is_supervisor_dead(lease):
            return False
        path = _path(self._folder, lease.worker)
        return path.exists() or path.with_suffix(f".{KILLED}").exists()

    def is_supervisor_dead(self, lease: Lease) -> bool:
        """Whether the process that restarts the worker has died as well; False if it can't be known."""
        return lease.supervisor is not None and self._is_held(lease.supervisor, lease) is False

    def _counts(self, lease: Lease) -> bool:
        """Whether a file lock of the lease's holder says something here."""
        return self._is_for_one_host or lease.place == self._place

    def _is_held(self, lock_id: str, lease: Lease) -> bool | None:
        """Whether a process holds this process lock; None if it can't be known from here."""
        if not self._counts(lease):
            return None
        path = _path(self._folder, lock_id)
        return _is_locked(path) if path.exists() else False


def machine_at_work(folder: Path) -> str | None:
    """The name of another machine, one of whose processes lives by a file in this folder; None if there is none.

    It goes by the times of files, which the file system of a shared folder gives, whatever the machines' clocks say.
    """
    here = this_host()
    for path, place, silent_s in _files(folder):
        host = place.partition(" ")[0]
        is_another = host_name(host) != host_name(here) and host.partition("/")[2] != here.partition("/")[2]
        if host and is_another and silent_s < STALE_S and path.suffix == ".alive":
            return host_name(host)
    return None


@dataclass(frozen=True)
class Other:
    """Another process that holds a lock in the same folder."""

    host: str  # its name
    is_here: bool  # the kernel says so; else its file was touched within STALE_S


def another_at_work(lock: ProcessLock) -> Other | None:
    """Another holder of a lock in the folder of this one, in whatever place; None if there is none."""
    for path, place, silent_s in _files(lock.path.parent):
        if path == lock.path or path.suffix != ".alive":
            continue
        is_here = place == lock.place
        if _is_locked(path) if is_here else silent_s < STALE_S:
            return Other(host_name(place.partition(" ")[0]), is_here)
    return None


def _path(folder: Path, lock_id: str) -> Path:
    return folder / f"{lock_id}.alive"


def _files(folder: Path) -> Iterator[tuple[Path, str, float]]:
    """Each file of a process, where its lock counts, and how many seconds ago it was touched."""
    paths = [*folder.glob("*.alive"), *folder.glob(f"*.{KILLED}")]
    now = _time_of_files(folder) if paths else 0.0
    for path in paths:
        with contextlib.suppress(OSError):  # deleted meanwhile, or a folder
            yield path, path.read_text(), now - path.stat().st_mtime


def _time_of_files(folder: Path) -> float:
    """What the folder's file system takes for the time now."""
    try:
        with tempfile.NamedTemporaryFile(dir=folder, suffix=".now") as probe:
            return os.stat(probe.name).st_mtime
    except OSError:  # read-only
        return time.time()


def _sweep_up(folder: Path, *, place: str) -> None:
    """Marks the files of killed processes of this place, and deletes what is left of long ago."""
    for path, made_in, silent_s in _files(folder):
        with contextlib.suppress(OSError):
            if silent_s > FORGET_S:
                path.unlink()
            elif path.suffix == ".alive" and made_in in (place, UNKNOWN_PLACE) and _is_locked(path) is False:
                path.replace(path.with_suffix(f".{KILLED}"))


def _is_locked(path: Path) -> bool | None:
    """Whether a process holds the file; None if this user may not try."""
    try:
        file = os.open(path, os.O_RDWR)
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        os.close(file)
    return False
