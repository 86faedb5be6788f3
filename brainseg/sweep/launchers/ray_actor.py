"""What Ray runs on a host for a worker: an actor that keeps its process alive, and tells how it is.

Ray sends the name of this module, so that each host runs its own brainseg; importing it must stay quick.
"""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import ray

from brainseg.sweep.launchers.endings import FINAL, RESTART_PAUSE_S, RESTARTS, last_line

TELLING_S = 120.0  # for which a worker that has failed still tells why
PYTHON = "python"  # a command for the Python that runs Ray on the host


@dataclass(frozen=True, kw_only=True)
class State:
    """How a worker is."""

    host: str
    log: Path
    ended: str = ""  # how, if it has failed for good
    words: str = ""  # the last line of its log


class WorkerActor:
    """One worker: a process, and after its end by a kill the next one; the actor ends with the last of them."""

    def __init__(self, command: Sequence[str], *, environment: Mapping[str, str], folder: str, log: str) -> None:
        """folder: where the worker starts; if it isn't here, where Ray was started. log: a path from there.

        Called again by Ray wherever it starts a lost actor.
        """
        asked = Path(folder).expanduser()
        self._command = [sys.executable if command[0] == PYTHON else command[0], *command[1:]]
        self._environment = {**os.environ, **environment}
        self._folder = asked if asked.is_dir() else Path.cwd()
        self._log = self._folder / log
        self._ended = ""
        self._own_handle = ray.get_runtime_context().current_actor
        threading.Thread(target=self._keep, name="brainseg-worker", daemon=True).start()

    def state(self) -> State:
        """How the worker is now."""
        return State(host=socket.gethostname(), log=self._log, ended=self._ended, words=last_line(self._log))

    def _keep(self) -> None:
        try:
            code = self._run_until_final()
            if code != 0:
                self._ended = f"exit code {code}" if code > 0 else f"signal {-code}"
        except OSError as error:  # no such command, or a folder that can't be written to
            self._ended = str(error)
        if self._ended:
            time.sleep(TELLING_S)
        ray.kill(self._own_handle, no_restart=True)  # gives back its cores and GPU

    def _run_until_final(self) -> int:
        for start in range(RESTARTS + 1):
            time.sleep(RESTART_PAUSE_S if start else 0)
            code = self._run()
            if code in FINAL:
                break
        return code

    def _run(self) -> int:
        """Runs the worker's process to its end; its exit code."""
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with (
            self._log.open("ab") as log,
            subprocess.Popen(
                self._command,
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.PIPE,  # which closes when this process dies: the worker listens to it
                stdout=log,
                stderr=log,
                start_new_session=True,
            ) as process,
        ):
            return process.wait()


def missing_passwords(files: Mapping[str, str]) -> list[str]:
    """The variables that are neither set on this host nor have their file there. files: variable -> file."""
    return [name for name, file in files.items() if name not in os.environ and not Path(file).expanduser().exists()]
