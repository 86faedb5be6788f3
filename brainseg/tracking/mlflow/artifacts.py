"""Where a store's artifacts lie. An SQLite database names them by absolute paths, from before its folder moved."""

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from brainseg.tracking.mlflow.connection import UnreachableError
from brainseg.tracking.mlflow.database import artifacts_beside
from brainseg.tracking.paths import sqlite_path

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel, Run
    from mlflow.store.artifact.artifact_repo import ArtifactRepository


class LostArtifactsError(UnreachableError):
    """The store has the record, but the folder of its artifacts isn't there."""


def location_now(recorded: str, *, own: str = "", of: str, uri: str) -> str:
    """An artifact location that the store at `uri` has recorded, as it is to be used now.

    own: the end of the location that belongs to this run or model alone, such as `RUN/artifacts`. of: whose location
    it is, for the message. In an SQLite store, the folder `artifacts` of another database, or of one that is gone,
    stands for the folder beside this database: the project folder was renamed or copied.
    Raises LostArtifactsError for a local folder that isn't there.
    """
    database, path = sqlite_path(uri), local_path(recorded)
    if database is None or path is None:
        return recorded
    folder = Path(str(path).removesuffix(f"/{own}"))  # the experiment's
    beside = artifacts_beside(database)
    root = next((each for each in (folder, folder.parent) if each.name == beside.name), None)
    if root is not None and _was_left_behind(root, database):
        folder, recorded = beside, (beside / path.relative_to(root)).as_uri()
    if root != beside and not folder.exists() and not folder.parent.exists():
        raise LostArtifactsError(
            f"the artifacts of {of} were recorded in {path}, and {folder} isn't there; bring the folder back"
        )
    return recorded


def run_location(run: "Run", *, uri: str) -> str:
    """Where the artifacts of a run lie now. Raises LostArtifactsError."""
    run_id = run.info.run_id
    return location_now(run.info.artifact_uri, own=f"{run_id}/artifacts", of=f"run {run_id}", uri=uri)


def model_location(model: "LoggedModel", *, uri: str) -> str:
    """Where a logged model lies now. Raises LostArtifactsError."""
    own = f"models/{model.model_id}/artifacts"
    return location_now(model.artifact_location, own=own, of=f"run {model.source_run_id}", uri=uri)


def repository(location: str, *, uri: str) -> "ArtifactRepository":
    """Reads and writes the artifacts in this location of a store."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    return get_artifact_repository(location, tracking_uri=uri)


def local_path(location: str) -> Path | None:
    """The path of an artifact location on this machine, None for any other."""
    parts = urlsplit(location)
    is_local = parts.scheme in ("", "file") and not parts.netloc and parts.path.startswith("/")
    return Path(unquote(parts.path)) if is_local else None


def _was_left_behind(root: Path, database: Path) -> bool:
    """Whether an `artifacts` folder lies beside no database, or beside another one of the same name."""
    if not root.exists():
        return root != artifacts_beside(database)
    neighbour = root.with_name(database.name)
    return neighbour.exists() and not neighbour.samefile(database)
