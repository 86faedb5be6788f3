"""Artifacts that a run may lack."""

from pathlib import Path

from brainseg.errors import TrackingError
from brainseg.tracking.mlflow.connection import UnreachableError
from brainseg.tracking.protocol import RunStore

SPLIT_FILE = "split.json"


def optional_text(store: RunStore, run_id: str, name: str) -> str | None:
    """A text artifact, or None if the run has none of this name. Raises UnreachableError if the store is away."""
    try:
        return store.text(run_id, name)
    except UnreachableError:
        raise
    except TrackingError:
        return None


def optional_file(store: RunStore, run_id: str, name: str, folder: Path) -> Path | None:
    """An artifact, fetched into `folder`; None and errors as for `optional_text`."""
    try:
        return store.file(run_id, name, folder)
    except UnreachableError:
        raise
    except TrackingError:
        return None
