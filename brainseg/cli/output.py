"""What a command writes: whether it may is checked before it works, and a file is there as a whole or not at all."""

import argparse
import contextlib
import csv
import errno
import io
import os
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from brainseg.errors import BrainsegError, DiskError, InputError

NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_OF_THE_DISK = (*NO_ROOM, errno.EIO)  # it is full, or broken: nothing that the user typed is wrong
# SQLite's codes of the same; the lower byte tells the kind.
_OF_THE_DISK_IN_SQLITE = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
_REDIRECTED = threading.RLock()


def check_new_folder(folder: Path, *, option: str = "") -> None:
    """Raises InputError unless the folder is empty, or can be made. option: the option that named it, if any."""
    shown = f"{option} {folder}".strip()
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise InputError(f"{option or folder} must name a folder, got the file {existing}; name another")
    if existing == folder and any(folder.iterdir()):
        raise InputError(f"{shown} must be a new or an empty folder, but something is there; name another one")
    if not os.access(existing, os.W_OK):
        raise InputError(f"{shown} can't be written (Permission denied); name another folder")


def check_new_file(path: Path, *, option: str, force: bool | None = None) -> None:
    """Raises InputError unless the file can be written; where it exists, only `force` allows that.

    option: the option that named it. force: whether --force was given; None if the command has no --force.
    """
    if path.is_dir():
        raise InputError(f"{option} {path} is a folder; name a file")
    if path.exists() and force is None:
        raise InputError(f"{path} exists, and is left as it is; name another file with {option} FILE")
    if path.exists() and not force:
        raise InputError(f"{path} exists; name another file with {option} FILE, or replace it with --force")
    if not path.parent.is_dir():
        raise InputError(f"{path.parent} is not a folder; create it first")


def disk_or(otherwise: type[BrainsegError], error: BaseException) -> type[BrainsegError]:
    """What to raise for an error: DiskError where a full or broken disk is among its causes, or else `otherwise`."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in _OF_THE_DISK:
            return DiskError
        if getattr(cause, "sqlite_errorcode", 0) & 0xFF in _OF_THE_DISK_IN_SQLITE:
            return DiskError
        cause = cause.__cause__ or cause.__context__
    return otherwise


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, which takes its place at the end; after an error `path` is as it was."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def writing(place: Path, *, option: str = "") -> Iterator[None]:
    """Turns an OSError of what is inside into InputError, or where the disk is to blame into DiskError.

    place: what is written. option: the option that named it.
    """
    try:
        yield
    except OSError as error:
        where = f"{option} {place}" if option else str(error.filename or place)  # a full disk names no file
        raise disk_or(InputError, error)(
            f"{where} can't be written ({error.strerror or error}); name another place"
        ) from error


def csv_text(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table as CSV, with a line feed at the end of each row; None is an empty cell, and floats read back exactly."""
    return "".join(map(csv_row, [headings, *rows]))


def csv_row(cells: Sequence[Any]) -> str:
    """A row of `csv_text`, with its line feed."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow(cells)  # so that a cell with either sign is quoted
    return text.getvalue().removesuffix("\r\n") + "\n"


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder for what is fetched and made on the way, gone afterwards. Raises InputError where there is no room.

    Inside, a full disk is taken for that of this folder: what a command is to leave is written within `writing`.
    """
    try:
        made = tempfile.TemporaryDirectory(prefix="brainseg-")
    except OSError as error:
        raise _no_temporary_files(error) from error
    try:
        with made as folder:
            yield Path(folder)
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise _no_temporary_files(error) from error


def _no_temporary_files(error: OSError) -> InputError:
    cause = error.strerror if error.filename is None else f"{error.strerror}: {error.filename}"
    return InputError(
        f"temporary files can't be written ({cause}); make room, or name another folder by the environment variable "
        "TMPDIR"
    )


@contextlib.contextmanager
def temporary_files_in(folder: Path) -> Iterator[None]:
    """Inside, a library that writes temporary files, as Keras does for a model, writes them in this folder.

    One thread at a time: Python has one temporary folder a process.
    """
    with _REDIRECTED:
        before, tempfile.tempdir = tempfile.tempdir, str(folder)
        try:
            yield
        finally:
            tempfile.tempdir = before


def with_folder(work: Callable[[argparse.Namespace, Path], int]) -> Callable[[argparse.Namespace], int]:
    """A command's work that is given an empty folder, which is gone afterwards."""

    def run(parsed: argparse.Namespace) -> int:
        with temporary_folder() as folder:
            return work(parsed, folder)

    return run
