"""A worker: a process that loads TensorFlow once and trains trial after trial, until there is none left.

    claim -> compose -> open or go on with the MLflow run -> train, reporting each epoch -> tell

All of its state is in the study's storage, the checkpoint and MLflow, so that its death loses nothing.
"""

import contextlib
import dataclasses
import gc
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from signal import SIGTERM
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any, NoReturn, TextIO, TypeVar

import optuna
from optuna.trial import TrialState

from brainseg import compose
from brainseg.cli.secrets import mask
from brainseg.config import RunConfig, TrackingConfig, short_names
from brainseg.data.load import RunData
from brainseg.errors import (
    AwayError,
    BrainsegError,
    CheckpointError,
    ConfigError,
    DataError,
    DiskError,
    Interrupted,
    NonFiniteError,
    Pruned,
)
from brainseg.keys import as_line
from brainseg.model.runtime import import_tensorflow, peak_memory_mib, resolve_threads
from brainseg.sweep.engine import keys
from brainseg.sweep.engine.host import check_parent, check_software, with_places, with_precision
from brainseg.sweep.engine.leases import HEARTBEAT_S, ProcessLock
from brainseg.sweep.engine.leftovers import clear_up, delete_leftovers
from brainseg.sweep.engine.patience import PASSING, Patience, patiently
from brainseg.sweep.engine.storage import StudyStorage, open_storage
from brainseg.sweep.engine.stored_study import load_config, with_plugins, with_recipe
from brainseg.sweep.engine.trial_queue import DEATHS_ALLOWED, Claim, NoTrial, TrialQueue, idle_s
from brainseg.sweep.engine.trial_row import broken_constraints, shown_params, trial_name
from brainseg.sweep.study.constraint import excess
from brainseg.sweep.study.plan import check, compose_trial, threads_of_trials
from brainseg.sweep.study.space import as_overrides
from brainseg.sweep.study.study_file import StudyConfig
from brainseg.sweep.study.study_rules import OF_RUNS, key_of, merged, places_in
from brainseg.tracking import Tracker, open_store, open_tracker
from brainseg.tracking.listing import INFEASIBLE
from brainseg.tracking.mlflow.client_runs import LOCAL_PREFIX
from brainseg.tracking.mlflow.connection import UnreachableError, check_store
from brainseg.tracking.mlflow.fence import discard_checkpoint
from brainseg.tracking.paths import kept_private, tracking_paths
from brainseg.tracking.rules import UnknownRunError, ending_of
from brainseg.tracking.spool.spool import spooled_runs
from brainseg.train.checkpoint import Checkpoints
from brainseg.train.run_data import load_run_data
from brainseg.train.signals import stop_on_signals

if TYPE_CHECKING:
    from brainseg.train.experiment import Prepared, Result

RECYCLE_AFTER = 25  # runs: TensorFlow keeps a little of each
STOP = "stop"  # what a supervisor writes to a worker's stdin: finish the epoch, then end

Metrics = Mapping[str, float]
Told = TypeVar("Told")


@dataclass(frozen=True, kw_only=True)
class Recycle:
    """The worker has to start again as a new process: with other threads, or to free what TensorFlow keeps."""

    reason: str


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


class Worker:
    """Trains the trials of one study, one after the other."""

    def __init__(self, queue: TrialQueue, config: StudyConfig, *, threads: int, stop: StopAfterEpoch) -> None:
        """threads: of TensorFlow, for trials that haven't begun elsewhere."""
        self._queue = queue
        self._config = config
        self._threads = threads
        self._stop = stop
        self._threads_in_use: int | None = None  # once TensorFlow computes: it can't change them
        self._trained = 0
        self._names = short_names(parameter.key for parameter in config.space)
        self._open_run: str | None = None  # of the trial in hand, as long as MLflow doesn't know how it ended

    def work(self) -> Recycle | str:
        """Trains until no trial is left, or until a new process has to go on; returns why it ended.

        A store that is away is waited for. Raises AwayError where that takes too long, and Interrupted when it is
        stopped.
        """
        patience = Patience(say)
        while not self._stop.is_requested:
            if self._trained >= RECYCLE_AFTER:
                return Recycle(reason=f"{self._trained} runs trained")
            try:
                with self._queue.storage.reached():
                    ending = self._work_once()
            except PASSING as error:
                patience.wait(error)
                continue
            patience.worked()
            if ending is not None:
                return ending
        return "stopped"

    def _work_once(self) -> Recycle | str | None:
        """Trains one trial, or waits a moment for one; what `work` returns, once there is nothing more to do."""
        begun = time.monotonic()
        claim = self._queue.claim()
        if isinstance(claim, NoTrial):
            if claim.is_over:
                return claim.reason
            time.sleep(idle_s(time.monotonic() - begun))
            return None
        threads = claim.attributes.get(keys.THREADS, self._threads)
        if self._threads_in_use not in (None, threads):
            self._give_back(claim)
            return Recycle(reason=f"trial {claim.trial.number} computes on {threads} threads")
        self._train(claim, threads)
        self._trained += self._config.runs
        return None

    def _train(self, claim: Claim, threads: int) -> None:
        """Trains a claimed trial to whatever end."""
        say(f"trial {claim.trial.number}: {shown_params(claim.params, self._names)}")
        with self._heartbeats(claim):
            try:
                with self._queue.storage.reached():
                    self._run(claim, threads)
            except LeaseLost:
                self._leave(claim)
            except StudyStopped as stopped:
                say(f"{stopped.why}; the trial goes back, with its checkpoint")
                self._give_back(claim)
            except (Interrupted, *NOT_OF_THE_TRIAL):
                self._give_back(claim)
                raise
            except Exception as error:
                self._failed(claim, error)
            finally:
                _forget_models()
        if self._trained == 0:
            gc.freeze()  # what is imported by now stays: the garbage collector need not go through it after each trial

    def _give_back(self, claim: Claim) -> None:
        """Gives a trial back if the storage is there; what went wrong before is what there is to tell."""
        try:
            with self._queue.storage.reached():
                self._queue.give_back(claim)
        except UnreachableError as error:
            say(f"trial {claim.trial.number} can't be given back now: {error}")

    def _leave(self, claim: Claim) -> None:
        """Leaves a trial to the worker that has taken it, and deletes what that one doesn't go on from."""
        say("another worker has taken this trial; this one leaves it")
        run_id = self._queue.run_of(claim)
        if run_id is not None and self._queue.is_begun_after(claim):
            root = tracking_paths(compose.freeze(self._config.tracking).tracking).checkpoints
            discard_checkpoint(root / run_id, attempt=claim.attempt)

    def _told(self, action: Callable[[], Told]) -> Told:
        """What a trial has come to is told to the study, however long its storage is away: it isn't trained again."""

        def reached() -> Told:
            with self._queue.storage.reached():
                return action()

        return patiently(reached, say)

    def _run(self, claim: Claim, threads: int) -> None:
        """Trains the runs of a trial that haven't finished, one after the other; without `repeat` there is one."""
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
                    _forget_models()
            if not is_told:
                self._leave(claim)
                return
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
        self._threads_in_use = threads
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
                on_epoch=_Watch(
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
            patiently(lambda: _clear_up(self._queue, config.tracking), say)
        return result, Checkpoints(Path(config.tracking.root), tracker.run_id)

    def _finished_one(self, claim: Claim, runs: Sequence[Mapping[str, Any]]) -> bool:
        """Stores those of the trial's runs that have finished; False if another worker has taken the trial."""
        is_mine = self._queue.is_mine(claim)
        if is_mine:
            unwritten = [line for run in runs for line in run["unwritten"]]
            self._queue.remember(claim, {keys.RUNS: runs} | ({keys.UNWRITTEN: unwritten} if unwritten else {}))
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
        seconds = round(sum(run["seconds"] for run in runs), 3)
        self._queue.remember(claim, {keys.PRUNED: {"epoch": epochs, "reason": reason}, keys.SECONDS: seconds})
        say(reason)
        return True

    def _complete(self, claim: Claim, runs: Sequence[Mapping[str, Any]], result: "Result") -> bool:
        """Reports the trial's values to the study; False if another worker has taken the trial.

        result: of the last one of its runs.
        """
        told: dict[str, object] = {
            keys.SECONDS: round(sum(run["seconds"] for run in runs), 3),
            keys.MEMORY: round(peak_memory_mib()),
            keys.WEIGHTS: result.parameters,
        }
        if unwritten := [line for run in runs for line in run["unwritten"]]:
            told[keys.UNWRITTEN] = unwritten
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

        try:
            going_on, data = self._going_on(config, overrides, run_id)
            return going_on, prepare(going_on, data)
        except CheckpointError as damage:  # it would be found again and again
            say(str(damage).partition(";")[0])
            discard_checkpoint(Path(config.tracking.root, "checkpoints", str(run_id)), attempt=claim.attempt)
            going_on, data = self._going_on(config, overrides, run_id)
            return going_on, prepare(going_on, data)

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
        if _is_of(known, claim.attributes.get(keys.RUNS, ())):  # that of the run before this one
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

    def _failed(self, claim: Claim, error: Exception) -> None:
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

    @contextlib.contextmanager
    def _heartbeats(self, claim: Claim) -> Iterator[None]:
        done = threading.Event()

        def heartbeat() -> None:
            while not done.wait(HEARTBEAT_S):
                with contextlib.suppress(Exception):  # a storage that is away for a moment; the next heartbeat tells
                    self._queue.heartbeat(claim)

        thread = threading.Thread(target=heartbeat, name="brainseg-heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


class KilledTooOftenError(BrainsegError):
    """The trial's workers were killed again and again in one epoch."""


class LeaseLost(Interrupted):
    """Another worker took this one for dead and its trial over. To the tracker it is a stop from outside."""

    def __init__(self) -> None:
        super().__init__(SIGTERM)


class StudyStopped(Interrupted):
    """Somebody has asked to stop the study, or its time is over. To the tracker it is a stop from outside."""

    def __init__(self, why: str) -> None:
        super().__init__(SIGTERM)
        self.why = why


# Training is deterministic: these would come again.
NOT_RETRIED = (NonFiniteError, ConfigError, KilledTooOftenError)
# What all trials share is away: the trial goes back as it is; the worker waits for a store, or ends without its data.
NOT_OF_THE_TRIAL = (*PASSING, AwayError, DataError, DiskError)


class _Watch:
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


def run_worker(
    name: str,
    *,
    overrides: Sequence[str],
    where: str | None,
    threads: int | None,
    supervisor: str | None,
    listens: bool,
) -> int:
    """Trains trials of the study `name` until none is left. The exit code.

    overrides: of tracking.* and of where the data lies, which take the place of those that the study was started with.
    where: the study's storage. threads: CPU threads, by default every core; the study may fix others. supervisor: id of
    the process lock of the process that started this one and records the end. listens: whether that process's commands
    come on stdin, and this one ends with it. Raises InputError, with nothing trained, AwayError where a store is away
    for too long, and Interrupted.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    stop = StopAfterEpoch()
    if listens:
        stop.listen(sys.stdin)
    with stop_on_signals():
        storage, config = patiently(lambda: _admitted(name, overrides, where), say)
        baseline = check(config)  # the overrides alone need not be a configuration that can run
        with kept_private(baseline.tracking), ProcessLock(storage.folder) as lock:

            def opened() -> TrialQueue:
                with storage.reached():
                    queue = TrialQueue(storage, config, epochs=baseline.train.epochs, lock=lock, supervisor=supervisor)
                    delete_leftovers(queue.study, tracking_paths(baseline.tracking).checkpoints)
                    storage.rehearse()
                return queue

            queue = patiently(opened, say)
            threads = threads_of_trials(baseline, share=resolve_threads(threads))
            ending = Worker(queue, config, threads=threads, stop=stop).work()
            if supervisor is None and not isinstance(ending, Recycle):  # else the supervisor does it, for all
                patiently(lambda: _clear_up(queue, baseline.tracking), say)
    if isinstance(ending, Recycle):
        say(f"starts again: {ending.reason}")
        _start_again()
    say(ending)
    return 0


def _admitted(name: str, overrides: Sequence[str], where: str | None) -> tuple[StudyStorage, StudyConfig]:
    """The study as this host trains it, if it may. Raises InputError in one line if not, UnreachableError for now."""
    tracking = [item for item in overrides if key_of(item).startswith("tracking.")]
    root = tracking_paths(compose.freeze(tracking).tracking).root
    storage = open_storage(where, root=root, name=name, create=False)
    with storage.reached():
        config = load_config(storage, name)
        config = dataclasses.replace(config, tracking=merged(config.tracking, tracking))
        study = optuna.load_study(study_name=name, storage=storage.optuna)
        config = with_plugins(study, config, overrides)
        note = check_software(study)
        check_parent(study, compose.freeze(config.tracking).tracking)
        config = with_recipe(storage, config)
        config = with_places(config, check(config), places_in(overrides))
        import_tensorflow()  # before a trial is claimed: it takes seconds
        # It takes the graph of a new trial for a mistake.
        logging.getLogger("tensorflow").setLevel(logging.ERROR)
        config = with_precision(storage, study, config, check(config))
    if note is not None:
        say(note)
    return storage, config


def _clear_up(queue: TrialQueue, tracking: TrackingConfig) -> None:
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


def _start_again() -> NoReturn:
    """Replaces this process with a new one of the same command, which frees its memory."""
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606  # no shell


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


def _means(runs: Sequence[Mapping[str, Any]]) -> Metrics:
    """Of every metric over these runs; of a single one its values."""
    return {metric: mean([run["values"][metric] for run in runs]) for metric in runs[0]["values"]}


def _is_of(run_id: str | None, runs: Sequence[Mapping[str, Any]]) -> bool:
    """Whether it is one of these."""
    return any(run["run_id"] == run_id for run in runs)


def _forget_models() -> None:
    """Frees what Keras and TensorFlow keep of a trained model."""
    import keras

    keras.backend.clear_session()  # it collects the garbage as well


def say(text: str) -> None:
    """A line for the worker's log."""
    print(text, flush=True)
