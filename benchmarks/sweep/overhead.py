"""Measures what the engine adds to training: between two trials of a worker, and to each epoch."""

import contextlib
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import optuna

from benchmarks.figures import milliseconds, print_table, verdict
from benchmarks.sweep.made_study import claimed, finish, made_curve, make_study, place, queue_on, study_config
from brainseg.config import RunConfig, TrackingConfig, flatten
from brainseg.keys import as_line
from brainseg.sweep.engine import keys
from brainseg.sweep.engine.trial_queue import TrialQueue
from brainseg.sweep.study.plan import compose_trial
from brainseg.sweep.study.study_file import StudyConfig
from brainseg.tracking import open_tracker

BETWEEN_BAR_S = 0.2  # beyond closing one run and opening the next
EPOCH_BAR_S = 0.040
FINISHED = (0, 100, 500)  # trials in the study
EPOCHS = 20  # of each of them
OTHERS = 3  # trials that other workers hold meanwhile
WORKERS = 4
STUDY = "epochs"
PAUSE_S = 0.1  # in place of an epoch's training
STEPS = ("tell", "claim", "compose", "keep its attributes")
EPOCH_STEPS = ("record", "is it mine", "report", "prune?")
METRICS = ("train_loss", "train_dice", "val_loss", "val_dice", "val_dice_image", "learning_rate", "seconds", "speed")

Durations = dict[str, list[float]]  # step -> seconds, one a round


def measure_between(kind: str, *, rounds: int) -> None:
    """Prints the time from one trial's score to the next trial's training, without the MLflow runs."""
    rows, longest = [], 0.0
    with tempfile.TemporaryDirectory(prefix="brainseg-") as folder, place(kind, Path(folder)) as where:
        for finished in FINISHED:
            study = (where, Path(folder), f"finished-{finished}")
            make_study(*study, finished=finished, epochs=EPOCHS)
            with queue_on(*study, epochs=EPOCHS) as others, queue_on(*study, epochs=EPOCHS) as queue:
                for _ in range(OTHERS):
                    claimed(others)
                durations = _between(queue, study_config(study[-1]), rounds=rounds)
            together = _together(durations)
            longest = max(longest, statistics.median(together))
            rows.append([str(finished), *map(milliseconds, durations.values()), milliseconds(together)])
        runs = _close_and_open(Path(folder), rounds=rounds)
    print_table([f"finished trials, {kind}", *STEPS, "together"], rows)
    print(f"closing a run and opening the next (SQLite, without a model): {milliseconds(runs)}")
    print(f"between two trials, beyond that: {verdict(longest, bar=BETWEEN_BAR_S, unit='s', digits=3)}\n")


def _between(queue: TrialQueue, config: StudyConfig, *, rounds: int) -> Durations:
    """Times the steps between two trials. The first round isn't counted, since Hydra composes once a worker."""
    durations: Durations = {step: [] for step in STEPS}
    random = np.random.default_rng(1)
    claim = claimed(queue)
    for _ in range(rounds + 1):
        curve = made_curve(EPOCHS, random)
        for epoch, value in enumerate(curve, start=1):
            queue.report(claim, epoch, value)
        with _timed(durations["tell"]):
            finish(queue, claim, max(curve))
        with _timed(durations["claim"]):
            claim = claimed(queue)
        with _timed(durations["compose"]):
            run, overrides = compose_trial(config, claim.params, threads=1)
        attributes = {
            keys.THREADS: 1,
            keys.EPOCHS: run.train.epochs,
            keys.LINE: as_line(overrides),
            keys.RUN_ID: f"{claim.trial.number:032x}",
            keys.SECONDS: 60.0,
        }
        with _timed(durations["keep its attributes"]):
            queue.remember(claim, attributes)
    return {step: values[1:] for step, values in durations.items()}


def _close_and_open(root: Path, *, rounds: int) -> list[float]:
    """Seconds to open a run plus those to close it once its parameters and an epoch are delivered, for each round."""
    seconds = []
    for _ in range(rounds + 1):
        begun = time.perf_counter()
        with open_tracker(TrackingConfig(root=str(root / "mlruns")), run_name="benchmark", tags={}) as tracker:
            opened = time.perf_counter()
            tracker.log_params(flatten(RunConfig()))
            tracker.log_metrics(dict.fromkeys(METRICS, 0.5), epoch=1)
            time.sleep(PAUSE_S)
            closing = time.perf_counter()
        seconds.append(opened - begun + time.perf_counter() - closing)
    return seconds[1:]  # the first one makes the database


def measure_epoch(kind: str, *, epochs: int) -> None:
    """Prints what each epoch costs beside its training, while four workers do the same at once."""
    context = multiprocessing.get_context("spawn")
    start, results = context.Barrier(WORKERS), context.Queue()
    with tempfile.TemporaryDirectory(prefix="brainseg-") as folder, place(kind, Path(folder)) as where:
        root = Path(folder)
        make_study(where, root, STUDY, finished=100, epochs=epochs)
        with open_tracker(TrackingConfig(root=str(root / "mlruns")), run_name="makes the database", tags={}):
            pass
        workers = [
            context.Process(target=_report_epochs, args=(where, root, epochs, number, start, results), daemon=True)
            for number in range(WORKERS)
        ]
        for worker in workers:
            worker.start()
        measured: list[Durations] = [results.get(timeout=600) for _ in workers]
        for worker in workers:
            worker.join()
    durations = {step: [value for own in measured for value in own[step]] for step in EPOCH_STEPS}
    together = _together(durations)
    cells = [f"{WORKERS} workers", *map(milliseconds, durations.values()), milliseconds(together)]
    print_table([f"{epochs} epochs, {kind}", *EPOCH_STEPS, "together"], [cells])
    median = statistics.median(together)
    print(f"an epoch beside its training: {verdict(1000 * median, bar=1000 * EPOCH_BAR_S, unit='ms')}\n")


def _report_epochs(where: str, root: Path, epochs: int, number: int, start: Any, results: Any) -> None:
    """Does what a worker does after each epoch, in the same order, without TensorFlow."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    durations: Durations = {step: [] for step in EPOCH_STEPS}
    curve = made_curve(epochs, np.random.default_rng(number))
    tracking = TrackingConfig(root=str(root / "mlruns"))
    with queue_on(where, root, STUDY, epochs=epochs) as queue:
        claim = claimed(queue)
        with open_tracker(tracking, run_name=f"worker {number}", tags={}) as tracker:
            start.wait(timeout=300)
            for epoch, value in enumerate(curve, start=1):
                time.sleep(PAUSE_S)
                with _timed(durations["record"]):
                    tracker.log_metrics(dict.fromkeys(METRICS, value), epoch=epoch)
                with _timed(durations["is it mine"]):
                    queue.is_mine(claim)
                with _timed(durations["report"]):
                    queue.report(claim, epoch, value)
                with _timed(durations["prune?"]):
                    claim.trial.should_prune()
    results.put(durations)


def _together(durations: Durations) -> list[float]:
    return [sum(each) for each in zip(*durations.values(), strict=True)]


@contextlib.contextmanager
def _timed(seconds: list[float]) -> Iterator[None]:
    begun = time.perf_counter()
    yield
    seconds.append(time.perf_counter() - begun)
