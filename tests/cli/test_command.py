"""What every command has: exit codes, one line for an error, masked passwords, progress without a terminal."""

import argparse
import contextlib
import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from brainseg.__main__ import MODULES
from brainseg.cli.command import OneLineParser, command
from brainseg.cli.console import Progress
from brainseg.cli.output import replacing, writing
from brainseg.errors import BrainsegError, InputError, Interrupted


def parser() -> argparse.ArgumentParser:
    made = OneLineParser(prog="tool")
    made.add_argument("--count", type=int)
    return made


def ended_by(error: BaseException) -> int:
    def work(parsed: argparse.Namespace) -> int:
        raise error

    return command(work, parser)([])


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (InputError("x is wrong; y"), 2, "error: x is wrong; y\n"),
        (BrainsegError("server://me:secret@host is away"), 1, "error: server://me:***@host is away\n"),
        (KeyboardInterrupt(), 130, "error: stopped by SIGINT\n"),
        (Interrupted(15), 143, ""),
    ],
)
def test_what_stops_a_command_is_one_line_and_an_exit_code(
    error: BaseException, code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended_by(error) == code
    assert capsys.readouterr() == ("", line)


def test_names_of_several_lines_stand_in_one_line_of_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    unreadable = os.fsdecode(b"\xff.png")
    assert ended_by(InputError(f"a\nb\x1b[2J\u2028 {unreadable} \ud800 é: rename it")) == 2
    assert capsys.readouterr().err == "error: a\\nb\\x1b[2J\\u2028 \\xff.png \\ud800 é: rename it\n"


def test_a_command_gives_the_exit_code_of_its_work() -> None:
    assert command(lambda parsed: int(parsed.count), parser)(["--count", "3"]) == 3


# Runs where fcntl and these signals are missing, as on Windows, with the platform set before the command begins.
ON_WINDOWS = """
import filelock, importlib, signal, sys  # filelock has another lock on Windows
sys.modules["fcntl"] = None
for name in ("SIGKILL", "SIGHUP", "SIGPIPE"):
    delattr(signal, name)
main = importlib.import_module(sys.argv[1]).main
sys.platform = "win32"
sys.exit(main(["--help"]))
"""


@pytest.mark.heavy
@pytest.mark.parametrize("module", ["brainseg.__main__", *MODULES.values()])
def test_on_windows_every_command_names_what_to_use_instead(module: str) -> None:
    command_line = [sys.executable, "-c", ON_WINDOWS, module]
    done = subprocess.run(command_line, capture_output=True, text=True, timeout=240, check=False)
    said = "error: brainseg doesn't run on Windows itself; use WSL, the Windows Subsystem for Linux\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", said)


def test_wrong_usage_is_one_line_without_passwords(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        command(lambda parsed: 0, parser)(["--uri=http://me:secret@host"])
    assert left.value.code == 2
    wrong = "error: unrecognized arguments: --uri=http://me:***@host; tool --help shows how it is used\n"
    assert capsys.readouterr().err == wrong


def test_a_full_disk_is_said_with_the_place_that_was_written(tmp_path: Path) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # as of a write: it names no file
    said = f"^{tmp_path} can't be written \\(No space left on device\\); name another place$"
    with pytest.raises(BrainsegError, match=said) as error, writing(tmp_path):
        raise full
    assert error.value.exit_code == 1  # nothing that was typed is wrong


def test_a_place_that_may_not_be_written_is_the_users_to_change(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\(Permission denied\); name another place$"), writing(tmp_path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def test_a_file_that_could_not_be_replaced_is_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text("old")
    with contextlib.suppress(ZeroDivisionError), replacing(path) as partial:
        partial.write_text("half of the ne")
        print(1 / 0)
    assert [file.name for file in tmp_path.iterdir()] == ["page.html"]
    assert path.read_text() == "old"


def test_progress_is_a_line_now_and_then_where_there_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Progress(unit="slices") as progress:
        progress("importing", 1, 2)
        monkeypatch.setattr("brainseg.cli.console.PROGRESS_S", -1.0)
        progress("importing", 2, 2)
    assert capsys.readouterr().err == "importing: 2 of 2 slices\n"
