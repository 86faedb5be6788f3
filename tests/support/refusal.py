"""A command that refuses its input, for the tests of several commands."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest


def exit_code(main: Callable[[list[str]], int], arguments: Sequence[str]) -> int:
    """What the command ends with, also where its parser, or a job of Hydra's, leaves it."""
    try:
        return main([*arguments])
    except SystemExit as left:
        return int(left.code or 0)


def refused(main: Callable[[list[str]], int], arguments: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What the command says, in one line; it may write nothing to the current folder."""
    before = sorted(Path.cwd().rglob("*"))
    code = exit_code(main, arguments.split())
    printed = capsys.readouterr()
    assert (code, printed.out) == (2, "")
    (line,) = printed.err.splitlines()
    assert sorted(Path.cwd().rglob("*")) == before
    return line.removeprefix("error: ")


def refused_here(main: Callable[[list[str]], int], arguments: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The same, with `CWD` for the current folder."""
    return refused(main, arguments, capsys).replace(str(Path.cwd()), "CWD")
