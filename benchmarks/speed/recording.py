"""Measures what tracking costs: the record of an epoch and the checkpoint."""

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median

from benchmarks.speed.own_loop import make_trainer, train_to_the_end
from benchmarks.speed.task import Task
from brainseg.config import TrackingConfig
from brainseg.tracking import open_tracker
from brainseg.train.checkpoint import Checkpoints
from brainseg.train.loop import Trainer
from brainseg.train.progress import Silent

EPOCHS = 20


def recording_s(task: Task, *, policy: str) -> Mapping[str, float]:
    """Trains one round, then maps each step of recording to its seconds an epoch. For a process of its own."""
    trainer = make_trainer(task, policy=policy, epochs=1)
    train_to_the_end(trainer, reporter=Silent())
    with tempfile.TemporaryDirectory(prefix="brainseg-") as folder:
        call_s, delivered_s = _record_s(Path(folder), trainer.progress.history[-1])
        return {
            "the call that records an epoch": call_s,
            "until SQLite has an epoch's record": delivered_s,
            "a checkpoint, flushed to the disk": _checkpoint_s(Path(folder), trainer),
        }


def _record_s(root: Path, metrics: Mapping[str, float]) -> tuple[float, float]:
    """Seconds of the call that records an epoch, and seconds until the store has it."""
    tracker = open_tracker(TrackingConfig(root=str(root / "mlruns")), run_name="benchmark", tags={})
    calls_s = []
    begun = time.perf_counter()
    with tracker:
        for epoch in range(1, EPOCHS + 1):
            call = time.perf_counter()
            tracker.log_metrics(metrics, epoch=epoch)
            calls_s.append(time.perf_counter() - call)
    return median(calls_s), (time.perf_counter() - begun) / EPOCHS


def _checkpoint_s(root: Path, trainer: Trainer) -> float:
    checkpoints = Checkpoints(root, "benchmark")
    checkpoints.folder.mkdir(parents=True)
    begun = time.perf_counter()
    checkpoints.save(trainer.state())
    return time.perf_counter() - begun
