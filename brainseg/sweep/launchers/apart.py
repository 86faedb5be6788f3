"""An engine that is asked in a process of its own, and has to answer in time.

Where its cluster is gone, Ray's library waits for a minute, with no limit that a caller could set, and then ends the
process that it is in.
"""

import atexit
import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import TypeVar

from brainseg.sweep.launchers.engine import Engine, Study, Task, Workers
from brainseg.tracking.mlflow.connection import UnreachableError

ANSWER_S = 60.0  # to look, with the import of the library and the first connection
SUBMIT_S = 300.0  # to check all hosts of a cluster, or to start workers

Answer = TypeVar("Answer")


class Apart:
    """The engine as its callers see it. One that doesn't answer is asked in a new process the next time."""

    def __init__(self, engine: Engine) -> None:
        self.name = engine.name
        self._engine = engine
        self._process: BaseProcess | None = None
        self._connection: Connection
        atexit.register(self._end)  # before multiprocessing waits for it

    def check(self, workers: Workers, count: int) -> None:
        """What the engine does; raises UnreachableError where it doesn't answer."""
        self._ask(SUBMIT_S, self._engine.check, workers, count)

    def shown(self, workers: Workers, count: int) -> str:
        """What the engine shows, which asks nobody."""
        return self._engine.shown(workers, count)

    def start(self, workers: Workers, numbers: Sequence[int]) -> str:
        """What the engine does; raises UnreachableError where it doesn't answer."""
        return self._ask(SUBMIT_S, self._engine.start, workers, numbers)

    def tasks(self, study: Study) -> list[Task]:
        """What the engine says; raises UnreachableError where it doesn't answer."""
        return self._ask(ANSWER_S, self._engine.tasks, study)

    def cancel(self, tasks: Sequence[Task]) -> None:
        """What the engine does; raises UnreachableError where it doesn't answer."""
        self._ask(ANSWER_S, self._engine.cancel, tasks)

    def _ask(self, limit_s: float, question: Callable[..., Answer], *given: object) -> Answer:
        if self._process is None:
            self._begin()
        answer: tuple[Exception | None, Answer] | None = None
        with contextlib.suppress(OSError, EOFError):  # it has ended
            self._connection.send((question, given))
            if self._connection.poll(limit_s):
                answer = self._connection.recv()
        if answer is None:
            self._end()
            raise UnreachableError(f"{self.name} doesn't answer; ask again later")
        error, value = answer
        if error is not None:
            raise error
        return value

    def _begin(self) -> None:
        context = multiprocessing.get_context("spawn")  # not a copy of this process, which has threads
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_answer, args=(theirs, os.getcwd()), daemon=True)
        self._process.start()
        theirs.close()

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None
            self._connection.close()


def _answer(connection: Connection, folder: str) -> None:
    """Answers until the asking process is gone. folder: where that one is, for whatever is named from there."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal, it is for who asks
    os.chdir(folder)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):  # what a library prints would break the live table
        os.dup2(nowhere, stream)
    with contextlib.suppress(EOFError):
        while True:
            question, given = connection.recv()
            try:
                connection.send((None, question(*given)))
            except Exception as error:
                connection.send((error, None))
