"""Keeps a number of workers alive and shows what they do; holds nothing that its death could lose."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial

from brainseg.errors import Interrupted, SweepError
from brainseg.sweep.alive import SignOfLife
from brainseg.sweep.live import LiveTable
from brainseg.sweep.storage import StudyStorage
from brainseg.sweep.study_file import StudyConfig
from brainseg.sweep.worker import STOP

POLL_S = 0.5  # between two looks at the workers and the study
PATIENCE_S = 20.0  # for a worker that was told to stop at once; it writes a checkpoint
CRASHES_ALLOWED = 3  # of workers, one after the other, with no trial getting further in between

# Is told of the trials whenever one more of them is finished.
OnFinished = Callable[[Sequence[FrozenTrial]], None]


@dataclass
class StopRequest:
    """How often, and by which signal, the user has asked to stop."""

    signal: int | None = None
    times: int = 0

    def handle(self, number: int, frame: object) -> None:
        """The signal handler. SIGTERM leaves no time to finish an epoch."""
        self.signal = number
        self.times = max(self.times + 1, 2 if number == signal.SIGTERM else 1)


@dataclass(eq=False)
class Slot:
    """The place of one worker, whose processes follow one another."""

    log: Path
    process: "subprocess.Popen[str] | None" = None
    is_done: bool = False  # its worker found nothing left to do


@dataclass(kw_only=True)
class Pool:
    """The workers of one supervisor."""

    command: Sequence[str]
    environment: Mapping[str, str]
    slots: list[Slot]
    crashes: int = field(default=0, init=False)  # in a row

    @property
    def is_busy(self) -> bool:
        """Whether a worker still runs."""
        return any(slot.process is not None for slot in self.slots)

    def keep_alive(self, *, restart: bool) -> None:
        """Starts the workers that are missing. Raises SweepError where they can't live."""
        for slot in self.slots:
            if slot.process is not None:
                code = slot.process.poll()
                if code is None:
                    continue
                slot.process = None
                slot.is_done = code == 0
                # Killed from outside (a negative code) is no crash: its trial goes on.
                self.crashes = self.crashes + 1 if code > 0 and restart else self.crashes
            if self.crashes >= CRASHES_ALLOWED:
                raise SweepError(
                    f"{self.crashes} workers in a row ended with an error: {last_line(slot.log)}; see {slot.log}"
                )
            if restart and not slot.is_done:
                slot.process = self._start(slot)

    def finish_epochs(self) -> None:
        """Asks the workers to end after their epoch."""
        for process in self._processes():
            with contextlib.suppress(OSError):  # it ends just now
                assert process.stdin is not None
                process.stdin.write(f"{STOP}\n")
                process.stdin.flush()

    def send(self, number: int) -> None:
        """Sends a signal to every worker."""
        for process in self._processes():
            process.send_signal(number)

    def _processes(self) -> "list[subprocess.Popen[str]]":
        return [slot.process for slot in self.slots if slot.process is not None]

    def _start(self, slot: Slot) -> "subprocess.Popen[str]":
        slot.log.parent.mkdir(parents=True, exist_ok=True)
        with slot.log.open("ab") as log:
            return subprocess.Popen(
                self.command,
                env=dict(self.environment),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                text=True,
                start_new_session=True,  # Ctrl-C is for the supervisor, which passes it on
            )


def supervise(
    storage: StudyStorage,
    study: optuna.Study,
    config: StudyConfig,
    pool: Callable[[SignOfLife], Pool],
    table: LiveTable,
    *,
    on_finished: OnFinished,
) -> bool:
    """Runs the workers until the study is done, its time is over or the user stops it. Whether time was left.

    pool: makes the workers of the supervisor with this sign of life. Raises Interrupted where the user has
    stopped it, and SweepError where workers can't live.
    """
    begun, finished = time.monotonic(), -1
    limit_s = float("inf") if config.time_limit_min is None else 60 * config.time_limit_min
    with SignOfLife(storage.folder) as sign, stop_requests() as stop, table:
        workers = pool(sign)
        stopping = Stopping(workers, table)
        try:
            while True:
                is_late = time.monotonic() - begun > limit_s
                workers.keep_alive(restart=not stop.times and not is_late)
                trials = study.get_trials(deepcopy=False)
                table.update(trials, time.time())
                ended = sum(trial.state.is_finished() for trial in trials)
                if ended > finished:
                    workers.crashes, finished = 0, ended
                    on_finished(trials)
                if not workers.is_busy:
                    break
                stopping.go_on(stop.times, is_late=is_late)
                time.sleep(POLL_S)
        finally:
            workers.send(signal.SIGTERM)  # where an error ends the supervisor
        if stop.signal is not None:
            raise Interrupted(stop.signal)
        return not is_late


class Stopping:
    """Passes on to the workers what the user, or the time limit, asks for."""

    def __init__(self, workers: Pool, table: LiveTable) -> None:
        self._workers = workers
        self._table = table
        self._told = 0
        self._since = 0.0

    def go_on(self, times: int, *, is_late: bool) -> None:
        """times: how often the user has asked. Called again and again."""
        wanted = max(times, 1 if is_late else 0)
        if wanted == 1:
            self._workers.finish_epochs()  # each time: a worker may have started afresh
        if wanted > self._told:
            self._say(wanted, is_late=is_late)
            self._told, self._since = wanted, time.monotonic()
            if wanted >= 2:
                self._workers.send(signal.SIGTERM if wanted == 2 else signal.SIGKILL)
        if self._told == 2 and time.monotonic() - self._since > PATIENCE_S:
            self._workers.send(signal.SIGKILL)

    def _say(self, wanted: int, *, is_late: bool) -> None:
        if wanted == 1:
            why = "the time limit is reached" if is_late else "stopping"
            self._table.say(f"{why}: the current epochs are finished first; Ctrl-C again stops at once")
        elif wanted == 2:
            self._table.say("stopping at once, with a checkpoint after the current step")


@contextlib.contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """SIGINT and SIGTERM are counted inside, and end nothing."""
    stop = StopRequest()
    before = {number: signal.signal(number, stop.handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def worker_pool(
    config: StudyConfig, sign: SignOfLife, *, threads: int, logs: Path, environment: Mapping[str, str]
) -> Pool:
    """Workers of this study, each a process of its own that writes a log into `logs`.

    environment: what they need to know beside the process's own; passwords are handed on here, and
    stand in no command line.
    """
    command = [sys.executable, "-m", "brainseg.sweep", "worker", config.name]
    command += ["--supervisor", sign.id, "--threads", str(threads)]
    command += [item for item in config.tracking if not item.startswith("tracking.uri")]
    return Pool(
        command=command,
        environment={**os.environ, **environment},
        slots=[Slot(logs / f"worker-{number}.log") for number in range(1, config.workers + 1)],
    )


def last_line(path: Path) -> str:
    """What a log ends with."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "it has printed nothing")
