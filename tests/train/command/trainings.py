"""Trainings as processes that can be killed, and the runs that they leave."""

import signal
import sqlite3
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
from processes import PATIENCE_S, Command, Server
from tiny_run import TIMINGS

from brainseg.config import TrackingConfig
from brainseg.tracking import MODEL_FILE, open_store
from brainseg.train.checkpoint import Checkpoints

# Everything that a kill could disturb: moving statistics, dropout, augmentation, a schedule, many steps an epoch. An
# optimizer of two moments would double the graph, which costs more than the training.
SMALL = (
    "data.phantom_patients=6",
    "data.image_size=16",
    "data.batch_size=2",
    "model.depth=2",
    "model.base_filters=2",
    "model.norm=batch",
    "model.dropout=0.2",
    "data.augment=standard",
    "optimizer.name=sgd",
    "train.epochs=12",
    "train.deep_supervision=0.25",
    "train.threads=2",
    "tracking.predictions=1",
)
# Behind `SMALL`: half the graph, where what it holds is of no interest.
PLAIN = ("model.depth=1", "model.norm=none", "train.deep_supervision=0")


class Training(Command):
    """A training in a process of its own."""

    @property
    def run_id(self) -> str:
        """The run's id, from the line that announces it."""
        self.wait_for("slices to train on")
        line = next(line for line in self.text.splitlines() if line.startswith("run "))
        return line.removeprefix("run ").strip()

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Returns when `condition()` is true or the process has ended: often asked, since a moment is soon over."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition() and self.poll() is None:
            assert time.monotonic() < deadline, f"waited too long; it printed: {self.text}"
            time.sleep(0.001)

    def stop(self, number: int = signal.SIGKILL) -> int:
        """Sends the signal, if the process still lives, and returns the exit code."""
        if self.poll() is None:
            self.send(number)
        return self.exit_code()


class Commands:
    """`python -m brainseg.train` on one store, each in a process of its own, one after the other."""

    small = SMALL

    def __init__(self, root: Path, server: Server) -> None:
        self.root = root
        self.tracking = TrackingConfig(root=str(root / "mlruns"), uri=f"sqlite:///{root}/mlruns/mlflow.db")
        self.store = open_store(self.tracking)
        self._server = server
        self._count = 0

    @property
    def where(self) -> tuple[str, ...]:
        """The overrides that name this store."""
        return f"tracking.root={self.tracking.root}", f"tracking.uri={self.tracking.uri}"

    def start(self, *overrides: str) -> Training:
        """Starts a training; the one before must have ended."""
        self._count += 1
        output = self.root / f"output-{self._count}.txt"
        pid = self._server.start("brainseg.train", *self.where, *overrides, folder=self.root, output=output)
        return Training(pid, output, self._server)

    def checkpoints(self, run_id: str) -> Checkpoints:
        """The checkpoint folder of a run."""
        return Checkpoints(Path(self.tracking.root), run_id)

    def weights(self, run_id: str, folder: Path) -> dict[str, np.ndarray]:
        """Path in the model file -> array, of the recorded model."""
        with zipfile.ZipFile(self.store.file(run_id, MODEL_FILE, folder / run_id)) as model:
            model.extract("model.weights.h5", folder / run_id)
        arrays: dict[str, np.ndarray] = {}

        def keep(name, item):
            if isinstance(item, h5py.Dataset):
                arrays[name] = item[()]

        with h5py.File(folder / run_id / "model.weights.h5") as file:
            file.visititems(keep)
        return arrays

    def points(self, run_id: str) -> list[tuple[str, int]]:
        """(metric, epoch) of every row that MLflow's database has of the run."""
        with sqlite3.connect(f"file:{self.root}/mlruns/mlflow.db?mode=ro", uri=True) as database:
            rows = database.execute("SELECT key, step FROM metrics WHERE run_uuid = ? ORDER BY key, step", (run_id,))
            return list(rows)

    def assert_same(self, run_id: str, reference_id: str, folder: Path) -> None:
        """Same weights bit for bit, same history but for timings, nothing twice, finished, no checkpoint left."""
        record, reference = self.store.read(run_id), self.store.read(reference_id)
        assert (record.status, record.tags["state"]) == ("FINISHED", "finished")
        assert "failure" not in record.tags

        points = self.points(run_id)
        assert len(points) == len(set(points))
        assert points == self.points(reference_id)
        histories = [
            {key: values for key, values in one.metrics.items() if key not in TIMINGS} for one in (record, reference)
        ]
        assert histories[0] == histories[1]

        weights, expected = self.weights(run_id, folder), self.weights(reference_id, folder)
        assert len(weights) > 10
        assert list(weights) == list(expected)
        for name, array in weights.items():
            np.testing.assert_array_equal(array, expected[name], err_msg=name, strict=True)

        scores = [self.store.text(name, "val_scores.csv") for name in (run_id, reference_id)]
        assert scores[0] == scores[1]
        assert not self.checkpoints(run_id).folder.exists()
