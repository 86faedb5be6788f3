"""Commands as processes that can be signalled and killed, forked by `process_server.py`."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

# Longer than anything takes: only a hang reaches it.
PATIENCE_S = 400.0
POLL_S = 0.02


class Server:
    """Starts commands in no time: `process_server.py` forks them."""

    def __init__(self, folder: Path) -> None:
        kept = {key: value for key, value in environment().items() if not key.startswith("BRAINSEG_")}
        with (folder / "server.txt").open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, Path(__file__).with_name("process_server.py")],
                env=kept,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def start(self, program: str, *arguments: str, folder: Path, output: Path, typed: str = os.devnull) -> int:
        """Starts a program that the server knows in the folder; its process id.

        output: the file that what it prints is added to. typed: the file or pipe that it reads.
        """
        pid: int = self.ask(start=[program, *arguments], folder=str(folder), output=str(output), typed=typed)
        return pid

    def ask(self, **request: Any) -> Any:
        """The server's answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        """Ends the server."""
        self._process.communicate(timeout=PATIENCE_S)


class Command:
    """A command in a process of its own, and the processes that it has started."""

    def __init__(self, pid: int, output: Path, server: Server) -> None:
        self.pid = pid
        self._output = output
        self._server = server

    @property
    def text(self) -> str:
        """What it has printed."""
        return self._output.read_text() if self._output.exists() else ""

    def poll(self) -> int | None:
        """Its exit code, minus the signal's number where it was killed; None while it runs."""
        code: int | None = self._server.ask(poll=self.pid)
        return code

    def exit_code(self) -> int:
        """The same, once it has ended."""
        wait_until(lambda: self.poll() is not None, lambda: self.text)
        code = self.poll()
        assert code is not None
        return code

    def wait_for(self, text: str) -> None:
        """Returns when it has printed the text; it must not end before."""
        self.wait_until(lambda: text in self.text)

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Returns when `condition()` is true; the command must not end before."""
        wait_until(lambda: condition() or self.poll() is not None, lambda: self.text)
        assert condition(), self.text

    def send(self, number: int) -> None:
        """Sends a signal to it alone."""
        os.kill(self.pid, number)

    def children(self) -> list[int]:
        """The processes that it has started, and those that they have."""
        return [child.pid for child in psutil.Process(self.pid).children(recursive=True)]

    def kill_all(self) -> None:
        """SIGKILL for it and everything that it has started."""
        if self.poll() is None:
            for pid in (self.pid, *self.children()):
                kill(pid)
            self.exit_code()


def wait_until(condition: Callable[[], bool], told: Callable[[], str]) -> None:
    """Returns when `condition()` is true; fails with `told()` where that takes too long."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, told()
        time.sleep(POLL_S)


def kill(pid: int) -> None:
    """SIGKILL, if the process still lives."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def is_alive(pid: int) -> bool:
    """Whether the process runs: one that nobody has waited for yet does not."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def environment() -> dict[str, str]:
    """For processes that a test starts: this one's, without what would send them elsewhere."""
    quiet = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    return {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")} | quiet
