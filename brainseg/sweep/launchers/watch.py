"""Looks at a study whose workers a scheduler keeps alive: nothing depends on it."""

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

from brainseg.errors import SweepError
from brainseg.sweep.engine.live import LiveTable
from brainseg.sweep.launchers.endings import last_line
from brainseg.sweep.launchers.engine import ENDED, WAITING, Engine, Study, Task, and_server, counted
from brainseg.sweep.launchers.local import StopRequests
from brainseg.sweep.launchers.view import View
from brainseg.tracking.mlflow.connection import UnreachableError
from brainseg.train.signals import handled_by

LOOK_S = 2.0  # between two looks at the study
ASK_S = 10.0  # between two questions to the scheduler, which has others to serve


class Watch:
    """Shows the trials of a study, and its workers as the scheduler sees them."""

    def __init__(
        self, engine: Engine, study: Study, table: LiveTable, *, count: int, logs: Path, server: Study | None
    ) -> None:
        """count: how many workers were asked for. logs: folder of their logs. server: a job that they depend on."""
        self._count = count
        self._server = server
        self._engine = engine
        self._study = study
        self._table = table
        self._logs = logs
        self._tasks: dict[int, Task] = {}
        self._said = ""

    def until(self, is_over: Callable[[], bool], view: View) -> bool:
        """Shows what happens until the study is over or no worker is left; False if the user looks away before.

        is_over: may raise UnreachableError, which is waited for. Raises SweepError where all workers ended before the
        study was over.
        """
        stop = StopRequests()
        asked_at = float("-inf")
        with handled_by(stop.handle), self._table:
            while not stop.times:
                view.look()
                with contextlib.suppress(UnreachableError):  # as `view` has said
                    if is_over():
                        return True
                if time.monotonic() - asked_at > ASK_S:
                    asked_at = time.monotonic()
                    if not self._ask():
                        return self._left_over(is_over)
                time.sleep(LOOK_S)
        return False

    def _ask(self) -> bool:
        """Says what has changed; False where no worker waits or runs any more."""
        try:
            tasks = self._engine.tasks(self._study)
            of_server = [] if self._server is None else self._engine.tasks(self._server)
        except UnreachableError as error:
            self._say_once(str(error))
            return True
        for task in tasks:
            self._say_change(self._tasks.get(task.number), task)
        self._tasks |= {task.number: task for task in tasks}
        alive = [task for task in tasks if task.state != ENDED]
        self._say_once(f"{self._engine.name}: {self._count} workers asked for, {counted(alive)}{and_server(of_server)}")
        return bool(alive)

    def _say_change(self, before: Task | None, task: Task) -> None:
        if before is None or before.state in (ENDED, task.state):
            return
        if task.state == WAITING:
            self._table.say(f"worker {task.number}: {before.host} has lost it; {self._engine.name} starts it again")
        elif task.state == ENDED and task.reason != "COMPLETED":
            self._table.say(f"worker {task.number} ended ({task.reason}): {self._last_words(task)}")

    def _say_once(self, line: str) -> None:
        if line != self._said:
            self._table.say(line)
            self._said = line

    def _left_over(self, is_over: Callable[[], bool]) -> bool:
        if is_over():
            return True
        ended = next((task for task in self._tasks.values() if task.reason not in ("", "COMPLETED", "CANCELLED")), None)
        if ended is None:
            return True
        raise SweepError(
            f"no worker is left; worker {ended.number} ended ({ended.reason}): {self._last_words(ended)}; "
            f"see {self._logs / ended.log}" + (f" on {ended.host}" if ended.host else "")
        )

    def _last_words(self, task: Task) -> str:
        return task.words or last_line(self._logs / task.log)
