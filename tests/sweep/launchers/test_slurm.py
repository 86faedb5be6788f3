"""Workers as jobs of a real SLURM: what is submitted, what becomes of it, and the study in the end."""

import json
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from backends import Server as TrackingServer
from optuna.trial import FrozenTrial
from processes import Command, Server, wait_until
from slurm import Slurm

from brainseg.config import TrackingConfig
from brainseg.sweep.engine.storage import open_storage
from brainseg.tracking import open_store
from sweeps import Sweep

EPOCHS = 30


class SlurmSweep(Sweep):
    """A sweep whose commands find a SLURM, a PostgreSQL and an `mlflow server`."""

    def __init__(self, folder: Path, server: Server, empty_store: Path, slurm: Slurm, where: str, uri: str) -> None:
        super().__init__(folder, server, empty_store)
        self.slurm = slurm
        self.store = open_store(TrackingConfig(root=str(self.mlruns), uri=uri, experiment=folder.name))
        self._where = where
        self._tracking = [f"tracking.uri={uri}", f"tracking.experiment={folder.name}"]
        self._storage: Any = None

    def start(self, *arguments: str, program: str = "brainseg.sweep") -> Command:
        """Starts `COMMAND NAME ARGUMENTS`."""
        told = [*arguments, *self._tracking, "--storage", self._where]
        code = (
            f"import os; os.environ.update({self.slurm.environment!r}); "
            f"from brainseg.sweep.__main__ import main; raise SystemExit(main({told!r}))"
        )
        return super().start(code, program="-c")

    def launch(self, *arguments: str, workers: int = 2, **launcher: object) -> Command:
        """Starts `run tiny launcher=slurm`, with one core and no GPU a worker unless `launcher` has others."""
        values = {"command": sys.executable, "cpus": 1, "gpus": 0} | launcher
        return self.start(
            *("run", "tiny", "launcher=slurm", "--workers", str(workers), *arguments),
            *(f"launcher.{key}={value}" for key, value in values.items()),
        )

    def trials(self, name: str = "tiny") -> list[FrozenTrial]:
        """The study's trials; none before it is there."""
        if self._storage is None:
            self._storage = open_storage(self._where, root=self.mlruns, name=name).optuna
        known = {study.study_name: study._study_id for study in self._storage.get_all_studies()}
        return self._storage.get_all_trials(known[name], deepcopy=False) if name in known else []

    def told(self, command: Command) -> str:
        """With SLURM's own words."""
        return f"{super().told(command)}\n{self.slurm.run('squeue', '--array', '--states=all')}"

    def status(self) -> dict[str, Any]:
        """What `status --json` prints."""
        found: dict[str, Any] = json.loads(self.run("status", "tiny", "--json"))
        return found


@pytest.fixture
def sweep(
    process_server: Server,
    slurm: Slurm,
    postgres: str,
    server: TrackingServer,
    empty_store: Path,
    tmp_path: Path,
) -> Iterator[SlurmSweep]:
    """The tiny study in a folder of this test's own, without a job in the cluster; none is left there in the end."""
    made = SlurmSweep(tmp_path, process_server, empty_store, slurm, postgres, server.uri)
    yield made
    for command in made.commands:
        command.kill_all()
    slurm.cancel_all()


def test_a_study_whose_job_is_requeued_ends_whole(sweep: SlurmSweep) -> None:
    overrides = [item for item in sweep.overrides if "epochs" not in item]
    sweep.write(overrides=[*overrides, f"train.epochs={EPOCHS}"])
    command = sweep.launch()
    command.wait_until(lambda: len([worker for worker in sweep.workers() if worker.epochs]) == 2)
    sweep.slurm.run("scontrol", "requeue", sweep.slurm.jobs()[0])
    sweep.slurm.start_at_once(sweep.slurm.jobs()[0])
    assert command.exit_code() == 0, sweep.told(command)
    print(sweep.told(command))
    assert sweep.states() == {"COMPLETE": 3}
