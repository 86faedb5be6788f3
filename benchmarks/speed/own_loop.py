"""brainseg's own training loop and input pipeline, as a run uses them."""

import dataclasses
import time
from typing import Any
from unittest import mock

from benchmarks.speed.arithmetic import forward_multiply_adds
from benchmarks.speed.task import EndRound, Round, Task
from brainseg.data.batches import TrainingBatches
from brainseg.data.split import Split
from brainseg.model import runtime as precision
from brainseg.train.loop import Trainer
from brainseg.train.progress import Reporter, Silent
from brainseg.train.signals import StopRequest


def make_trainer(task: Task, *, policy: str, epochs: int) -> Trainer:
    """A trainer for `epochs` rounds. It validates on one slice, outside of what is timed."""
    precision.apply(policy, task.threads)
    slices, ids = task.load()
    config = dataclasses.replace(task.config, train=dataclasses.replace(task.config.train, epochs=epochs))
    return Trainer(config, slices, Split(train=ids, val=ids[:1]))


def normalised(task: Task) -> Task:
    """The task with batch normalisation and the standard augmentation."""
    model = dataclasses.replace(task.config.model, norm="batch")
    data = dataclasses.replace(task.config.data, augment="standard")
    return dataclasses.replace(task, config=dataclasses.replace(task.config, model=model, data=data))


class Brainseg:
    """A contender. One `fit` trains all rounds, as in a run: batches for the next epoch are prepared meanwhile.

    Between two rounds that goes on until its queue is full, so that a round begins with as many batches
    ready as it ends with, unless the step must wait for them.
    """

    def __init__(self, task: Task, *, policy: str) -> None:
        self._trainer = make_trainer(task, policy=policy, epochs=100_000)
        self.parameters = self._trainer.model.count_params()
        self.multiply_adds = forward_multiply_adds(self._trainer.model)

    def train(self, end_round: EndRound) -> None:
        """Trains epochs as rounds; their speed is what a run records."""
        waits_s: list[float] = []

        def end_epoch() -> None:
            epoch = self._trainer.progress.history[-1]
            waited_s = sum(waits_s)
            end_round(Round(images_per_second=epoch["images_per_second"], waiting=waited_s / epoch["seconds"]))
            waits_s.clear()

        with mock.patch.object(TrainingBatches, "__next__", _timed(waits_s)):
            self._trainer.fit(stop=StopRequest(), reporter=Silent(), on_epoch=end_epoch)


def _timed(waits_s: list[float]) -> Any:
    """`TrainingBatches.__next__` that appends how long it took."""
    original = TrainingBatches.__next__

    def timed_next(batches: TrainingBatches) -> tuple[Any, Any]:
        begun = time.perf_counter()
        batch = original(batches)
        waits_s.append(time.perf_counter() - begun)
        return batch

    return timed_next


def train_to_the_end(trainer: Trainer, *, reporter: Reporter) -> None:
    """Trains all epochs and records nothing."""
    trainer.fit(stop=StopRequest(), reporter=reporter, on_epoch=lambda: None)
