"""Turns the spooled records of one run into MLflow calls that may be repeated without harm."""

import functools
import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from brainseg.cli.output import temporary_files_in
from brainseg.cli.secrets import mask
from brainseg.errors import TrackingError
from brainseg.tracking.mlflow.artifacts import location_now, model_location, repository, run_location
from brainseg.tracking.mlflow.client_runs import (
    LOCAL_ID,
    LOCAL_PREFIX,
    MODEL_NAME,
    experiment_ids,
    find_local_run,
    find_model,
    find_run,
    quoted,
    search,
)
from brainseg.tracking.mlflow.database import artifacts_beside, set_artifact_location
from brainseg.tracking.mlflow.fence import FENCE_S, SupersededError, attempt_in
from brainseg.tracking.mlflow.model_folders import write_model_folder
from brainseg.tracking.mlflow.views import INSTALLED, view_tags
from brainseg.tracking.paths import TrackingPaths, sqlite_path
from brainseg.tracking.rules import FAILURE, RUNNING, STATE
from brainseg.tracking.spool.spool import Record, Spool

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.store.artifact.artifact_repo import ArtifactRepository

MODEL_DIGEST = "brainseg.sha256"  # tag of the logged model: of the .keras file that it was made from
# Opens the experiment in the UI's pages for model training, not in those for language models.
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
BATCH_SIZE = 100  # MLflow's limit of parameters, and of tags, a request
TRIAL_TAGS = {"sweep_id", "trial"}  # by which the run of a trial is found
DIGEST_LENGTH = 36  # MLflow's limit

Item = TypeVar("Item")


class LostFileError(Exception):
    """A file is no longer in the spool, so that its record can never be delivered."""


@dataclass(frozen=True, kw_only=True)
class _Known:
    """What the store already has of the run; read again after a failure."""

    params: set[str]
    tags: set[str]
    points: set[tuple[str, int]]  # (metric, epoch)


class RunWriter:
    """Writes the records of one MLflow run. Writing a record again changes nothing."""

    def __init__(self, client: "MlflowClient", mlflow_id: str, *, attempt: int = 0) -> None:
        """attempt: at which this process holds the run; 0 for a run that no other process may take over."""
        self.mlflow_id = mlflow_id
        self._attempt = attempt
        self._fence_read_at = float("-inf")
        self._client = client
        self._known: _Known | None = None
        self._writers: dict[str, Callable[[Record, Spool], None]] = {
            "open": lambda record, spool: None,  # names the run; `writer_for` has read it
            "begin": self._begin,
            "params": self._params,
            "tags": self._tags,
            "dataset": self._dataset,
            "metrics": self._metrics,
            "file": self._file,
            "model": self._model,
            "end": self._end,
        }

    def write(self, record: Record, spool: Spool) -> None:
        """Makes the record's calls. Raises what MLflow raises; the record may then have arrived or not.

        Raises SupersededError, with nothing written, where a later attempt holds the run.
        """
        self._check_fence()
        try:
            self._writers[record.kind](record, spool)
        except Exception:
            self._known = None
            raise

    def _check_fence(self) -> None:
        if self._attempt and time.monotonic() - self._fence_read_at > FENCE_S:
            latest = attempt_in(self._client.get_run(self.mlflow_id).data.tags)
            if latest > self._attempt:
                raise SupersededError(f"attempt {latest} writes the run, and this one is {self._attempt}")
            self._fence_read_at = time.monotonic()

    def _known_now(self) -> _Known:
        if self._known is None:
            run = self._client.get_run(self.mlflow_id)
            points = {
                (key, point.step)
                for key in run.data.metrics
                for point in self._client.get_metric_history(self.mlflow_id, key)
            }
            self._known = _Known(params=set(run.data.params), tags=set(run.data.tags), points=points)
        return self._known

    @functools.cached_property
    def _artifacts(self) -> "ArtifactRepository":
        uri = self._client.tracking_uri
        return repository(run_location(self._client.get_run(self.mlflow_id), uri=uri), uri=uri)

    def _begin(self, record: Record, spool: Spool) -> None:
        known = self._known_now()
        if FAILURE in known.tags:
            self._client.delete_tag(self.mlflow_id, FAILURE)
            known.tags.discard(FAILURE)
        self._set_tags({**record.body["tags"], STATE: RUNNING.lower()})
        self._client.update_run(self.mlflow_id, status=RUNNING)

    def _params(self, record: Record, spool: Spool) -> None:
        from mlflow.entities import Param

        known = self._known_now()
        new = {key: value for key, value in record.body["params"].items() if key not in known.params}
        for part in _parts(list(new.items())):
            self._client.log_batch(self.mlflow_id, params=[Param(key, value) for key, value in part])
        known.params.update(new)

    def _tags(self, record: Record, spool: Spool) -> None:
        self._set_tags(record.body["tags"])

    def _set_tags(self, tags: dict[str, str]) -> None:
        from mlflow.entities import RunTag

        for part in _parts(list(tags.items())):
            self._client.log_batch(self.mlflow_id, tags=[RunTag(key, value) for key, value in part])
        self._known_now().tags.update(tags)

    def _dataset(self, record: Record, spool: Spool) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        body = record.body
        dataset = Dataset(
            name=body["name"],
            digest=body["fingerprint"][:DIGEST_LENGTH],
            source_type="local",
            source=json.dumps({"uri": body["source"]}),
            profile=json.dumps({"slices": body["slices"], "patients": body["patients"]}),
        )
        context = InputTag("mlflow.data.context", "training")
        self._client.log_inputs(self.mlflow_id, [DatasetInput(dataset=dataset, tags=[context])])

    def _metrics(self, record: Record, spool: Spool) -> None:
        from mlflow.entities import Metric

        known, epoch = self._known_now(), record.body["epoch"]
        new = {key: value for key, value in record.body["metrics"].items() if (key, epoch) not in known.points}
        if new:
            time_ms = record.body["time_ms"]
            self._client.log_batch(
                self.mlflow_id, metrics=[Metric(key, value, time_ms, epoch) for key, value in new.items()]
            )
        known.points.update((key, epoch) for key in new)

    def _file(self, record: Record, spool: Spool) -> None:
        self._artifacts.log_artifact(str(_copied(record, spool)), record.body["folder"] or None)

    def _model(self, record: Record, spool: Spool) -> None:
        """One logged model a run: found again by its run and name, and left alone where its digest is the same."""
        from mlflow.entities import LoggedModelOutput, LoggedModelStatus

        keras_file = _copied(record, spool)
        digest = hashlib.sha256(keras_file.read_bytes()).hexdigest()
        run = self._client.get_run(self.mlflow_id)
        model = find_model(self._client, run) or self._client.create_logged_model(
            run.info.experiment_id, name=MODEL_NAME, source_run_id=self.mlflow_id, params=dict(run.data.params)
        )
        outputs = run.outputs.model_outputs if run.outputs else []
        if model.model_id not in {output.model_id for output in outputs}:
            self._client.log_outputs(self.mlflow_id, [LoggedModelOutput(model.model_id, step=0)])
        if model.status == LoggedModelStatus.READY and model.tags.get(MODEL_DIGEST) == digest:
            return
        with tempfile.TemporaryDirectory(dir=spool.folder) as temporary:
            folder = Path(temporary, MODEL_NAME)
            with temporary_files_in(Path(temporary)):
                write_model_folder(keras_file, folder, model=model, run_id=self.mlflow_id)
            uri = self._client.tracking_uri
            repository(model_location(model, uri=uri), uri=uri).log_artifacts(str(folder))
        self._client.set_logged_model_tags(model.model_id, {MODEL_DIGEST: digest})
        self._client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)

    def _end(self, record: Record, spool: Spool) -> None:
        body = record.body
        failure = {FAILURE: body["failure"]} if body["failure"] is not None else {}
        self._set_tags({STATE: body["state"], **failure})
        self._client.set_terminated(self.mlflow_id, body["status"], body["time_ms"])


def _copied(record: Record, spool: Spool) -> Path:
    """The spool's copy of the record's file. Raises LostFileError where somebody deleted it."""
    path = spool.path_of(record)
    if not path.exists():
        raise LostFileError(f"{path} was deleted")
    return path


def now_ms() -> int:
    """Milliseconds since 1970, as MLflow counts."""
    return int(time.time() * 1000)


def experiment_id(client: "MlflowClient", name: str, *, uri: str, paths: TrackingPaths) -> str:
    """The id of the experiment, which is created if there is none. Raises TrackingError if it was deleted."""
    from mlflow.exceptions import MlflowException

    found, path = client.get_experiment_by_name(name), sqlite_path(uri)
    if found is None:
        is_server = uri.startswith("http")
        folder = None if is_server else (artifacts_beside(path) if path else paths.artifacts).as_uri()
        try:
            tags = EXPERIMENT_TAGS | view_tags(time_ms=now_ms())
            return str(client.create_experiment(name, artifact_location=folder, tags=tags))
        except MlflowException as error:
            found = client.get_experiment_by_name(name)
            if found is None or error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise  # else another process was faster
    if found.lifecycle_stage != "active":
        raise TrackingError(
            f"tracking.experiment {name!r} is deleted in {mask(uri)}; "
            f"restore it with `mlflow experiments restore -x {found.experiment_id}` or name another"
        )
    location = location_now(found.artifact_location, of=f"experiment {name!r}", uri=uri)
    if path is not None and location != found.artifact_location:  # MLflow's own pages find the new runs' artifacts too
        set_artifact_location(path, int(found.experiment_id), location)
    if INSTALLED not in found.tags:  # made by an older brainseg, or by the user
        for key, value in view_tags(time_ms=now_ms()).items():
            client.set_experiment_tag(found.experiment_id, key, value)
    return str(found.experiment_id)


def _parts(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    for start in range(0, len(items), BATCH_SIZE):
        yield items[start : start + BATCH_SIZE]


def opening(body: dict[str, Any], client: "MlflowClient", *, uri: str, paths: TrackingPaths, attempt: int = 0) -> str:
    """The MLflow id of the run that an `open` record names; a new run that started offline is made here, once.

    Raises TrackingError where the store doesn't have the run, and SupersededError where a trial of a study started
    offline and has another run by now, of a later attempt on a host that couldn't know of this one.
    """
    if not body["is_new"] or not body["run_id"].startswith(LOCAL_PREFIX):
        return str(find_run(client, body["run_id"], uri=uri).info.run_id)
    found = find_local_run(client, body["run_id"])
    if found is not None:
        return str(found.info.run_id)
    if attempt:
        _check_trial(client, body["tags"], attempt=attempt)
    experiment = experiment_id(client, body["experiment"], uri=uri, paths=paths)
    tags = {**body["tags"], LOCAL_ID: body["run_id"]}
    run = client.create_run(experiment, start_time=body["time_ms"], run_name=body["name"], tags=tags)
    return str(run.info.run_id)


def _check_trial(client: "MlflowClient", tags: Mapping[str, str], *, attempt: int) -> None:
    """Raises SupersededError where a later attempt of the trial that the tags identify has a run of its own."""
    if not tags.keys() >= TRIAL_TAGS:
        return
    same = " and ".join(f"tags.`{tag}` = {quoted(tags[tag])}" for tag in sorted(TRIAL_TAGS))
    runs = search(client, experiment_ids(client, None, uri=""), same, order=[])
    latest = max((attempt_in(run.data.tags) for run in runs), default=0)
    if latest > attempt:
        raise SupersededError(f"attempt {latest} writes the run of this trial, and this one is {attempt}")
