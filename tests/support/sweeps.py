"""Sweeps as processes that can be killed, and what they leave: trials in Optuna, runs in MLflow, logs."""

import re
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import yaml
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState
from processes import Command, Server, is_alive
from tiny_run import TIMINGS

from brainseg.config import TrackingConfig
from brainseg.sweep.engine.keys import lease_of
from brainseg.tracking import RunRecord, RunStore, open_store

RATE, DROPOUT = "optimizer.learning_rate", "model.dropout"
# Trials of a few seconds, most of which TensorFlow needs to trace its graphs: an optimizer of one moment has a smaller
# one. Their values depend on no other trial.
TINY: dict[str, Any] = {
    "metric": "val_dice_image",
    "direction": "maximize",
    "trials": 3,
    "workers": 2,
    "overrides": [
        "data.phantom_patients=6",
        "data.image_size=16",
        "data.batch_size=2",
        "data.augment=none",
        "model.depth=1",
        "model.base_filters=4",
        "optimizer.name=lion",
        "train.loss=dice",
        "train.epochs=6",
        "train.precision=float32",
        "tracking.predictions=0",
    ],
    "baseline": {RATE: 1e-2, DROPOUT: 0.1},
    "space": {
        RATE: {"type": "float", "low": 1e-3, "high": 1e-1, "log": True},
        DROPOUT: {"type": "float", "low": 0.0, "high": 0.4},
    },
    "sampler": {"name": "random", "seed": 0},
    "pruner": {"name": "none"},
}
# A rate of 9 with this decay multiplies the weights by -8 a step: NaN within three epochs.
BAD_RATE = 9.0
DECAY = "optimizer.weight_decay=1"


@dataclass(frozen=True, kw_only=True)
class Worker:
    """A process that trains a trial."""

    pid: int
    epochs: int  # of the trial that were reported
    deaths: tuple[int, ...]  # how many there were at each death of a worker


class Sweep:
    """A folder with a study file, and what commands make there."""

    overrides: Sequence[str] = TINY["overrides"]
    space: Mapping[str, Any] = TINY["space"]

    def __init__(self, folder: Path, server: Server, empty_database: Path, **changes: Any) -> None:
        self.folder = folder
        self.mlruns = folder / "mlruns"
        self.commands: list[Command] = []
        self._server = server
        self._storages: dict[str, JournalStorage] = {}  # each reads on from where it was
        self.mlruns.mkdir(parents=True)
        shutil.copy(empty_database, self.mlruns / "mlflow.db")  # MLflow needs seconds to make one
        self.store = self.store_in("mlruns")
        self.write(**changes)

    def store_in(self, root: str) -> RunStore:
        """The runs that are kept in a folder beside the study file."""
        return open_store(TrackingConfig(root=str(self.folder / root)))

    def write(self, file: str = "tiny", **changes: Any) -> None:
        """Writes a study file: the tiny one with these keys changed; those of None are left out."""
        path = self.folder / "sweeps" / f"{file}.yaml"
        path.parent.mkdir(exist_ok=True)
        content = {key: value for key, value in (TINY | changes).items() if value is not None}
        path.write_text(yaml.safe_dump(content, sort_keys=False))

    def start(self, *arguments: str, program: str = "brainseg.sweep") -> Command:
        """Starts a command in the folder."""
        output = self.folder / f"output-{len(self.commands)}.txt"
        pid = self._server.start(program, *arguments, folder=self.folder, output=output)
        self.commands.append(Command(pid, output, self._server))
        return self.commands[-1]

    def run(self, *arguments: str, expected: int = 0) -> str:
        """Runs a command to its end, which has to be the expected one; what it has printed."""
        command = self.start(*arguments)
        assert command.exit_code() == expected, self.told(command)
        return command.text

    def told(self, command: Command) -> str:
        """What the command and the workers have printed, for a test that fails."""
        return "\n".join([command.text, *(path.read_text() for path in self.logs())])

    def trials(self, name: str = "tiny") -> list[FrozenTrial]:
        """The study's trials; none before it is there."""
        if not self._journal(name).exists():
            return []
        storage = self._storage(name)
        known = {study.study_name: study._study_id for study in storage.get_all_studies()}
        return storage.get_all_trials(known[name], deepcopy=False) if name in known else []

    def study(self, name: str = "tiny") -> optuna.Study:
        """The study, as its journal has it."""
        return optuna.load_study(study_name=name, storage=self._storage(name))

    def _journal(self, name: str) -> Path:
        return self.mlruns / "studies" / f"{name}.journal"

    def _storage(self, name: str) -> JournalStorage:
        if name not in self._storages:
            self._storages[name] = JournalStorage(JournalFileBackend(str(self._journal(name))))
        return self._storages[name]

    def states(self, name: str = "tiny") -> Counter[str]:
        """State -> number of trials."""
        return Counter(trial.state.name for trial in self.trials(name))

    def epochs(self) -> int:
        """How many epochs of all trials were reported."""
        return sum(len(trial.intermediate_values) for trial in self.trials())

    def workers(self) -> list[Worker]:
        """The processes that train a trial."""
        found = []
        for trial in self.trials():
            lease = lease_of(trial)
            if trial.state == TrialState.RUNNING and lease is not None and is_alive(lease.pid):
                deaths = tuple(trial.user_attrs.get("deaths", ()))
                found.append(Worker(pid=lease.pid, epochs=len(trial.intermediate_values), deaths=deaths))
        return found

    def runs(self) -> list[RunRecord]:
        """Every run that MLflow has."""
        return [self.store.read(run_id) for run_id in self.store.find({})]

    def parents(self) -> list[RunRecord]:
        """The parent runs."""
        return [run for run in self.runs() if run.tags.get("sweep_role") == "parent"]

    def children(self) -> dict[int, RunRecord]:
        """Trial -> its run; fails where a trial has two."""
        found = [run for run in self.runs() if "trial" in run.tags]
        assert max(Counter(run.tags["trial"] for run in found).values(), default=1) == 1
        return {int(run.tags["trial"]): run for run in found}

    def points(self, run_id: str) -> list[tuple[str, int]]:
        """(metric, epoch) of every row that MLflow's database has of the run."""
        with sqlite3.connect(f"file:{self.mlruns}/mlflow.db?mode=ro", uri=True) as database:
            rows = database.execute("SELECT key, step FROM metrics WHERE run_uuid = ? ORDER BY key, step", (run_id,))
            return list(rows)

    def logs(self, name: str = "tiny") -> list[Path]:
        """What the workers have printed."""
        return sorted((self.mlruns / "studies" / f"{name}.logs").glob("*.log"))

    def trained(self) -> dict[int, list[int]]:
        """Trial -> the epochs that were trained for it, as the workers have printed them; unsorted."""
        epochs: dict[int, list[int]] = {}
        for path in self.logs():
            number = -1
            for line in path.read_text().splitlines():
                if found := re.match(r"trial (\d+): ", line):
                    number = int(found[1])
                elif found := re.match(r"epoch +(\d+)/", line):
                    epochs.setdefault(number, []).append(int(found[1]))
        return epochs

    def assert_nothing_is_open(self) -> None:
        """No trial and no run is running, and nothing is left that only a run in progress needs."""
        assert {run.status for run in self.runs()} <= {"FINISHED", "FAILED", "KILLED"}
        assert self.states()["RUNNING"] == 0
        checkpoints = self.mlruns / "checkpoints"
        assert not checkpoints.exists() or not list(checkpoints.iterdir())
        assert self.spooled() == []

    def spooled(self) -> list[Path]:
        """Runs of which records wait for the store."""
        return [path for path in (self.mlruns / "spool").iterdir() if path.is_dir()]

    def assert_same_as(self, undisturbed: "Sweep") -> None:
        """Every trial as in the undisturbed sweep of the same study, to the last bit: values, epochs, run."""
        trials, expected = self.trials(), undisturbed.trials()
        assert [outcome(trial) for trial in trials] == [outcome(trial) for trial in expected]
        runs, expected_runs = self.children(), undisturbed.children()
        assert sorted(runs) == [trial.number for trial in trials]
        for number, run in runs.items():
            reference = expected_runs[number]
            assert (run.status, run.tags["state"]) == ("FINISHED", "finished")
            assert "failure" not in run.tags
            assert history(run) == history(reference)
            points = self.points(run.run_id)
            assert len(points) == len(set(points))
            assert points == undisturbed.points(reference.run_id)


MakeSweep = Callable[..., Sweep]  # name of the folder, changes of the study file


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A sweep that a command has run to its end, and what that has printed."""

    sweep: Sweep
    text: str


def outcome(trial: FrozenTrial) -> tuple[Any, ...]:
    """What a trial has drawn and reached."""
    return trial.number, trial.state.name, trial.params, trial.values, trial.intermediate_values


def history(run: RunRecord) -> dict[str, Any]:
    """A run's metrics, without timings."""
    return {key: values for key, values in run.metrics.items() if key not in TIMINGS}
