"""What the commands without Hydra share: wrong usage is one line, and so is whatever stops a command."""

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from brainseg.errors import BrainsegError, InputError


class OneLineParser(argparse.ArgumentParser):
    """An argument parser whose errors are one line on stderr and exit code 2; its subcommands' are as well."""

    def error(self, message: str) -> NoReturn:
        """Leaves the process; called by argparse."""
        print(f"error: {message}; {self.prog} --help shows how it is used", file=sys.stderr)
        sys.exit(2)


def exit_code_of(command: Callable[[], int], *, masked: Callable[[str], str]) -> int:
    """Runs the command: the exit code that it gives, or that of what stops it, which is one line on stderr.

    masked: hides the passwords in a text. Ctrl-C gives 130, and a reader of stdout that has seen enough (`head`) 1.
    """
    try:
        code = command()
        sys.stdout.flush()
        return code
    except BrainsegError as error:
        print(masked(f"error: {error}"), file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains at its end
        return 1
    except KeyboardInterrupt:
        print("error: stopped by SIGINT", file=sys.stderr)
        return 130


def exit_code_with_folder(command: Callable[[Path], int], *, masked: Callable[[str], str]) -> int:
    """`exit_code_of` a command that is given an empty folder, which is gone afterwards."""

    def with_folder() -> int:
        with tempfile.TemporaryDirectory(prefix="brainseg-") as folder:
            return command(Path(folder))

    return exit_code_of(with_folder, masked=masked)


@contextmanager
def ended_by_its_reader() -> Iterator[None]:
    """What is printed ends the process, as it ends any other program, where its reader has seen enough (`head`).

    For what only prints and has an exception's traceback printed by others.
    """
    before = signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        yield
        sys.stdout.flush()
    finally:
        signal.signal(signal.SIGPIPE, before)


def given_settings(parsed: argparse.Namespace) -> dict[str, Any]:
    """Fields of `Settings` that --flip, --shift, --threshold and --min-area name; without those left out."""
    named = {
        "flip": parsed.flip,
        "shift": parsed.shift,
        "threshold": parsed.threshold,
        "min_area_px": parsed.min_area,
    }
    return {field: value for field, value in named.items() if value is not None}


def check_named_once(names: Sequence[str], *, called: str) -> None:
    """Raises InputError for a name that is there again. called: what the names are, as in `the model`."""
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{called} {twice} is named twice; leave one out")


def check_output(folder: Path) -> None:
    """Raises InputError, which names the option `-o`, unless the folder is empty or can be made."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise InputError(f"-o must name a folder, got the file {existing}; name another")
    if existing == folder and any(folder.iterdir()):
        raise InputError(f"-o {folder} must be a new or an empty folder, but something is there; name another one")
    if not os.access(existing, os.W_OK):
        raise InputError(f"-o {folder} can't be written (Permission denied); name another folder")


def check_new_file(path: Path, *, option: str, force: bool) -> None:
    """Raises InputError, which names the option, unless the file can be written; one that exists, only by `force`."""
    if path.is_dir():
        raise InputError(f"{option} {path} is a folder; name a file")
    if path.exists() and not force:
        raise InputError(f"{path} exists; name another file with {option} FILE, or replace it with --force")
    if not path.parent.is_dir():
        raise InputError(f"{path.parent} is not a folder; create it first")
