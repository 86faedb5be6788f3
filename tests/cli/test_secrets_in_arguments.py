"""The command line of a process shows no password to the other users of its machine, whatever the command."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from brainseg.__main__ import COMMANDS
from brainseg.cli.command import plain_command
from brainseg.cli.secrets import ENVIRONMENT_KEY, hide_secrets

SECRET = "rosebud"  # noqa: S105  # of nothing
# Python runs it at the start of every process; what it shows is what others read at the end.
SHOWS_ITS_COMMAND_LINE = """
import atexit, pathlib
shown = pathlib.Path("/proc/self/cmdline")
atexit.register(lambda: pathlib.Path("shown.txt").write_bytes(shown.read_bytes()))
"""


@pytest.mark.heavy
@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="command lines are read from /proc")
@pytest.mark.parametrize("started_by", ["brainseg", "python -m"])
@pytest.mark.parametrize("name", COMMANDS)
def test_the_command_line_of_every_command_shows_no_password(name: str, started_by: str, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(SHOWS_ITS_COMMAND_LINE)
    start = ["-m", "brainseg", name] if started_by == "brainseg" else ["-m", f"brainseg.{name}"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    environment.pop(ENVIRONMENT_KEY, None)
    given = ["--none-such", f"http://user:{SECRET}@host", f"--uri=postgresql://host/db?user=me&password={SECRET}"]
    command = [sys.executable, "-X", "utf8", *start, *given]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    shown = (tmp_path / "shown.txt").read_text().split("\0")[1:-1]
    masked = ["--none-such", "http://user:***@host", "--uri=postgresql://host/db?user=me&password=***"]
    assert shown == ["-X", "utf8", *start, *masked]
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert SECRET not in done.stdout + done.stderr


def test_arguments_come_back_in_the_process_that_shows_them_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    given = ["run", "quick", f"++tracking.uri=http://user:{SECRET}@host", "train.epochs=3"]
    shown = ["run", "quick", "++tracking.uri=http://user:***@host", "train.epochs=3"]
    monkeypatch.setenv(ENVIRONMENT_KEY, json.dumps([[2, given[2]]]))
    assert hide_secrets(shown) == given
    # Of a parent, in whose environment this process runs: these are not its arguments.
    assert hide_secrets(["status", "quick"]) == ["status", "quick"]


class StartedAgain(Exception):  # noqa: N818  # what happened, not what went wrong
    """In place of another program in this process."""


def test_a_process_that_shows_a_password_starts_again_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []

    def execve(program: str, arguments: list[str], environment: dict[str, str]) -> None:
        started.append([program, *arguments, environment[ENVIRONMENT_KEY]])
        raise StartedAgain

    monkeypatch.delenv(ENVIRONMENT_KEY, raising=False)
    monkeypatch.setattr(os, "execve", execve)
    given = ["worker", "quick", f"--storage=postgresql://user:{SECRET}@host/db"]
    assert hide_secrets(given) == given  # they stand in no command line
    monkeypatch.setattr(sys, "orig_argv", ["python", "-O", "/usr/bin/brainseg", "sweep", *given])
    with contextlib.suppress(StartedAgain):
        hide_secrets(["sweep", *given])
    shown = ["-O", "/usr/bin/brainseg", "sweep", "worker", "quick", "--storage=postgresql://user:***@host/db"]
    assert started == [[sys.executable, sys.executable, *shown, json.dumps([[3, given[2]]])]]


def test_a_masked_command_that_is_pasted_again_asks_for_the_password(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["compare", "--uri", "postgresql://user:***@host/db"])
    assert plain_command(lambda arguments: 0)() == 2
    said = "error: postgresql://user:***@host/db must hold a password in place of ***; write it there\n"
    assert capsys.readouterr().err == said
