"""A run's write-ahead record on the local disk: written first, delivered to the store afterwards.

A folder a run under `spool/`:

    RUN.lock          held while a process writes or replays the run
    RUN/records.jsonl a JSON line a record, in space that is reserved when the run starts
    RUN/delivered     how many bytes of records.jsonl the store has taken
    RUN/files/N/      the files of record N, until the store has taken them

The space is reserved so that a disk that fills up in mid-run takes no metric away: records are
written in place. What a process wrote before it was killed stays (the operating system holds it);
nothing is forced to the disk, so a power failure may cost the last seconds.
"""

import contextlib
import errno
import json
import os
import re
import shutil
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from filelock import FileLock, Timeout

from brainseg.errors import TrackingError
from brainseg.parsing import ParseError, parse_json

RESERVED_BYTES = 2 * 1024**2  # about 2,000 epochs of 10 metrics
GROWTH_BYTES = 1024**2
LAST_BYTES = 16 * 1024  # of the reserved space, for the record of how the run ended
RECORDS = "records.jsonl"
DELIVERED = "delivered"
LOCK_SUFFIX = ".lock"
_OWN_FILE = re.compile(r"files/\d+/(?!\.\.?\Z)[^/]+")  # where `append` puts the file of a record
# The content of a file: itself, a file to copy, or what writes it at the path that it is given.
Source = bytes | Path | Callable[[Path], None]


class SpoolBusyError(Exception):
    """Another process (or another tracker in this one) is writing or replaying this run."""


class DamagedSpoolError(TrackingError):
    """A file of a spool isn't as brainseg has written it."""

    def __init__(self, path: Path, found: str) -> None:
        """found: the words that follow the file's name in the message."""
        super().__init__(f"{path} {found}; restore it, or delete {path.parent} and what waits there for the store")


@dataclass(frozen=True, kw_only=True)
class Record:
    """One logged item."""

    number: int  # from 0
    kind: str
    body: Mapping[str, Any]
    end: int  # offset of the byte after it


class Spool:
    """One run's records; one process at a time. One thread appends while another reads and advances."""

    def __init__(self, parent: Path, run_id: str, lock: FileLock) -> None:
        """Used by `open_spool`, which takes the lock."""
        self.run_id = run_id
        self.folder = parent / run_id
        self._lock = lock
        self._guard = threading.Lock()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._file = os.open(self.folder / RECORDS, os.O_RDWR | os.O_CREAT, 0o600)
        self._cursor_file = os.open(self.folder / DELIVERED, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            self._load()
        except BaseException:
            self.close()
            raise

    def _load(self) -> None:
        size = os.fstat(self._file).st_size
        if size < RESERVED_BYTES:
            _reserve(self._file, size, RESERVED_BYTES - size)
        self._reserved = max(size, RESERVED_BYTES)
        written = os.pread(self._file, self._reserved, 0).partition(b"\0")[0]
        self._end = written.rfind(b"\n") + 1  # a line without its end was cut off by a kill: written over
        self._count = len(_parsed(written, self.folder))
        self._cursor = min(_cursor_in(os.pread(self._cursor_file, 21, 0), self.folder), self._end)
        self._next_number = written.count(b"\n", 0, self._cursor)
        self._write_cursor()  # the space of the cursor is reserved by this

    @property
    def pending(self) -> int:
        """How many records the store hasn't taken."""
        with self._guard:
            return self._count - self._next_number

    @property
    def is_new(self) -> bool:
        """Whether no record was ever appended."""
        return self._count == 0

    def append(self, kind: str, body: Mapping[str, Any], *, last: bool = False) -> None:
        """Adds a record. Raises OSError where neither the reserved space nor the disk has room.

        last: the record of how the run ended, which may use the space that is kept for it.
        """
        line = json.dumps({"kind": kind, **body}, separators=(",", ":")).encode() + b"\n"
        with self._guard:
            if self._end + len(line) > self._reserved - (0 if last else LAST_BYTES):
                room = max(GROWTH_BYTES, len(line) + LAST_BYTES)
                _reserve(self._file, self._reserved, room)
                self._reserved += room
            _write_at(self._file, line, self._end)
            self._end += len(line)
            self._count += 1

    def append_file(self, kind: str, source: Source, name: str, body: Mapping[str, Any]) -> None:
        """Adds a record with a file of this name and content. Raises OSError as `append`, and what `source` raises."""
        with self._guard:
            folder = self.folder / "files" / str(self._count)
        shutil.rmtree(folder, ignore_errors=True)
        try:
            folder.mkdir(parents=True)
            if isinstance(source, bytes):
                (folder / name).write_bytes(source)
            elif isinstance(source, Path):
                shutil.copyfile(source, folder / name)
            else:
                source(folder / name)
            self.append(kind, {**body, "file": str((folder / name).relative_to(self.folder))})
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def first(self) -> Record | None:
        """The very first record, delivered or not."""
        return self._read(0, 0)

    def next(self) -> Record | None:
        """The oldest record that the store hasn't taken."""
        with self._guard:
            cursor, number = self._cursor, self._next_number
        return self._read(cursor, number)

    def is_ended(self) -> bool:
        """Whether the last record is the run's end."""
        with self._guard:
            written = os.pread(self._file, self._end, 0)
        records = _parsed(written, self.folder)
        return bool(records) and records[-1].kind == "end"

    def path_of(self, record: Record) -> Path:
        """Where the copy of a record's file lies."""
        return Path(self.folder, record.body["file"])

    def advance(self, record: Record) -> None:
        """The store has taken `record`, or will never take it; its file is no longer needed."""
        with self._guard:
            self._cursor = record.end
            self._next_number = record.number + 1
        self._write_cursor()
        if "file" in record.body:
            shutil.rmtree(self.path_of(record).parent, ignore_errors=True)

    def close(self) -> None:
        """Closes the files and releases the lock; may be called twice."""
        with self._guard:
            for descriptor in (self._file, self._cursor_file):
                with contextlib.suppress(OSError):
                    os.close(descriptor)
            self._file = self._cursor_file = -1
        self._lock.release(force=True)

    def delete(self) -> None:
        """Deletes the folder and releases the lock."""
        shutil.rmtree(self.folder, ignore_errors=True)
        Path(self._lock.lock_file).unlink(missing_ok=True)
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self, start: int, number: int) -> Record | None:
        with self._guard:
            if start >= self._end:
                return None
            data = os.pread(self._file, 4096, start)
            while b"\n" not in data:
                data += os.pread(self._file, 65536, start + len(data))
        line = data.partition(b"\n")[0]
        return _record(line, number, start, self.folder)

    def _write_cursor(self) -> None:
        _write_at(self._cursor_file, f"{self._cursor:020d}".encode(), 0)


def open_spool(parent: Path, run_id: str, *, wait_s: float = 0.0, create: bool = True) -> Spool:
    """The run's spool, made or taken up again.

    Raises SpoolBusyError where another process holds it for longer than `wait_s`, FileNotFoundError where
    there is none and `create` is False, OSError where the disk has no room for the reserved space, DamagedSpoolError
    where a record isn't one.
    """
    if create:
        parent.mkdir(parents=True, exist_ok=True)
    elif not (parent / run_id).is_dir():
        raise FileNotFoundError(errno.ENOENT, "no spool of this run", str(parent / run_id))
    # Not thread-local: the delivery thread lets go of the lock that the opening thread took.
    lock = FileLock(str(parent / f"{run_id}{LOCK_SUFFIX}"), timeout=wait_s, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        raise SpoolBusyError(f"run {run_id} is held by another process") from None
    if not create and not (parent / run_id).is_dir():  # delivered and deleted while this process waited
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release(force=True)
        raise FileNotFoundError(errno.ENOENT, "no spool of this run", str(parent / run_id))
    is_new = not (parent / run_id).exists()
    try:
        return Spool(parent, run_id, lock)
    except BaseException:
        if is_new:
            shutil.rmtree(parent / run_id, ignore_errors=True)
            Path(lock.lock_file).unlink(missing_ok=True)
        lock.release(force=True)
        raise


def spooled_runs(parent: Path) -> list[str]:
    """The ids of the runs that have a spool, sorted."""
    return sorted(entry.name for entry in parent.iterdir() if entry.is_dir()) if parent.is_dir() else []


def peek(parent: Path, run_id: str) -> tuple[list[Record], int]:
    """Every record of a spool, and how many of them the store has taken; without holding the run.

    Raises FileNotFoundError where there is none, and DamagedSpoolError.
    """
    folder = parent / run_id
    records = _parsed((folder / RECORDS).read_bytes().partition(b"\0")[0], folder)
    delivered = _cursor_in((folder / DELIVERED).read_bytes(), folder)
    return records, sum(record.end <= delivered for record in records)


def is_held(parent: Path, run_id: str) -> bool:
    """Whether a process holds the run's lock."""
    path = parent / f"{run_id}{LOCK_SUFFIX}"
    if not path.exists():
        return False
    try:
        with FileLock(str(path), timeout=0):
            return False
    except Timeout:
        return True


def _cursor_in(written: bytes, folder: Path) -> int:
    if not (written.isdigit() or written == b""):
        raise DamagedSpoolError(folder / DELIVERED, "isn't a number of bytes")
    return int(written or b"0")


def _parsed(written: bytes, folder: Path) -> list[Record]:
    records: list[Record] = []
    start = 0
    for line in written.split(b"\n")[:-1]:  # what follows the last line end was cut off by a kill
        records.append(_record(line, len(records), start, folder))
        start = records[-1].end
    return records


def _record(line: bytes, number: int, start: int, folder: Path) -> Record:
    try:
        body = parse_json(line)
    except ParseError as error:
        raise DamagedSpoolError(folder / RECORDS, f"line {number + 1} {error}".partition(";")[0]) from error
    if not _is_record(body):
        raise DamagedSpoolError(folder / RECORDS, f"line {number + 1} isn't a record of a run")
    return Record(number=number, kind=body.pop("kind"), body=body, end=start + len(line) + 1)


def _is_record(body: Any) -> bool:
    """Whether it has a kind, tags that are texts, and no file but one in a folder of its own, which is deleted."""
    if not isinstance(body, dict) or not isinstance(body.get("kind"), str):
        return False
    tags, file = body.get("tags", {}), body.get("file", "files/0/name")
    if not isinstance(tags, dict) or not isinstance(file, str):
        return False
    return _OWN_FILE.fullmatch(file) is not None and all(isinstance(value, str) for value in tags.values())


def _reserve(descriptor: int, start: int, length: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, start, length)
    else:  # macOS
        _write_at(descriptor, b"\0" * length, start)


def _write_at(descriptor: int, data: bytes, start: int) -> None:
    written = os.pwrite(descriptor, data, start)
    if written != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
