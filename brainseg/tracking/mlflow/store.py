"""Reads runs from MLflow, and adds to them; a run that is still offline is read from its spool."""

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from brainseg.cli.output import temporary_folder
from brainseg.cli.secrets import mask
from brainseg.config import TrackingConfig
from brainseg.errors import TrackingError
from brainseg.tracking.listing import UnknownExperimentError, merged
from brainseg.tracking.memory import MemoryStore, no_artifact
from brainseg.tracking.mlflow import client_runs
from brainseg.tracking.mlflow.artifacts import LostArtifactsError, model_location, repository, run_location
from brainseg.tracking.mlflow.client_runs import (
    LOCAL_ID,
    LOCAL_PREFIX,
    MODEL_NAME,
    dataset_of,
    find_model,
    find_run,
    quoted,
)
from brainseg.tracking.mlflow.connection import FetchError, cause_of, reached, store_errors
from brainseg.tracking.mlflow.database import check_writable
from brainseg.tracking.mlflow.sqlite_runs import SqliteRuns, UnknownLayoutError
from brainseg.tracking.mlflow.tags import from_mlflow, to_mlflow
from brainseg.tracking.paths import TrackingPaths, resolve_uri, sqlite_path, tracking_paths
from brainseg.tracking.protocol import Curves, RunFilter, RunList, RunRecord
from brainseg.tracking.rules import checked_additions, checked_name, files_below
from brainseg.tracking.spool.spool import spooled_runs
from brainseg.tracking.spool.spooled_run import experiment_of_spool, memory_of_spool

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.store.artifact.artifact_repo import ArtifactRepository

Result = TypeVar("Result")


class NoDatabaseError(TrackingError):
    """The SQLite database doesn't exist yet."""


class MlflowStore:
    """A `RunStore` over MLflow. It connects when it is first asked for something."""

    def __init__(self, uri: str, paths: TrackingPaths) -> None:
        """Used by `open_store`."""
        self._uri = uri
        self._paths = paths
        self._client: MlflowClient | None = None

    def read(self, run_id: str) -> RunRecord:
        """The record of one run; its id is the local one where it started offline."""
        spooled = self._spooled(run_id)
        if spooled is not None:
            return spooled.read(run_id)
        run = self._run(run_id)
        with store_errors(self._uri):
            (metrics,) = client_runs.curves(self._connected(), [run], list(run.data.metrics))
        return RunRecord(
            run_id=run.data.tags.get(LOCAL_ID, run.info.run_id),
            name=run.info.run_name,
            status=run.info.status,
            params=dict(run.data.params),
            tags=from_mlflow(run.data.tags),
            metrics=metrics,
            dataset=dataset_of(run),
        )

    def find(self, tags: Mapping[str, str]) -> list[str]:
        """The ids of the runs that carry all of these tags, in whichever experiment; the oldest first.

        A run that the store doesn't have yet is found in the spool.
        """
        path = sqlite_path(self._uri)
        if path is not None and not path.exists():
            return []
        wanted = " and ".join(f"tags.`{key}` = {quoted(value)}" for key, value in to_mlflow(tags).items())
        client = self._connected()
        with store_errors(self._uri):
            experiments = client_runs.experiment_ids(client, None, uri=self._uri)
            runs = list(client_runs.search(client, experiments, wanted, order=["attributes.start_time"]))
        return [run.data.tags.get(LOCAL_ID, run.info.run_id) for run in runs] + [
            run_id
            for run_id in spooled_runs(self._paths.spool)
            if (spooled := self._spooled(run_id)) is not None and spooled.find(tags)
        ]

    def aliases(self) -> Sequence[str]:
        """Those in MLflow's model registry in the same store."""
        read = self._read(lambda runs: runs.aliases())
        if read is not None:
            return sorted(read)
        client = self._connected()
        with store_errors(self._uri):
            models = client_runs.registered_models(client)
            return sorted(f"{model.name}@{alias}" for model in models for alias in model.aliases)

    def run_of_alias(self, alias: str) -> str:
        name, _, own = alias.rpartition("@")
        client = self._connected()
        with store_errors(self._uri):
            return client.get_model_version_by_alias(name, own).run_id or ""

    def overview(self, which: RunFilter, *, rank_by: str, total_of: str, limit: int | None) -> RunList:
        """Lists the runs of the store and those that wait in the spool."""
        waiting = [
            spooled.overview(which, rank_by=rank_by, total_of=total_of, limit=limit)
            for run_id in spooled_runs(self._paths.spool)
            if which.experiment in (None, experiment_of_spool(self._paths.spool, run_id))
            and (spooled := self._spooled(run_id)) is not None
        ]
        try:
            stored = [self._stored(which, rank_by=rank_by, total_of=total_of, limit=limit)]
        except (UnknownExperimentError, NoDatabaseError):
            if not waiting:
                raise
            stored = []
        return merged([*stored, *waiting], rank_by=rank_by, limit=limit)

    def curves(self, run_ids: Sequence[str], keys: Sequence[str]) -> Curves:
        """By SQL where that is possible, else a request for each run and metric, several at once."""
        found: dict[str, Mapping[str, Mapping[int, float]]] = {}
        for run_id in run_ids:
            if (spooled := self._spooled(run_id)) is not None:
                found |= spooled.curves([run_id], keys)
        others = [run_id for run_id in run_ids if run_id not in found]
        found |= self._read(lambda runs: runs.curves(others, keys)) or {}
        unread = [run_id for run_id in others if run_id not in found]
        if unread:  # a run that SQL doesn't know either is named by the client
            runs = [self._run(run_id) for run_id in unread]
            with store_errors(self._uri):
                histories = client_runs.curves(self._connected(), runs, keys)
            found |= dict(zip(unread, histories, strict=True))
        return {run_id: found[run_id] for run_id in run_ids}

    def text(self, run_id: str, name: str) -> str:
        """A text artifact; one that is a local file is read without MLflow."""
        spooled = self._spooled(run_id)
        if spooled is not None:
            return spooled.text(run_id, name)
        try:
            artifacts = self._read(lambda runs: runs.artifacts(run_id))
        except LostArtifactsError as error:  # a list of runs is worth reading without them
            raise TrackingError(str(error)) from error
        if artifacts is not None and name.partition("/")[0] != MODEL_NAME:
            return self._read_text(artifacts / checked_name(name), run_id, name)
        with temporary_folder() as folder:
            return self._read_text(self.file(run_id, name, folder), run_id, name)

    def file(self, run_id: str, name: str, folder: Path) -> Path:
        spooled = self._spooled(run_id)
        if spooled is not None:
            return spooled.file(run_id, name, folder)
        run = self._run(run_id)
        top, _, rest = name.partition("/")
        with store_errors(self._uri):
            model = find_model(self._connected(), run) if top == MODEL_NAME else None
        # A logged model lies outside its run; MLflow's own runs:/RUN/model asks the global tracking URI for it.
        if model is None:
            location, inside, place = run_location(run, uri=self._uri), name, folder
        else:
            location, inside, place = model_location(model, uri=self._uri), rest, folder / top
        try:
            self._download(location, inside, place)
        except Exception as error:  # each kind of artifact store has its own
            if _lacks(repository(location, uri=self._uri), inside):
                raise no_artifact(run_id, name, mask(self._uri)) from error
            raise FetchError(
                f"the artifact {name!r} of run {run_id} can't be fetched ({cause_of(error)}); "
                f"check that the artifacts of {mask(self._uri)} can be reached, and that {place} has room"
            ) from error
        if not (folder / name).exists():
            raise no_artifact(run_id, name, mask(self._uri))
        return folder / name

    def add(self, run_id: str, folder: Path, *, to: str, tags: Mapping[str, str]) -> None:
        """Uploads the files, deletes what else the artifact folder had, and sets the tags."""
        from mlflow.entities import RunTag

        to, added = checked_name(to), to_mlflow(checked_additions(tags))
        if self._spooled(run_id) is not None:
            raise TrackingError(
                f"run {run_id} still waits in {self._paths.spool}; "
                "deliver it first, with python -m brainseg.tracking sync"
            )
        check_writable(self._uri)
        run = self._run(run_id)
        with store_errors(self._uri):
            artifacts = repository(run_location(run, uri=self._uri), uri=self._uri)
            artifacts.log_artifacts(str(folder), to)
            # The old ones last: nothing is lost where the upload fails.
            for path in _files_in(artifacts, to) - {f"{to}/{name}" for name in files_below(folder)}:
                artifacts.delete_artifacts(path)
            self._connected().log_batch(run.info.run_id, tags=[RunTag(key, value) for key, value in added.items()])

    def _read_text(self, path: Path, run_id: str, name: str) -> str:
        """A text as it was recorded: no line break becomes another one."""
        try:
            return path.read_bytes().decode()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise no_artifact(run_id, name, mask(self._uri)) from error
        except (OSError, UnicodeDecodeError) as error:
            raise FetchError(f"the artifact {name!r} of run {run_id} can't be read ({cause_of(error)})") from error

    def _download(self, location: str, name: str, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        # Beside its place, to be moved there: nothing of a failed download stays.
        with tempfile.TemporaryDirectory(dir=folder, prefix=".fetched-") as temporary:
            repository(location, uri=self._uri).download_artifacts(name, temporary)
            shutil.copytree(temporary, folder, dirs_exist_ok=True, copy_function=os.replace)

    def _stored(self, which: RunFilter, *, rank_by: str, total_of: str, limit: int | None) -> RunList:
        """By SQL where that is possible, else through the client."""
        read = self._read(lambda runs: runs.overview(which, rank_by=rank_by, total_of=total_of, limit=limit))
        if read is not None:
            return read
        client = self._connected()
        with store_errors(self._uri):
            experiments = client_runs.experiment_ids(client, which.experiment, uri=self._uri)
            return client_runs.overview(client, which, experiments, rank_by=rank_by, total_of=total_of, limit=limit)

    def _read(self, ask: Callable[[SqliteRuns], Result]) -> Result | None:
        """Asks by SQL; None if the store is no SQLite file, or one that only MLflow can read."""
        path = sqlite_path(self._uri)
        if path is None or not path.exists():
            return None
        try:
            return ask(SqliteRuns(path))
        except (UnknownLayoutError, sqlite3.Error):
            return None

    def _run(self, run_id: str) -> "Run":
        client = self._connected()
        with store_errors(self._uri):
            return find_run(client, run_id, uri=self._uri)

    def _connected(self) -> "MlflowClient":
        if self._client is None:
            path = sqlite_path(self._uri)
            if path is not None and not path.exists():
                raise NoDatabaseError(
                    f"no runs are kept in {mask(self._uri)}; train one first, or check tracking.root and tracking.uri"
                )
            self._client = reached(self._uri)
        return self._client

    def _spooled(self, run_id: str) -> MemoryStore | None:
        try:
            if not run_id.startswith(LOCAL_PREFIX) or run_id not in spooled_runs(self._paths.spool):
                return None  # the id may hold anything, a slash or U+0000 for two, and is no path
            store = memory_of_spool(self._paths.spool, run_id)
        except OSError as error:
            raise FetchError(f"run {run_id} can't be read from {self._paths.spool} ({cause_of(error)})") from error
        for tracker in store.trackers.values() if store is not None else ():
            tracker.tags = from_mlflow(tracker.tags)
        return store


def _lacks(artifacts: "ArtifactRepository", name: str) -> bool:
    """Whether an artifact folder can be listed, and doesn't have this artifact."""
    try:
        return all(item.path != name for item in artifacts.list_artifacts(name.rpartition("/")[0]))
    except Exception:
        return False


def _files_in(artifacts: "ArtifactRepository", folder: str) -> set[str]:
    """The artifact paths of all files in an artifact folder and below."""
    found: set[str] = set()
    for item in artifacts.list_artifacts(folder):
        found |= _files_in(artifacts, item.path) if item.is_dir else {item.path}
    return found


def open_store(config: TrackingConfig) -> MlflowStore:
    """The store that `tracking` names. Raises TrackingError for a URI that can't be used; asks nothing yet."""
    return MlflowStore(resolve_uri(config), tracking_paths(config))
