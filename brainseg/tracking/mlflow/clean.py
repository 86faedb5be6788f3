"""Finds the checkpoints that nothing needs any more."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from brainseg.errors import TrackingError
from brainseg.tracking.home import Home
from brainseg.tracking.mlflow.client_runs import find_run
from brainseg.tracking.spool.spool import is_held, spooled_runs

if TYPE_CHECKING:
    from mlflow import MlflowClient

FINISHED = "FINISHED"
UNKNOWN = "not in the store"


@dataclass(frozen=True, kw_only=True)
class Checkpoints:
    """The checkpoint folder of one run."""

    run_id: str
    folder: Path
    status: str  # the run's in the store, or that it isn't there
    size_bytes: int


def unneeded(client: "MlflowClient", home: Home, *, uri: str) -> list[Checkpoints]:
    """Checkpoints of runs that are finished, or that the store doesn't have; never of one that can be resumed.

    A run with records in the spool is not in the store yet, and is kept.
    """
    spooled = set(spooled_runs(home.spool))
    every = [_checkpoints(client, folder, uri=uri) for folder in _folders(home) if folder.name not in spooled]
    return [found for found in every if found.status in (FINISHED, UNKNOWN)]


def named(client: "MlflowClient", home: Home, run_ids: Sequence[str], *, uri: str) -> list[Checkpoints]:
    """Checkpoints of these runs, whatever their status. Raises TrackingError where one has none, or is alive."""
    folders = {folder.name: folder for folder in _folders(home)}
    for run_id in run_ids:
        if run_id not in folders:
            raise TrackingError(f"run {run_id!r} has no checkpoints in {home.checkpoints}; see the folder for the ids")
        if is_held(home.spool, run_id):
            raise TrackingError(f"run {run_id} is still being written by a process; end that first")
    return [_checkpoints(client, folders[run_id], uri=uri) for run_id in run_ids]


def delete(found: Checkpoints) -> None:
    """Deletes the folder. Raises OSError where that isn't allowed."""
    shutil.rmtree(found.folder)


def _folders(home: Home) -> list[Path]:
    return sorted(home.checkpoints.iterdir()) if home.checkpoints.is_dir() else []


def _checkpoints(client: "MlflowClient", folder: Path, *, uri: str) -> Checkpoints:
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return Checkpoints(run_id=folder.name, folder=folder, status=_status(client, folder.name, uri=uri), size_bytes=size)


def _status(client: "MlflowClient", run_id: str, *, uri: str) -> str:
    try:
        return str(find_run(client, run_id, uri=uri).info.status)
    except TrackingError:  # unknown or deleted; a store that fails raises MLflow's own
        return UNKNOWN
