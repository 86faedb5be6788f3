"""The files that brainseg 0.1 has written: how they are put into a folder, and what is read of them afterwards.

What later versions do with them is read by SQLite, HDF5, NumPy, PIL and Optuna alone: brainseg's own readers are what
is tested.
"""

import contextlib
import csv
import hashlib
import io
import json
import re
import socket
import sqlite3
import tarfile
import zipfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial
from PIL import Image

HERE = Path(__file__).parent
ARCHIVE = HERE / "v0_1.tar.xz"
EXPECTED = HERE / "v0_1.json"  # what 0.1 itself makes of the set
ARRAYS = HERE / "v0_1.npz.xz"  # the same: weights and masks
KEPT_AT = Path("/srv/brainseg")  # where the set was made
HOST = "host/00000000-0000-0000-0000-000000000000"  # on which it was made: name and boot
SETS = ("grey", "colour", "deep16", "exif")
TIMINGS = ("seconds", "images_per_second", "seconds_per_image")
DECIDE_KERNELS = re.compile(r"sse4_\d|avx\w*|fma|f16c|amx\w*")
# Where MLflow keeps absolute paths that it opens itself, to serve a registered model.
LOCATIONS = ("source", "storage_location")


def unpack(folder: Path) -> Path:
    """Unpacks the set into an empty folder, as one that was made there."""
    with tarfile.open(ARCHIVE) as tar:
        tar.extractall(folder, filter="data")
    _move(folder)
    return folder


def _move(folder: Path) -> None:
    """Rewrites the machine where the set was made into this one, and the place where only MLflow or Optuna opens it.

    brainseg itself finds artifacts and spools beside the database, whatever paths these hold. The lease stays: one of
    another host is taken for dead after 150 s only, which no test waits for.
    """
    with contextlib.closing(sqlite3.connect(folder / "mlruns" / "mlflow.db")) as database, database:
        for column in LOCATIONS:
            statement = f"UPDATE model_versions SET {column} = replace({column}, ?, ?)"  # noqa: S608  # constants
            database.execute(statement, (str(KEPT_AT), str(folder)))
    boot = Path("/proc/sys/kernel/random/boot_id")
    here = f"{socket.gethostname()}/{boot.read_text().strip()}" if boot.exists() else socket.gethostname()
    for journal in (folder / "mlruns" / "studies").glob("*.journal"):
        text = journal.read_text()
        journal.write_text(text.replace(str(KEPT_AT), str(folder)).replace(HOST, here))


def made_with() -> dict[str, Any]:
    """What decides the last digits of a training: TensorFlow, and the instructions of the processor."""
    flags: list[str] = []
    with contextlib.suppress(OSError):  # not Linux
        found = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        flags = sorted(filter(DECIDE_KERNELS.fullmatch, found[1].split())) if found else []
    return {"tensorflow": version("tensorflow"), "flags": flags}


class Project:
    """The set in a folder, and what commands have made of it there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "mlruns"

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """What MLflow's database answers."""
        with contextlib.closing(sqlite3.connect(f"file:{self.root}/mlflow.db?mode=ro", uri=True)) as database:
            return database.execute(query, values).fetchall()

    def run_named(self, name: str) -> str:
        """The id of the run of this name."""
        ((found,),) = self.rows("SELECT run_uuid FROM runs WHERE name = ?", name)
        return str(found)

    def ending(self, run_id: str) -> tuple[str, str]:
        """MLflow's status of the run, and its tag `state`."""
        ((status,),) = self.rows("SELECT status FROM runs WHERE run_uuid = ?", run_id)
        ((state,),) = self.rows("SELECT value FROM tags WHERE run_uuid = ? AND key = 'state'", run_id)
        return status, state

    def history(self, run_id: str) -> dict[str, list[list[float]]]:
        """Metric -> epoch and value of each of its points, timings aside."""
        rows = self.rows("SELECT key, step, value FROM metrics WHERE run_uuid = ? ORDER BY key, step", run_id)
        history: dict[str, list[list[float]]] = {}
        for key, epoch, value in rows:
            if key not in TIMINGS:
                history.setdefault(key, []).append([epoch, value])
        return history

    def artifact(self, run_id: str, name: str) -> Path:
        """The file of an artifact of the run."""
        ((uri,),) = self.rows("SELECT artifact_uri FROM runs WHERE run_uuid = ?", run_id)
        return self._here(uri) / name

    def scores(self, run_id: str) -> list[dict[str, Any]]:
        """The rows of the run's val_scores.csv."""
        return table(self.artifact(run_id, "val_scores.csv").read_text())

    def predictions(self, run_id: str) -> dict[str, NDArray[Any]]:
        """The arrays of the run's val_predictions.npz."""
        with np.load(self.artifact(run_id, "val_predictions.npz")) as stored:
            return {name: stored[name] for name in stored.files}

    def weights(self, run_id: str) -> dict[str, NDArray[Any]]:
        """Name -> array of the run's saved model, sorted by name."""
        ((uri,),) = self.rows("SELECT artifact_location FROM logged_models WHERE source_run_id = ?", run_id)
        arrays: dict[str, NDArray[Any]] = {}

        def take(name: str, item: h5py.Group | h5py.Dataset) -> None:
            if isinstance(item, h5py.Dataset):
                arrays[name] = item[()]

        with zipfile.ZipFile(self._here(uri) / "data" / "model.keras") as keras_file:
            content = io.BytesIO(keras_file.read("model.weights.h5"))
        with h5py.File(content) as file:
            file.visititems(take)
        return dict(sorted(arrays.items()))

    def trials(self, study: str) -> list[dict[str, Any]]:
        """The study's trials: what was drawn, what was reached, and the state."""
        return [
            {
                "state": trial.state.name,
                "params": trial.params,
                "values": trial.values,
                "epochs": [list(item) for item in sorted(trial.intermediate_values.items())],
                "deaths": trial.user_attrs.get("deaths", []),
            }
            for trial in self._trials(study)
        ]

    def run_of_trial(self, study: str, number: int) -> str:
        """The id of the trial's run."""
        return str(self._trials(study)[number].user_attrs["run_id"])

    def _trials(self, study: str) -> list[FrozenTrial]:
        storage = JournalStorage(JournalFileBackend(str(self.root / "studies" / f"{study}.journal")))
        (found,) = [each for each in storage.get_all_studies() if each.study_name == study]
        return storage.get_all_trials(found._study_id)

    def fingerprint(self, run_id: str) -> str:
        """Of the data that the run was trained on."""
        ((found,),) = self.rows("SELECT value FROM tags WHERE run_uuid = ? AND key = 'data_fingerprint'", run_id)
        return str(found)

    def cache(self) -> dict[str, str]:
        """Path below the cache -> SHA-256 of the file, of everything that is there, as 0.1 wrote it."""
        cache = self.root / "cache"
        files = sorted(path for path in cache.rglob("*") if path.is_file())
        return {str(path.relative_to(cache)): hashlib.sha256(_as_0_1(path)).hexdigest() for path in files}

    def _here(self, uri: str) -> Path:
        """The folder that MLflow calls so, wherever it was when the URI was stored."""
        return self.root / uri.partition("/mlruns/")[2]


def _as_0_1(path: Path) -> bytes:
    """A file of the cache without what later versions say of an entry besides."""
    if path.name != "entry.json":
        return path.read_bytes()
    known = json.loads(path.read_text())
    return json.dumps({key: known[key] for key in ("schema_version", "fingerprint")}).encode()


def table(text: str) -> list[dict[str, Any]]:
    """The rows of a CSV file, with numbers as numbers."""

    def value(cell: str) -> float | str:
        try:
            return float(cell)
        except ValueError:
            return cell

    return [{key: value(cell) for key, cell in row.items()} for row in csv.DictReader(io.StringIO(text))]


def pixels(path: Path) -> NDArray[np.uint8]:
    """The values of an 8-bit image file, as stored."""
    with Image.open(path) as image:
        return np.asarray(image)


def digest(arrays: Mapping[str, NDArray[Any]]) -> str:
    """SHA-256 over the arrays, in the order of their names."""
    whole = hashlib.sha256()
    for name in sorted(arrays):
        whole.update(f"{name} {arrays[name].dtype} {arrays[name].shape}".encode())
        whole.update(np.ascontiguousarray(arrays[name]).tobytes())
    return whole.hexdigest()


def read_json(path: Path) -> Any:
    """What a JSON file holds."""
    return json.loads(path.read_text(encoding="utf-8"))
