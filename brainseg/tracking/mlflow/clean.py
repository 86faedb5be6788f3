"""Finds the checkpoints that nothing needs any more."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from brainseg.errors import TrackingError
from brainseg.parsing import parse_json
from brainseg.tracking.mlflow.client_runs import find_run
from brainseg.tracking.paths import MANIFEST, TrackingPaths
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
    store: str  # the store that the run was recorded in, without credentials; empty where the manifest has none
    size_bytes: int


def every(client: "MlflowClient", paths: TrackingPaths, *, uri: str) -> list[Checkpoints]:
    """Lists the checkpoints of all runs, except those with spooled records, which the store may not know yet."""
    spooled = set(spooled_runs(paths.spool))
    return [_checkpoints(client, folder, uri=uri) for folder in _folders(paths) if folder.name not in spooled]


def named(client: "MlflowClient", paths: TrackingPaths, run_ids: Sequence[str], *, uri: str) -> list[Checkpoints]:
    """Lists the checkpoints of these runs. Raises TrackingError if one has none, or is still running."""
    folders = {folder.name: folder for folder in _folders(paths)}
    for run_id in run_ids:
        if run_id not in folders:
            raise TrackingError(f"run {run_id!r} has no checkpoints in {paths.checkpoints}; see the folder for the ids")
        if is_held(paths.spool, run_id):
            raise TrackingError(f"run {run_id} is still being written by a process; end that first")
    return [_checkpoints(client, folders[run_id], uri=uri) for run_id in run_ids]


def delete(found: Checkpoints) -> None:
    """Deletes the folder. Raises OSError."""
    shutil.rmtree(found.folder)


def _folders(paths: TrackingPaths) -> list[Path]:
    return sorted(paths.checkpoints.iterdir()) if paths.checkpoints.is_dir() else []


def _checkpoints(client: "MlflowClient", folder: Path, *, uri: str) -> Checkpoints:
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return Checkpoints(
        run_id=folder.name,
        folder=folder,
        status=_status(client, folder.name, uri=uri),
        store=_store_in(folder),
        size_bytes=size,
    )


def _store_in(folder: Path) -> str:
    """The store that a checkpoint's manifest names; empty for one of version 0.1, or without a manifest."""
    try:
        return str(parse_json((folder / MANIFEST).read_text(encoding="utf-8")).get("store", ""))
    except (OSError, ValueError, AttributeError):
        return ""


def _status(client: "MlflowClient", run_id: str, *, uri: str) -> str:
    try:
        return str(find_run(client, run_id, uri=uri).info.status)
    except TrackingError:  # unknown or deleted; a store that fails raises MLflow's own
        return UNKNOWN
