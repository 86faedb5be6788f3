"""A worker: a process that loads TensorFlow once and trains trial after trial, until there is none left.

    claim -> train its runs -> tell

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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NoReturn

import optuna

from brainseg import compose
from brainseg.errors import AwayError, DataError, DiskError, Interrupted
from brainseg.model.runtime import import_tensorflow, resolve_threads
from brainseg.sweep.engine import keys
from brainseg.sweep.engine.epoch_watch import LeaseLost, StopAfterEpoch, StudyStopped
from brainseg.sweep.engine.host import check_parent, check_software, with_places, with_precision
from brainseg.sweep.engine.leases import HEARTBEAT_S, ProcessLock
from brainseg.sweep.engine.leftovers import delete_leftovers
from brainseg.sweep.engine.patience import PASSING, Patience, patiently
from brainseg.sweep.engine.storage import StudyStorage, open_storage
from brainseg.sweep.engine.stored_study import load_config, with_plugins, with_recipe
from brainseg.sweep.engine.trial_queue import Claim, NoTrial, TrialQueue, idle_s
from brainseg.sweep.engine.trial_runs import TrialRuns, clear_up_host, forget_models, say
from brainseg.sweep.study.plan import check, threads_of_trials
from brainseg.sweep.study.study_file import StudyConfig
from brainseg.sweep.study.study_rules import key_of, merged, places_in
from brainseg.tracking.mlflow.connection import UnreachableError
from brainseg.tracking.mlflow.fence import discard_checkpoint
from brainseg.tracking.paths import kept_private, tracking_paths
from brainseg.train.signals import stop_on_signals

RECYCLE_AFTER = 25  # runs: TensorFlow keeps a little of each
# What all trials share is away: the trial goes back as it is; the worker waits for a store, or ends without its data.
NOT_OF_THE_TRIAL = (*PASSING, AwayError, DataError, DiskError)


@dataclass(frozen=True, kw_only=True)
class Recycle:
    """The worker has to start again as a new process: with other threads, or to free what TensorFlow keeps."""

    reason: str


class Worker:
    """Trains the trials of one study, one after the other."""

    def __init__(self, queue: TrialQueue, config: StudyConfig, *, threads: int, stop: StopAfterEpoch) -> None:
        """threads: of TensorFlow, for trials that haven't begun elsewhere."""
        self._queue = queue
        self._config = config
        self._threads = threads
        self._stop = stop
        self._trained = 0
        self._runs = TrialRuns(queue, config, stop=stop)

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
        if self._runs.threads not in (None, threads):
            self._give_back(claim)
            return Recycle(reason=f"trial {claim.trial.number} computes on {threads} threads")
        self._train(claim, threads)
        self._trained += self._config.runs
        return None

    def _train(self, claim: Claim, threads: int) -> None:
        """Trains a claimed trial to whatever end."""
        say(f"trial {claim.trial.number}: {self._runs.shown(claim)}")
        with self._heartbeats(claim):
            try:
                with self._queue.storage.reached():
                    self._runs.train(claim, threads)
            except LeaseLost:
                self._leave(claim)
            except StudyStopped as stopped:
                say(f"{stopped.why}; the trial goes back, with its checkpoint")
                self._give_back(claim)
            except (Interrupted, *NOT_OF_THE_TRIAL):
                self._give_back(claim)
                raise
            except Exception as error:
                self._runs.fail(claim, error)
            finally:
                forget_models()
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
                patiently(lambda: clear_up_host(queue, baseline.tracking), say)
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


def _start_again() -> NoReturn:
    """Replaces this process with a new one of the same command, which frees its memory."""
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606  # no shell
