"""What is broken on one machine: a training, or a sweep, in a root folder of its own, and what it leaves there.

A case starts it in an empty folder, breaks it, mends what was broken, and gives the same command (or a resume) until it
is finished. Then what it has left has to be what an undisturbed one leaves.
"""

import contextlib
import hashlib
import os
import sqlite3
import subprocess
import sys
import time
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
import yaml
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from benchmarks.faults.hosts import children, is_running
from brainseg.sweep.engine import keys

# A step of this run is a millisecond: most of its time goes into starting, and into TensorFlow's graphs.
RUN = (
    *("data.phantom_patients=12", "data.image_size=32", "data.batch_size=2", "data.augment=none"),
    *("model.depth=1", "model.base_filters=4", "optimizer.name=lion", "train.loss=dice", "train.epochs=6"),
    *("train.precision=float32", "train.threads=1", "tracking.predictions=0"),
)
STUDY_NAME = "faults"
STUDY = {  # no trial's values depend on another trial
    "metric": "val_dice_image",
    "direction": "maximize",
    "trials": 3,
    "workers": 2,
    "failures": 0,
    "overrides": [item for item in RUN if not item.startswith("tracking.")],
    "space": {
        "optimizer.learning_rate": {"type": "float", "low": 1e-3, "high": 1e-1, "log": True},
        "model.dropout": {"type": "float", "low": 0.0, "high": 0.4},
    },
    "sampler": {"name": "random", "seed": 0},
    "pruner": {"name": "none"},
}
END_S = 3600.0  # of a command, at the latest
RESUMES = 5  # at the most, until it is finished
LEAVING_S = 120.0  # a worker whose `sweep run` was killed ends its step, and writes a checkpoint
# Left in the root of what is finished: its records, its models, the cache of decoded slices, and the study.
STAY = ("mlflow.db", "artifacts", "cache", "studies")

Outcome = Mapping[str, Any]  # of values that JSON has


class Machine:
    """A folder in which a training runs, by any number of commands one after another."""

    def __init__(self, folder: Path) -> None:
        """folder: a new one."""
        self.root = folder / "mlruns"
        self.root.mkdir(parents=True)
        self._log = folder / "log"

    def start(
        self, *words: str, before: Sequence[str] = (), environment: Mapping[str, str] | None = None
    ) -> "subprocess.Popen[bytes]":
        """Starts it, or with `words` another module, in a process. before: a command that starts that."""
        words = words or (*self.command(), f"tracking.root={self.root}")
        command = [*before, sys.executable, "-m", *words]
        with self._log.open("ab") as log:
            return subprocess.Popen(
                command, stdout=log, stderr=log, cwd=self.root.parent, env=os.environ | dict(environment or {})
            )

    def command(self) -> Sequence[str]:
        """What is typed behind `python -m`, at first or to go on."""
        run_id = self.unfinished()
        return ["brainseg.train", *(RUN if run_id is None else [f"resume={run_id}"])]

    def finish(self) -> None:
        """Goes on until it is finished, and delivers its record. Raises RuntimeError where it can't."""
        for _ in range(RESUMES):
            self.deliver()
            if self.is_finished():
                return
            self.start().wait(END_S)
        self.deliver()
        if not self.is_finished():
            raise RuntimeError(f"{self.root} isn't finished after {RESUMES} resumes; see {self._log}")

    def deliver(self) -> None:
        """Gives the command that a run names at its end where records wait: the store was slow, on a busy machine."""
        if self.unfinished() is None and any(self.root.glob("spool/*/")):
            self.start("brainseg.tracking", "sync", f"--root={self.root}").wait(END_S)

    def is_finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.unfinished() is None and "FINISHED" in self._query("SELECT status FROM runs")

    def unfinished(self) -> str | None:
        """The run whose checkpoint is there."""
        found = [path.parent.name for path in self.root.glob("checkpoints/*/run.json")]
        return found[0] if found else None

    def wait(self, process: "subprocess.Popen[bytes]", seconds: float) -> bool:
        """Waits for so long, or for the end of the process; whether it is still running."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        return process.poll() is None

    def outcome(self) -> Outcome:
        """What is left: each run's record, and what nobody needs any more."""
        runs: dict[str, list[dict[str, Any]]] = {}
        for run_id, status, trial in self._rows(
            "SELECT run_uuid, status, (SELECT value FROM tags WHERE tags.run_uuid = runs.run_uuid AND key = 'trial') "
            "FROM runs WHERE lifecycle_stage = 'active' AND status != 'KILLED' "  # before its first checkpoint
            "AND NOT EXISTS (SELECT 1 FROM tags WHERE tags.run_uuid = runs.run_uuid AND key = 'sweep_role')"
        ):
            runs.setdefault(f"run {trial or ''}".strip(), []).append(self._run(run_id, status))
        parents = self._query(
            "SELECT status FROM runs JOIN tags USING (run_uuid) WHERE key = 'sweep_role' AND lifecycle_stage = 'active'"
        )
        twice = self._rows("SELECT run_uuid, key, step FROM metrics GROUP BY 1, 2, 3 HAVING count(*) > 1")
        return {
            **runs,
            "parents": parents,
            "points recorded twice": [list(row) for row in twice],
            "left behind": self._left(),
            "processes left behind": self._processes(),
        }

    def _run(self, run_id: str, status: str) -> dict[str, Any]:
        folder = self.root / "artifacts" / run_id / "artifacts"
        rows = self._rows(
            "SELECT key, step, value FROM metrics WHERE run_uuid = ? AND key NOT LIKE '%seconds%' "
            "AND key NOT LIKE '%minutes%' AND key NOT LIKE '%per_second%' ORDER BY key, step, value",
            run_id,
        )
        models = self._query("SELECT model_id FROM logged_models WHERE source_run_id = ?", run_id)
        return {
            "status": status,
            "metrics": hashlib.sha256(repr(rows).encode()).hexdigest(),
            "files": sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()),
            "predictions": _members(folder / "val_predictions.npz"),
            "weights": [_members(self.root / f"artifacts/models/{name}/artifacts/data/model.keras") for name in models],
        }

    def _left(self) -> list[str]:
        """Files that nothing finished leaves."""
        files = [path.relative_to(self.root) for path in self.root.rglob("*") if path.is_file()]
        unknown = [
            path for path in files if path.parts[0] not in STAY or path.suffix in (".alive", ".tmp", ".building")
        ]
        return sorted(path.as_posix() for path in unknown if not path.name.endswith((".lock", "-wal", "-shm")))

    def _processes(self) -> list[str]:
        """Commands that still run in this root, after a moment to end."""
        end = time.monotonic() + LEAVING_S
        while (found := self._running()) and time.monotonic() < end:
            time.sleep(1)
        return found

    def _running(self) -> list[str]:
        commands = (_words(path.name) for path in Path("/proc").glob("[0-9]*"))
        return [words for words in commands if str(self.root) in words]

    def _query(self, query: str, *values: str) -> list[Any]:
        return [row[0] for row in self._rows(query, *values)]

    def _rows(self, query: str, *values: str) -> list[tuple[Any, ...]]:
        """What MLflow's database answers; nothing before it is there."""
        if not (self.root / "mlflow.db").exists():
            return []
        with contextlib.closing(sqlite3.connect(self.root / "mlflow.db")) as database:
            return database.execute(query, values).fetchall()


class SweepMachine(Machine):
    """A folder in which a sweep runs."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        path = folder / "sweeps" / f"{STUDY_NAME}.yaml"
        path.parent.mkdir()
        path.write_text(yaml.safe_dump(STUDY, sort_keys=False), encoding="utf-8")

    def command(self) -> Sequence[str]:
        return ["brainseg.sweep", "run", STUDY_NAME]

    def finish(self) -> None:
        for _ in range(RESUMES):
            if self.start().wait(END_S) == 0:
                self.deliver()
                return
        raise RuntimeError(f"the sweep in {self.root} isn't finished after {RESUMES} starts; see {self._log}")

    def workers(self, process: "subprocess.Popen[bytes]") -> list[int]:
        """The workers of a `sweep run`, in the order of their start."""
        return [pid for pid in children(process.pid) if is_running(pid) and " worker " in _words(f"{pid}")]

    def outcome(self) -> Outcome:
        backend = JournalFileBackend(str(self.root / "studies" / f"{STUDY_NAME}.journal"))
        trials = optuna.load_study(study_name=STUDY_NAME, storage=JournalStorage(backend)).get_trials()
        told = {
            f"trial {trial.number}": {
                "state": trial.state.name,
                "params": trial.params,
                "values": trial.values,
                "epochs": [[epoch, value] for epoch, value in sorted(trial.intermediate_values.items())],
                "failure": trial.user_attrs.get(keys.FAILURE),
            }
            for trial in trials
        }
        return {**super().outcome(), **told}


def differences(found: Outcome, expected: Outcome) -> str:
    """The names of what isn't equal; empty if all is."""
    names = sorted({*found, *expected})
    return ", ".join(name for name in names if found.get(name) != expected.get(name))


def _words(pid: str) -> str:
    """A process's command; empty once it has ended."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
    return ""


def _members(path: Path) -> str:
    """A digest of the arrays in an archive, whose own bytes hold times.

    Of a model that is `model.weights.h5`: the JSON beside it has numbers of Python's objects.
    """
    digest = hashlib.sha256()
    with zipfile.ZipFile(path) as archive:
        for name in sorted(archive.namelist()):
            if not name.endswith(".json"):
                digest.update(name.encode() + hashlib.sha256(archive.read(name)).digest())
    return digest.hexdigest()
