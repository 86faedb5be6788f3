"""The one wrapper of every command: it parses, runs, prints errors as one line, and decides the exit code."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, Protocol

from brainseg.cli.secrets import hide_secrets, mask
from brainseg.errors import BrainsegError, InputError, Interrupted


class OneLineParser(argparse.ArgumentParser):
    """An argument parser whose errors are one line on stderr and exit code 2; its subcommands' are as well."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        if self.epilog is not None:  # examples, whose line breaks are kept
            self.formatter_class = argparse.RawDescriptionHelpFormatter

    def error(self, message: str) -> NoReturn:
        """Leaves the process; called by argparse."""
        print(mask(f"error: {message}; {self.prog} --help shows how it is used"), file=sys.stderr)
        sys.exit(2)


class Main(Protocol):
    """The `main` of a command's `__main__`."""

    def __call__(self, arguments: Sequence[str] | None = None) -> int:
        """Runs the command with these arguments (by default those of the process); the exit code."""


def command(
    work: Callable[[argparse.Namespace], int],
    make_parser: Callable[[], argparse.ArgumentParser],
    *,
    intermixed: bool = False,
) -> Main:
    """The `main` of a command whose arguments argparse reads. work: gives the exit code.

    intermixed: options may stand between the others, as in `RUN_ID --data DIR KEY=VALUE`.
    """

    def parse_and_work(arguments: list[str]) -> int:
        parser = make_parser()
        parse = parser.parse_intermixed_args if intermixed else parser.parse_args
        return work(parse(arguments))

    return plain_command(parse_and_work)


def plain_command(work: Callable[[list[str]], int]) -> Main:
    """The `main` of a command that reads its arguments itself. Wrong usage leaves by SystemExit, as argparse does.

    Where they are those of the process, its command line shows no password: see `hide_secrets`.
    """

    def main(arguments: Sequence[str] | None = None) -> int:
        return exit_code_of(lambda: work(hide_secrets(sys.argv[1:]) if arguments is None else list(arguments)))

    return main


def exit_code_of(work: Callable[[], int]) -> int:
    """Runs a command's work; what stops it is one line on stderr, without passwords.

    The exit code is what `work` gives (0 done); 2 where the input is wrong; 1 for anything else, or where the reader of
    stdout has seen enough (`head`); 130 after Ctrl-C and 143 after SIGTERM.
    """
    try:
        check_system(sys.platform)
        code = work()
        sys.stdout.flush()
        return code
    except Interrupted as stopped:  # the command has told how to go on
        return stopped.exit_code
    except BrainsegError as error:
        print(mask(f"error: {error}"), file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains at its end
        return 1
    except KeyboardInterrupt:
        print("error: stopped by SIGINT", file=sys.stderr)
        return 130


def check_system(platform: str) -> None:
    """Raises InputError on Windows, which lacks the file locks and signals that brainseg needs."""
    if platform == "win32":
        raise InputError("brainseg doesn't run on Windows itself; use WSL, the Windows Subsystem for Linux")
