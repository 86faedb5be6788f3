"""Trains the runs of a claimed trial, and tells the study what each has come to.

compose -> open or go on with the MLflow run -> train, reporting each epoch -> tell
"""

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from signal import SIGTERM
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any, TypeVar

from optuna.trial import TrialState

from brainseg import compose
from brainseg.cli.secrets import mask
from brainseg.config import RunConfig, TrackingConfig, short_names
from brainseg.data.load import RunData
from brainseg.errors import (
    BrainsegError,
    CheckpointError,
    ConfigError,
    DataError,
    Interrupted,
    NonFiniteError,
    Pruned,
)
from brainseg.keys import as_line
from brainseg.model.runtime import peak_memory_mib
from brainseg.sweep.engine import keys
from brainseg.sweep.engine.epoch_watch import EpochWatch, LeaseLost, Metrics, StopAfterEpoch, StudyStopped
from brainseg.sweep.engine.leftovers import clear_up
from brainseg.sweep.engine.patience import patiently
from brainseg.sweep.engine.trial_queue import DEATHS_ALLOWED, Claim, TrialQueue
from brainseg.sweep.engine.trial_row import broken_constraints, shown_params, trial_name
from brainseg.sweep.study.constraint import excess
from brainseg.sweep.study.plan import compose_trial
from brainseg.sweep.study.space import as_overrides
from brainseg.sweep.study.study_file import StudyConfig
from brainseg.sweep.study.study_rules import OF_RUNS
from brainseg.tracking import Tracker, open_store, open_tracker
from brainseg.tracking.listing import INFEASIBLE
from brainseg.tracking.mlflow.client_runs import LOCAL_PREFIX
from brainseg.tracking.mlflow.connection import UnreachableError, check_store
from brainseg.tracking.mlflow.fence import discard_checkpoint
from brainseg.tracking.paths import tracking_paths
from brainseg.tracking.rules import UnknownRunError, ending_of
from brainseg.tracking.spool.spool import spooled_runs
from brainseg.train.checkpoint import Checkpoints
from brainseg.train.run_data import load_run_data

if TYPE_CHECKING:
    from brainseg.train.experiment import Prepared, Result

Told = TypeVar("Told")


class KilledTooOftenError(BrainsegError):
    """The trial's workers were killed again and again in one epoch."""


# Training is deterministic: these would come again.
NOT_RETRIED = (NonFiniteError, ConfigError, KilledTooOftenError)


class TrialRuns:
    """Trains the runs of one trial of a study after another."""

    def __init__(self, queue: TrialQueue, config: StudyConfig, *, stop: StopAfterEpoch) -> None:
        self._queue = queue
        self._config = config
        self._stop = stop
        self.threads: int | None = None  # once TensorFlow computes: it can't change them
        self._names = short_names(parameter.key for parameter in config.space)
        self._open_run: str | None = None  # of the trial in hand, as long as MLflow doesn't know how it ended

    def shown(self, claim: Claim) -> str:
        """The trial's values, for people."""
        return shown_params(claim.params, self._names)

    def train(self, claim: Claim, threads: int) -> None:
        """Trains the runs of a trial that haven't finished, one after the other; without `repeat` there is one.

        Raises LeaseLost where another worker has taken the trial, StudyStopped and Interrupted where it goes back.
        """
        config = self._config
        runs: list[dict[str, Any]] = [*claim.attributes.get(keys.RUNS, ())]
        if runs and not self._has_begun(claim, threads, len(runs)) and self._is_stopped_between(claim, runs):
            self._told(lambda: self._queue.tell(claim, TrialState.PRUNED))
            return
        for place in range(len(runs), config.runs):
            result, checkpoints = self._run_one(claim, threads, place, runs)
            if result is None:
                is_told = self._told(lambda: self._queue.tell(claim, TrialState.PRUNED))
            else:
                runs.append(_as_told(result))
                self._stop.is_requested |= result.stopped_by is not None
                if place + 1 == config.runs:
                    is_told = self._complete(claim, runs, result)
                elif is_told := self._told(lambda: self._finished_one(claim, runs)):
                    forget_models()
            if not is_told:
                raise LeaseLost
            if result is not None and result.unwritten:
                say(f"not everything could be written: {'; '.join(result.unwritten)}; the checkpoint stays")
            else:  # not before the study knows: killed in between, the run ends again in the same way
                checkpoints.remove()
            if place + 1 < config.runs:
                self._check_between()
                if self._is_stopped_between(claim, runs):
                    self._told(lambda: self._queue.tell(claim, TrialState.PRUNED))
                    return

    def _has_begun(self, claim: Claim, threads: int, place: int) -> bool:
        """Whether an earlier worker has begun this run of the trial."""
        config, _ = compose_trial(self._config, claim.params, threads=threads, place=place)
        return self._run_of(claim, config, place) is not None

    def _run_one(
        self, claim: Claim, threads: int, place: int, before: Sequence[Mapping[str, Any]]
    ) -> "tuple[Result | None, Checkpoints]":
        """Trains a run to its end: what it has come to, None if it was pruned, and its checkpoint.

        place: of the run among those of the trial. before: those that have finished.
        """
        runs = self._config.runs
        config, overrides = compose_trial(self._config, claim.params, threads=threads, place=place)
        line = mask(as_line(overrides))
        epochs = config.train.epochs
        if keys.LINE not in claim.attributes and place == 0:
            self._queue.remember(claim, {keys.THREADS: threads, keys.EPOCHS: runs * epochs, keys.LINE: line})
        # Of those after the first one that this worker trains, no other has opened a run.
        is_known = place == len(claim.attributes.get(keys.RUNS, ()))
        run_id = self._open_run = self._run_of(claim, config, place) if is_known else None
        if claim.is_condemned:
            raise KilledTooOftenError(
                f"killed {DEATHS_ALLOWED} times at epoch {len(self._queue.reported(claim)) + 1}; out of memory?"
            )
        self.threads = threads
        config, prepared = self._prepared(claim, config, overrides, run_id)
        from brainseg.train.experiment import run
        from brainseg.train.progress import Terminal

        tracker = self._open_tracker(claim, config, line, run_id, place)
        self._open_run = None  # closed by the tracker's own end
        result: Result | None = None
        try:
            result = run(
                config,
                tracker,
                prepared=prepared,
                reporter=Terminal(),
                on_epoch=EpochWatch(
                    self._queue,
                    claim,
                    self._stop,
                    epochs=config.train.epochs,
                    before=place * epochs,
                    is_whole=runs == 1,
                ),
                keep_checkpoint=True,
                tags_of=(lambda result: self._tags_of([*before, _as_told(result)])) if place + 1 == runs else None,
            )
        except Pruned as pruned:
            say(str(pruned))
        if tracker.undelivered and not config.tracking.offline:
            # Nobody trains a finished trial again: were this host lost, its record would be, too.
            patiently(lambda: clear_up_host(self._queue, config.tracking), say)
        return result, Checkpoints(Path(config.tracking.root), tracker.run_id)

    def _finished_one(self, claim: Claim, runs: Sequence[Mapping[str, Any]]) -> bool:
        """Stores those of the trial's runs that have finished; False if another worker has taken the trial."""
        is_mine = self._queue.is_mine(claim)
        if is_mine:
            self._queue.remember(claim, {keys.RUNS: runs} | _unwritten(runs))
        return is_mine

    def _check_between(self) -> None:
        """Raises Interrupted where no further run may begin: the trial goes on with it."""
        if self._stop.is_requested:
            raise Interrupted(SIGTERM)
        if self._queue.is_stopped:
            raise StudyStopped("the study is being stopped")
        if self._queue.seconds_left <= 0:
            self._stop.is_requested = True
            raise StudyStopped("the time limit is reached")

    def _is_stopped_between(self, claim: Claim, runs: Sequence[Mapping[str, Any]]) -> bool:
        """Whether the pruner stops the trial before its next run, or had done so before its worker was killed."""
        if claim.attributes.get(keys.PRUNED) is not None:
            return True
        if self._config.pruner.name != OF_RUNS or not self._queue.stops(claim, runs):
            return False
        metric = next(iter(self._config.metrics))
        epochs = max(self._queue.reported(claim))
        reason = (
            f"pruned after {len(runs)} of {self._config.runs} runs by {type(self._queue.study.pruner).__name__}, "
            f"at a mean {metric} of {_means(runs)[metric]:.4f}"
        )
        pruned = {"epoch": epochs, "reason": reason}
        self._queue.remember(claim, {keys.PRUNED: pruned, keys.SECONDS: _seconds(runs)})
        say(reason)
        return True

    def _complete(self, claim: Claim, runs: Sequence[Mapping[str, Any]], result: "Result") -> bool:
        """Reports the trial's values to the study; False if another worker has taken the trial.

        result: of the last one of its runs.
        """
        told: dict[str, object] = {
            keys.SECONDS: _seconds(runs),
            keys.MEMORY: round(peak_memory_mib()),
            keys.WEIGHTS: result.parameters,
            **_unwritten(runs),
        }
        if len(runs) > 1:
            spread = {metric: stdev(run["values"][metric] for run in runs) for metric in self._config.metrics}
            told |= {keys.RUNS: runs, keys.SPREAD: spread}
        self._told(lambda: self._queue.remember(claim, told))
        reached = _means(runs)
        values = [reached[metric] for metric in self._config.metrics]
        excesses = self._excesses(runs)
        return self._told(lambda: self._queue.tell(claim, TrialState.COMPLETE, values, excesses=excesses))

    def _excesses(self, runs: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        """Constraint -> how far the trial, the mean of its runs, is beyond what it allows."""
        return {text: excess(text, _means(runs)) for text in self._config.constraints}

    def _tags_of(self, runs: Sequence[Mapping[str, Any]]) -> dict[str, str]:
        """Those that keep a run which breaks a constraint from being ranked among the finished ones."""
        broken = broken_constraints(self._excesses(runs))
        return {"state": INFEASIBLE, "infeasible_reason": broken} if broken else {}

    def _prepared(
        self, claim: Claim, config: RunConfig, overrides: list[str], run_id: str | None
    ) -> "tuple[RunConfig, Prepared]":
        """The configuration of a trial, and what it starts from: its run's checkpoint, unless that is damaged."""
        from brainseg.train.experiment import prepare

        def prepared() -> "tuple[RunConfig, Prepared]":
            going_on, data = self._going_on(config, overrides, run_id)
            return going_on, prepare(going_on, data)

        try:
            return prepared()
        except CheckpointError as damage:  # it would be found again and again
            say(str(damage).partition(";")[0])
            discard_checkpoint(Checkpoints(Path(config.tracking.root), str(run_id)).folder, attempt=claim.attempt)
            return prepared()

    def _going_on(self, config: RunConfig, overrides: list[str], run_id: str | None) -> tuple[RunConfig, RunData]:
        """The configuration and data of a trial, from its run's checkpoint if there is one."""
        data = load_run_data(config)
        if data.slices.fingerprint != self._queue.data_fingerprint:
            raise DataError(
                f"the data in {data.slices.source.location} has changed since the study started; "
                "restore it, or start another study with --new NAME"
            )
        if run_id is None:
            return config, data
        checkpoints = Checkpoints(Path(config.tracking.root), run_id)
        if not checkpoints.have_begun:
            where = checkpoints.folder.parent
            say(f"no checkpoint of run {run_id} in {where}: the trial starts again from its first epoch")
            return config, data
        asked = dataclasses.replace(config, resume=run_id)
        resumed = compose.resumed(_as_here(checkpoints.stored_config(), asked), asked, overrides)
        return resumed, load_run_data(resumed)

    def _run_of(self, claim: Claim, config: RunConfig, place: int = 0) -> str | None:
        """The MLflow run that an earlier worker opened for this run of the trial, if any."""
        known: str | None = claim.attributes.get(keys.RUN_ID)
        if known in (run["run_id"] for run in claim.attributes.get(keys.RUNS, ())):  # the run before this one
            known = None
        store = open_store(config.tracking)
        if claim.is_new or (known is not None and not known.startswith(LOCAL_PREFIX)):
            return known
        try:
            if known is not None:
                store.read(known)
                return known
        except UnknownRunError:  # it began offline on another host, which hasn't delivered it
            pass
        except UnreachableError:
            if not config.tracking.offline:
                raise
            return None
        # Killed between opening the run and telling the study of it.
        found = store.find(self._identity(claim, place))
        return found[0] if found else None

    def _identity(self, claim: Claim, place: int) -> dict[str, str]:
        """The tags that identify the run of the trial."""
        attributes = self._queue.study.user_attrs
        return {
            "sweep": self._config.name,
            "sweep_id": attributes[keys.STUDY_ID],
            "trial": str(claim.trial.number),
            "parent": attributes[keys.PARENT_RUN],
            **({"repeat": as_line(as_overrides(repeat))} if (repeat := self._config.repeats[place]) else {}),
        }

    def _open_tracker(self, claim: Claim, config: RunConfig, line: str, run_id: str | None, place: int) -> Tracker:
        name = trial_name(claim.params, baseline=self._config.baseline, names=self._names)
        repeat = self._config.repeats[place]
        number = " ".join(
            [
                f"{claim.trial.number:03d}",
                *as_overrides({short: repeat[key] for key, short in short_names(repeat).items()}),
            ]
        )
        tracker = open_tracker(
            config.tracking,
            run_name=f"{self._config.name} {number} {name}"[:100],
            tags=self._identity(claim, place) | {"overrides": line, "source": f"python -m brainseg.train {line}"},
            run_id=run_id,
            attempt=claim.attempt,
        )
        self._queue.remember(claim, {keys.RUN_ID: tracker.run_id})
        return tracker

    def fail(self, claim: Claim, error: Exception) -> None:
        """Reports the failure to the study and, if the run wasn't opened again, to MLflow."""
        reason = mask(ending_of(error).failure or type(error).__name__)
        say(f"failed: {reason}")
        if self._open_run is not None:
            tracking = compose.freeze(self._config.tracking).tracking
            with (
                contextlib.suppress(Exception),
                open_tracker(tracking, run_name="", tags={}, run_id=self._open_run, attempt=claim.attempt),
            ):
                raise error
        self._told(lambda: self._queue.fail(claim, reason, may_retry=not isinstance(error, NOT_RETRIED)))

    def _told(self, action: Callable[[], Told]) -> Told:
        """Tells the study what a trial has come to, and waits for its storage as long as that is away."""

        def reached() -> Told:
            with self._queue.storage.reached():
                return action()

        return patiently(reached, say)


def clear_up_host(queue: TrialQueue, tracking: TrackingConfig) -> None:
    """Leaves nothing on this host. Raises UnreachableError where records wait for a store that is away."""
    if spooled_runs(tracking_paths(tracking).spool):
        check_store(tracking)
    with queue.storage.reached():
        clear_up(queue.study, tracking, say)


def _as_here(stored: RunConfig, asked: RunConfig) -> RunConfig:
    """The configuration of a trial that began elsewhere, or before the data was moved, with what is no part of it.

    Its precision is in its manifest: `auto`, where no worker had resolved it for the study yet, is no other one.
    """
    data = dataclasses.replace(stored.data, root=asked.data.root, cache_dir=asked.data.cache_dir)
    train = dataclasses.replace(stored.train, precision=asked.train.precision)
    return dataclasses.replace(stored, data=data, train=train)


def _as_told(result: "Result") -> dict[str, Any]:
    """A finished run, as the study keeps it: with every metric that a study may have."""
    values = {
        "val_dice_image": result.best_val_dice_image,
        "final_dice": result.final_dice,
        "parameters": float(result.parameters),
        "seconds_per_image": result.seconds_per_image,
        **result.further,
    }
    seconds = sum(metrics["seconds"] for metrics in result.history)
    return {"run_id": result.run_id, "values": values, "seconds": seconds, "unwritten": [*result.unwritten]}


def _seconds(runs: Sequence[Mapping[str, Any]]) -> float:
    """Of training, of all these runs."""
    return float(round(sum(run["seconds"] for run in runs), 3))


def _unwritten(runs: Sequence[Mapping[str, Any]]) -> dict[str, object]:
    """What couldn't be written of their records, as an attribute of the trial, if there is any."""
    lines = [line for run in runs for line in run["unwritten"]]
    return {keys.UNWRITTEN: lines} if lines else {}


def _means(runs: Sequence[Mapping[str, Any]]) -> Metrics:
    """Of every metric over these runs; of a single one its values."""
    return {metric: mean([run["values"][metric] for run in runs]) for metric in runs[0]["values"]}


def forget_models() -> None:
    """Frees what Keras and TensorFlow keep of a trained model."""
    import keras

    keras.backend.clear_session()  # it collects the garbage as well


def say(text: str) -> None:
    """A line for the worker's log."""
    print(text, flush=True)
