"""Processes that share a study: they claim, report a few values and tell, as workers do, without training."""

import contextlib
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any, NoReturn

import optuna
from optuna.trial import FrozenTrial, TrialState

from brainseg.sweep.engine.keys import RUN_ID
from brainseg.sweep.engine.leases import ProcessLock
from brainseg.sweep.engine.storage import StudyStorage, open_storage
from brainseg.sweep.engine.stored_study import load_config, open_study
from brainseg.sweep.engine.trial_queue import Claim, NoTrial, TrialQueue
from brainseg.sweep.study.study_file import StudyConfig

EPOCHS = 3
PATIENCE_S = 240.0  # only a hang reaches it

# One process imports what all need, and is forked: a test of many processes takes a second, not ten.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        "brainseg.sweep.engine.stored_study",
        "optuna.storages._rdb.models",
        "sqlalchemy.dialects.postgresql.psycopg2",
        "psycopg2",
        "alembic.command",
    ]
)


def opened(where: str) -> StudyStorage:
    """The storage; process locks of PostgreSQL's studies go beside the tests' other files."""
    return open_storage(where, root=Path.cwd(), name="study")


def started(where: str, config: StudyConfig) -> optuna.Study:
    """The study, made where there is none."""
    return open_study(opened(where), config, data_fingerprint="data")


@contextlib.contextmanager
def queue_on(where: str, *, supervisor: str | None = None, is_killed: bool = False) -> Iterator[TrialQueue]:
    """The queue as a worker has it, with a storage and a process lock of its own.

    is_killed: in the end, the lock is left as a kill leaves it.
    """
    storage = opened(where)
    with contextlib.ExitStack() as ending:
        lock = ProcessLock(storage.folder)
        lock.__enter__()
        ending.callback(lock.drop if is_killed else lambda: lock.__exit__(None, None, None))
        yield TrialQueue(storage, load_config(storage, "study"), epochs=EPOCHS, lock=lock, supervisor=supervisor)


def trials_of(where: str) -> list[FrozenTrial]:
    """What the storage has, read afresh."""
    return optuna.load_study(study_name="study", storage=opened(where).optuna).get_trials()


def claimed(queue: TrialQueue) -> Claim:
    """The next trial, which has to be there."""
    claim = queue.claim()
    assert isinstance(claim, Claim), claim
    return claim


def score(params: Mapping[str, Any]) -> float:
    """A score in (0, 1] that follows from the values."""
    return 1.0 / (1.0 + sum(len(value) if isinstance(value, str) else float(value) for value in params.values()))


def finish(queue: TrialQueue, claim: Claim, state: TrialState = TrialState.COMPLETE) -> None:
    """Opens a run, as it were, reports the epochs that are missing, and tells the score."""
    queue.remember(claim, {RUN_ID: f"run {claim.trial.number}"})
    known = queue.reported(claim)
    for epoch in range(1, EPOCHS + 1):
        if epoch not in known:
            queue.report(claim, epoch, score(claim.params))
    assert queue.tell(claim, state, [score(claim.params)] if state == TrialState.COMPLETE else None)


def work(where: str, meeting: Barrier | None = None) -> str:
    """Trains, as it were, until nothing is left. Why it ended. meeting: where it waits with its first trial in hand."""
    with queue_on(where) as queue:
        while True:
            claim = queue.claim()
            if isinstance(claim, NoTrial):
                if claim.is_over:
                    return claim.reason
                time.sleep(0.01)
                continue
            if meeting is not None:
                meeting.wait(PATIENCE_S)
                meeting = None
            finish(queue, claim)


def claim_and_die(where: str, epochs: int = 0) -> NoReturn:
    """Claims a trial, reports so many epochs and is killed."""
    with queue_on(where) as queue:
        claim = claimed(queue)
        for epoch in range(1, epochs + 1):
            queue.report(claim, epoch, 0.5)
        os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("it is dead")


def in_process(target: Callable[..., Any], *args: Any) -> BaseProcess:
    """Starts the function in a process of its own."""
    sys.audit("os.fork")  # tests/conftest.py doesn't see that of the server
    process = CONTEXT.Process(target=target, args=args, daemon=True)
    process.start()
    return process


def ended(*processes: BaseProcess) -> list[int | None]:
    """The exit codes; a signal's is negative."""
    for process in processes:
        process.join(PATIENCE_S)
    return [process.exitcode for process in processes]


def all_together(target: Callable[..., Any], *args: Any, count: int = 8) -> list[int | None]:
    """Runs the function in so many processes, which begin at the same moment. Their exit codes."""
    start = CONTEXT.Barrier(count)
    return ended(*[in_process(_at_the_start, start, target, args) for _ in range(count)])


def _at_the_start(start: Any, target: Callable[..., Any], args: tuple[Any, ...]) -> None:
    start.wait(PATIENCE_S)
    target(*args)
