"""Workers as processes of this machine: the supervisor restarts those that end, and ends with them."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from brainseg.errors import Interrupted, SweepError
from brainseg.model.gpus import VISIBLE_KEY, gpus
from brainseg.sweep.engine.epoch_watch import STOP
from brainseg.sweep.engine.leases import ProcessLock
from brainseg.sweep.engine.live import LiveTable
from brainseg.sweep.launchers.config import LauncherConfig
from brainseg.sweep.launchers.endings import last_line
from brainseg.sweep.launchers.engine import Workers
from brainseg.sweep.launchers.view import View
from brainseg.train.signals import handled_by

POLL_S = 0.5  # between two looks at the workers and the study
PATIENCE_S = 20.0  # for a worker that was told to stop at once; it writes a checkpoint
# Before a worker that ended with an error starts again: a store, or the data, may be away for a moment.
PAUSES_S = (0.0, 10.0, 30.0)
CRASHES_ALLOWED = len(PAUSES_S)  # one after the other, of one worker, with no trial getting further in between
# The same if it was killed from outside. The deaths of a trial's workers are counted with the trial: this is about
# workers that die before they have one.
KILLS_ALLOWED = 10
KILLED_FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass
class StopRequests:
    """Counts the signals by which the user asks to stop; they end nothing themselves."""

    signal: int | None = None
    times: int = 0

    def handle(self, number: int, frame: object) -> None:
        """The signal handler. SIGTERM, and a terminal that is closed, leave no time to finish an epoch."""
        self.signal = number
        self.times = max(self.times + 1, 1 if number == signal.SIGINT else 2)


@dataclass(eq=False)
class Slot:
    """One worker: a process, and after its end the next one."""

    log: Path
    gpu: str | None = None  # those that its workers use, as in CUDA_VISIBLE_DEVICES; None: whatever there is
    process: "subprocess.Popen[str] | None" = None
    is_done: bool = False  # its worker found nothing left to do
    crashes: int = 0  # in a row
    kills: int = 0  # in a row
    not_before: float = 0.0  # of `time.monotonic`: when the next process may start


@dataclass(kw_only=True)
class Pool:
    """The workers of one supervisor."""

    command: Sequence[str]
    environment: Mapping[str, str]
    slots: list[Slot]

    def keep_alive(self, now: float, *, restart: bool) -> list[str]:
        """Starts missing workers; returns a line for each that has ended.

        now: of `time.monotonic`. Raises SweepError if a worker ends again and again.
        """
        news = []
        for slot in self.slots:
            if slot.process is not None:
                code = slot.process.poll()
                if code is None:
                    continue
                _close(slot.process)
                slot.process = None
                slot.is_done = code == 0
                if restart and not slot.is_done:
                    news.append(_count_end(slot, code, now))
            if restart and not slot.is_done and now >= slot.not_before:
                slot.process = self._start(slot)
        return news

    def is_busy(self, *, restart: bool) -> bool:
        """Whether a worker is running or will be started again."""
        return any(slot.process is not None or (restart and not slot.is_done) for slot in self.slots)

    def forgive(self, pids: Collection[int]) -> None:
        """Forgets crashes and kills of these processes, since their trials have made progress."""
        for slot in self.slots:
            if slot.process is not None and slot.process.pid in pids:
                slot.crashes = slot.kills = 0

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

    def end(self) -> None:
        """Ends the workers that still run, with a checkpoint where they are quick enough, and waits for them."""
        self.finish_epochs()  # else one that is just recording a trial would take the next one
        self.send(signal.SIGTERM)
        deadline = time.monotonic() + PATIENCE_S
        for process in self._processes():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=max(0.0, deadline - time.monotonic()))
            process.kill()
            process.wait()
            _close(process)

    def _processes(self) -> "list[subprocess.Popen[str]]":
        return [slot.process for slot in self.slots if slot.process is not None]

    def _start(self, slot: Slot) -> "subprocess.Popen[str]":
        slot.log.parent.mkdir(parents=True, exist_ok=True)
        with slot.log.open("ab") as log:
            return subprocess.Popen(
                self.command,
                env={**self.environment, **({} if slot.gpu is None else {VISIBLE_KEY: slot.gpu})},
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                text=True,
                start_new_session=True,  # Ctrl-C is for the supervisor, which passes it on
            )


def _close(process: "subprocess.Popen[str]") -> None:
    assert process.stdin is not None
    with contextlib.suppress(OSError):  # what was written to it last was never read
        process.stdin.close()


def _count_end(slot: Slot, code: int, now: float) -> str:
    """Counts the end of a worker and describes it in a line. Raises SweepError after too many in a row."""
    name = slot.log.stem.replace("-", " ")
    number = -code if code < 0 else code - 128  # a worker that was told to stop ends with 128 + the signal's number
    if number in KILLED_FROM_OUTSIDE:
        slot.kills += 1
        if slot.kills >= KILLS_ALLOWED:
            raise SweepError(f"{name} was killed {slot.kills} times before an epoch was over; out of memory?")
        return f"{name} was killed; it starts again"
    slot.crashes += 1
    ended = f"signal {signal.Signals(number).name}" if code < 0 else last_line(slot.log)
    if slot.crashes > CRASHES_ALLOWED:
        raise SweepError(f"{name} ended with an error {slot.crashes} times in a row: {ended}; see {slot.log}")
    pause_s = PAUSES_S[slot.crashes - 1]
    slot.not_before = now + pause_s
    return f"{name} ended with an error: {ended}; it starts again" + (f" in {pause_s:.0f} s" if pause_s else "")


def supervise(workers: Pool, view: View, table: LiveTable) -> None:
    """Runs the workers until the study is finished, its time limit is reached or the user stops it.

    No worker lives afterwards. Raises Interrupted if the user has stopped it, and SweepError if workers end again and
    again.
    """
    stop = StopRequests()
    with handled_by(stop.handle), table:
        stopping = Stopping(workers, table)
        try:
            while True:
                now = time.monotonic()
                is_late = view.limit_s <= 0
                restart = not stop.times and not is_late
                for line in workers.keep_alive(now, restart=restart):
                    table.say(line)
                workers.forgive(view.look())
                if not workers.is_busy(restart=restart):
                    break
                stopping.go_on(stop.times, is_late=is_late)
                time.sleep(POLL_S)
        finally:
            workers.end()
        if stop.signal is not None:
            raise Interrupted(stop.signal)


class Stopping:
    """Passes the user's requests to stop, and the time limit, on to the workers."""

    def __init__(self, workers: Pool, table: LiveTable) -> None:
        self._workers = workers
        self._table = table
        self._told = 0
        self._since = 0.0

    def go_on(self, times: int, *, is_late: bool) -> None:
        """times: how often the user has asked. Called again and again."""
        wanted = max(times, 1 if is_late else 0)
        if wanted:
            # Each time, since a worker may have started again; before a signal, which ends one trial alone.
            self._workers.finish_epochs()
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


def worker_pool(workers: Workers, launcher: LauncherConfig, lock: ProcessLock, *, count: int) -> Pool:
    """So many workers, each a process of its own that writes a log; each has GPUs of its own, if there are enough.

    Passwords are handed on in the environment, and appear in no command line.
    """
    command = [sys.executable, "-m", "brainseg.sweep", *workers.arguments, "--listen", "--supervisor", lock.id]
    return Pool(
        command=command,
        environment={**os.environ, **workers.environment},
        slots=[
            Slot(workers.logs / f"worker-{number + 1}.log", gpu=_gpus_of(number, launcher.worker_gpus))
            for number in range(count)
        ],
    )


def _gpus_of(number: int, count: int) -> str | None:
    """The GPUs of a worker, counted from 0, for CUDA_VISIBLE_DEVICES; the workers take turns if there are fewer.

    None where the machine has none.
    """
    found = gpus()
    if not found:
        return None
    chosen = dict.fromkeys(found[(number * count + each) % len(found)].id for each in range(count))
    return ",".join(chosen)
