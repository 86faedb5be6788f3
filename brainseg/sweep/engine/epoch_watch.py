"""What ends a run before its last epoch: the pruner, a stop of the worker or the study, or another worker."""

import os
import threading
import time
from collections.abc import Mapping
from signal import SIGTERM
from typing import TextIO

from brainseg.errors import Interrupted, Pruned
from brainseg.sweep.engine import keys
from brainseg.sweep.engine.trial_queue import Claim, TrialQueue

STOP = "stop"  # what a supervisor writes to a worker's stdin: finish the epoch, then end

Metrics = Mapping[str, float]


class StopAfterEpoch:
    """Whether the supervisor has asked this worker to stop after its epoch."""

    def __init__(self) -> None:
        self.is_requested = False

    def listen(self, stream: TextIO) -> None:
        """Reads in a thread what the supervisor writes; stops the process when the supervisor has died."""
        threading.Thread(target=self._listen, args=(stream,), name="brainseg-listen", daemon=True).start()

    def _listen(self, stream: TextIO) -> None:
        for line in stream:
            if line.strip() == STOP:
                self.is_requested = True
        if not self.is_requested:
            self.is_requested = True
            os.kill(os.getpid(), SIGTERM)  # a checkpoint is written after the current step


class LeaseLost(Interrupted):
    """Another worker took this one for dead and its trial over. To the tracker it is a stop from outside."""

    def __init__(self) -> None:
        super().__init__(SIGTERM)


class StudyStopped(Interrupted):
    """Somebody has asked to stop the study, or its time is over. To the tracker it is a stop from outside."""

    def __init__(self, why: str) -> None:
        super().__init__(SIGTERM)
        self.why = why


class EpochWatch:
    """Reports each epoch to the study, and ends a run that the pruner stops."""

    def __init__(
        self, queue: TrialQueue, claim: Claim, stop: StopAfterEpoch, *, epochs: int, before: int, is_whole: bool
    ) -> None:
        """epochs: of the run. before: of the trial's runs before it. is_whole: whether the run is the whole trial."""
        self._queue = queue
        self._claim = claim
        self._stop = stop
        self._epochs = epochs
        self._before = before
        self._has_begun = False
        self._reported = set(queue.reported(claim))
        self._prunes = is_whole and len(queue.study.directions) == 1
        self._decided = claim.attributes.get(keys.PRUNED)  # before a kill
        self._seconds = 0.0  # of training
        self._since = time.monotonic()

    def __call__(self, epoch: int, metrics: Metrics) -> None:
        self._seconds += metrics["seconds"]
        took_s, self._since = time.monotonic() - self._since, time.monotonic()
        with self._queue.storage.together():
            is_mine, is_stopped = self._queue.is_mine(self._claim), self._queue.is_stopped
            is_late = self._queue.seconds_left < took_s  # for another epoch
            if is_mine:
                self._report(epoch, metrics["val_dice_image"])
        if not is_mine:
            raise LeaseLost
        # Not for an epoch from before a resume; nor after the last one, when there is nothing to save.
        if self._prunes and max(self._reported) <= epoch < self._epochs:
            self._prune(epoch, metrics)
        if self._stop.is_requested:
            raise Interrupted(SIGTERM)
        if is_stopped and epoch < self._epochs:
            raise StudyStopped("the study is being stopped")
        if is_late and epoch < self._epochs:
            self._stop.is_requested = True  # else this worker would take the trial again
            raise StudyStopped("the next epoch would end after the time limit")

    def _report(self, epoch: int, value: float) -> None:
        """Stores the epoch's value, and before the first one that this worker has begun."""
        if not self._has_begun:
            self._queue.remember(self._claim, {keys.BEGUN: self._claim.attempt})
            self._has_begun = True
        step = self._before + epoch
        if step not in self._reported:
            self._queue.report(self._claim, step, value)
            self._reported.add(step)

    def _prune(self, epoch: int, metrics: Metrics) -> None:
        """Raises Pruned if the pruner stops the trial, or had stopped it before its worker was killed."""
        if self._decided is None and self._claim.trial.should_prune():
            pruner = type(self._queue.study.pruner).__name__
            value = metrics["val_dice_image"]
            reason = f"pruned after epoch {epoch} of {self._epochs} by {pruner}, at val_dice_image {value:.4f}"
            self._decided = {"epoch": epoch, "reason": reason}
            seconds = round(self._seconds, 3)
            self._queue.remember(self._claim, {keys.PRUNED: self._decided, keys.SECONDS: seconds})
        if self._decided is not None:
            raise Pruned(self._decided["reason"], epoch=self._decided["epoch"])
