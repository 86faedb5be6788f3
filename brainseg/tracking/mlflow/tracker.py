"""The tracker on MLflow: every record goes to the spool, and a thread delivers it."""

import contextlib
import logging
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from brainseg.cli.output import disk_or
from brainseg.cli.secrets import mask
from brainseg.config import TrackingConfig
from brainseg.errors import ResumeError, RunBusyError, TrackingError
from brainseg.tracking.mlflow.client_runs import LOCAL_ID, LOCAL_PREFIX, check_database, find_run
from brainseg.tracking.mlflow.connection import UnreachableError, connect, reached, reason, store_errors
from brainseg.tracking.mlflow.database import check_writable
from brainseg.tracking.mlflow.delivery import Delivery, deliver_until
from brainseg.tracking.mlflow.fence import attempt_in
from brainseg.tracking.mlflow.sync import sync_spools
from brainseg.tracking.mlflow.tags import origin_tags, to_mlflow
from brainseg.tracking.mlflow.writer import RunWriter, experiment_id, now_ms, opening
from brainseg.tracking.paths import (
    TrackingPaths,
    check_root,
    experiment_in_effect,
    resolve_uri,
    store_name,
    tracking_paths,
)
from brainseg.tracking.protocol import DatasetInfo
from brainseg.tracking.rules import (
    ATTEMPT,
    RUNNING,
    STATE,
    checked_folder,
    checked_metrics,
    checked_name,
    ending_of,
)
from brainseg.tracking.spool.spool import Source, Spool, SpoolBusyError, open_spool, spooled_runs

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

LEFTOVERS_S = 3.0  # what a start spends on delivering records of earlier runs, at most
BEGIN_S = 3.0  # and on this run's own first records
RESUME_WAIT_S = 3.0  # a `sync` may hold the run for a moment

logger = logging.getLogger("brainseg")


class MlflowTracker:
    """A `Tracker` whose records reach MLflow through a spool on the local disk. Opened by `open_tracker`."""

    def __init__(
        self,
        spool: Spool,
        delivery: Delivery,
        *,
        store: str,
        attempt: int,
        monitor: "SystemMetricsMonitor | None",
    ) -> None:
        """Used by `open_tracker`."""
        self._attempt = attempt
        self._run_id = spool.run_id
        self._spool = spool
        self._delivery = delivery
        self._store = store
        self._monitor = monitor
        self._lost: list[str] = []
        self._inside = False
        self._own_state: str | None = None

    @property
    def run_id(self) -> str:
        return self._run_id

    @property
    def store(self) -> str:
        return self._store

    @property
    def attempt(self) -> int:
        return self._attempt

    @property
    def unwritten(self) -> tuple[str, ...]:
        return () if self._delivery.is_superseded else (*self._lost, *self._delivery.refused)

    @property
    def undelivered(self) -> int:
        return self._delivery.undelivered

    @property
    def problem(self) -> str:
        """Why delivery last failed, in one line; empty if it never did."""
        return self._delivery.problem

    def log_params(self, params: Mapping[str, Any]) -> None:
        self._append("params", {"params": {key: str(value) for key, value in params.items()}}, "parameters")

    def set_tags(self, tags: Mapping[str, str]) -> None:
        self._own_state = tags.get(STATE, self._own_state)
        self._append("tags", {"tags": to_mlflow(tags)}, f"tags {', '.join(tags)}")

    def log_dataset(self, dataset: DatasetInfo) -> None:
        body = {
            "name": dataset.name,
            "fingerprint": dataset.fingerprint,
            "source": dataset.source,
            "slices": dataset.slices,
            "patients": dataset.patients,
        }
        self._append("dataset", body, f"data set {dataset.name}")

    def log_metrics(self, metrics: Mapping[str, float], *, epoch: int) -> None:
        body = {"epoch": epoch, "metrics": checked_metrics(metrics, epoch=epoch), "time_ms": now_ms()}
        self._append("metrics", body, f"metrics of epoch {epoch}")

    def log_text(self, text: str, name: str) -> None:
        self._append_named(name, text.encode())

    def log_file(self, path: Path, folder: str = "") -> None:
        self._append_file("file", path, path.name, folder=checked_folder(folder))

    def log_made(self, name: str, make: Callable[[Path], None]) -> None:
        """Has the file written into the spool itself."""
        self._append_named(name, make)

    def log_model(self, source: Path | Callable[[Path], None]) -> None:
        """Spools the `.keras` file; the MLflow model is made from it when it is delivered."""
        self._append_file("model", source, "model.keras", folder="model")

    def __enter__(self) -> Self:
        self._inside = True
        self._delivery.start()
        if self._monitor is not None:
            self._monitor.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._monitor is not None:
            self._monitor.finish()
        ending = ending_of(error)
        state = self._own_state if error is None and self._own_state else ending.state
        failure = None if ending.failure is None else mask(ending.failure)
        body = {"status": ending.status, "state": state, "failure": failure, "time_ms": now_ms()}
        self._append("end", body, "how the run ended", last=True)
        self._inside = False
        self._delivery.finish()

    def _append(self, kind: str, body: Mapping[str, Any], what: str, *, last: bool = False) -> None:
        self._spooled(lambda: self._spool.append(kind, body, last=last), what)

    def _append_named(self, name: str, source: Source) -> None:
        path = PurePosixPath(checked_name(name))
        folder = "" if str(path.parent) == "." else str(path.parent)
        self._append_file("file", source, path.name, folder=folder)

    def _append_file(self, kind: str, source: Source, name: str, *, folder: str) -> None:
        what = str(PurePosixPath(folder, name))
        body = {"folder": folder, "name": what}
        self._spooled(lambda: self._spool.append_file(kind, source, name, body), what)

    def _spooled(self, append: Callable[[], None], what: str) -> None:
        if not self._inside:
            raise RuntimeError("a tracker may be used only inside its with block")
        if self._delivery.is_superseded:
            return
        try:
            append()
        except OSError as error:
            self._lost.append(f"{what}: {reason(error)}")
            logger.warning("%s can't be recorded (%s); the run goes on without", what, reason(error))
        self._delivery.wake()


def open_tracker(
    config: TrackingConfig, *, run_name: str, tags: Mapping[str, str], run_id: str | None = None, attempt: int = 0
) -> MlflowTracker:
    """Opens the tracker of a new run, or of an earlier one, which is then RUNNING again.

    run_name: empty for the name that an earlier run has. run_id: MLflow's or a local one. attempt: counted up by those
    who take the run over from one another, from 1; those before write nothing more. Records that earlier runs left in
    the spool are delivered on the way, as far as a few seconds allow.
    Raises TrackingError for a store that can't be used or doesn't have the run, and within 10 s for one
    that doesn't answer, unless `tracking.offline`; ResumeError where a process still writes the run, or a later
    attempt holds it; DiskError where the disk has no room for the record.
    """
    paths, uri = tracking_paths(config), resolve_uri(config)
    check_root(config)
    if run_id is not None and not run_id.startswith(LOCAL_PREFIX):
        check_database(run_id, uri=uri)
    check_writable(uri)
    body: dict[str, Any] = {
        "run_id": run_id,
        "is_new": run_id is None,
        "experiment": experiment_in_effect(config),
        "name": run_name,
        "tags": {
            **(origin_tags() if run_id is None else {}),
            **to_mlflow({**(config.tags or {}), **tags}),
            STATE: RUNNING.lower(),
            **({ATTEMPT: str(attempt)} if attempt else {}),
        },
        "uri": mask(uri),
        "time_ms": now_ms(),
    }
    client: MlflowClient | None = None
    try:
        client = reached(uri)
        with store_errors(uri, remedy="check run_name, tracking.experiment and tracking.tags"):
            body["run_id"] = _run_in_store(client, body, uri=uri, paths=paths)
    except UnreachableError as error:
        if not config.offline:
            raise
        client = None
        body["run_id"] = run_id or f"{LOCAL_PREFIX}{uuid.uuid4().hex[:16]}"
        logger.warning("%s; recording %s on this machine", reason(error).partition(";")[0], body["run_id"])
    spool = _open_spool(paths, body["run_id"], client if run_id is None else None)
    if spool.is_new:
        spool.append("open", body)
    spool.append("begin", {"tags": body["tags"]})
    opened = spool.first()
    assert opened is not None  # appended above, or by the process that made the spool

    def writer(client: "MlflowClient") -> RunWriter:
        mlflow_id = opening(dict(opened.body), client, uri=uri, paths=paths, attempt=attempt)
        return RunWriter(client, mlflow_id, attempt=attempt)

    delivery = Delivery(spool, lambda: writer(connect(uri)), where=mask(uri), attempt=attempt)
    if client is not None:
        _deliver_first(client, spool, writer, delivery, uri=uri, paths=paths)
    monitor = _monitor(client, body["run_id"]) if config.system_metrics else None
    return MlflowTracker(spool, delivery, store=store_name(uri), attempt=attempt, monitor=monitor)


def _monitor(client: "MlflowClient | None", run_id: str) -> "SystemMetricsMonitor | None":
    """MLflow's recorder of the machine's load, which writes to the store by itself; None for an offline run."""
    if client is None or run_id.startswith(LOCAL_PREFIX):
        logger.warning("tracking.system_metrics needs a store that answers at the start; %s goes on without", run_id)
        return None
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    return SystemMetricsMonitor(run_id, resume_logging=True, tracking_uri=client.tracking_uri)


def _run_in_store(client: "MlflowClient", body: Mapping[str, Any], *, uri: str, paths: TrackingPaths) -> str:
    """Creates a new run in the store, or finds an earlier one; brainseg's id of it."""
    run_id = body["run_id"]
    if run_id is None:
        experiment = experiment_id(client, body["experiment"], uri=uri, paths=paths)
        run = client.create_run(experiment, start_time=body["time_ms"], run_name=body["name"], tags=body["tags"])
        return str(run.info.run_id)
    if run_id in spooled_runs(paths.spool) and run_id.startswith(LOCAL_PREFIX):
        return str(run_id)  # the store has it once its `open` record is delivered
    run = find_run(client, run_id, uri=uri)
    latest, attempt = attempt_in(run.data.tags), attempt_in(body["tags"])
    if latest > attempt > 0:
        raise ResumeError(f"run {run_id} is written by its attempt {latest}, and this one is {attempt}; leave it alone")
    if attempt:
        client.set_tag(run.info.run_id, ATTEMPT, str(attempt))  # at once: the process before may still live
    if body["name"] and body["name"] != run.info.run_name:
        client.update_run(run.info.run_id, name=body["name"])
    return str(run.data.tags.get(LOCAL_ID, run.info.run_id))


def _open_spool(paths: TrackingPaths, run_id: str, maker: "MlflowClient | None") -> Spool:
    """Opens the run's spool. maker: the client that has just created the run, and deletes it if this fails."""
    try:
        return open_spool(paths.spool, run_id, wait_s=RESUME_WAIT_S)
    except SpoolBusyError:
        raise RunBusyError(f"run {run_id} is still being written by another process; wait for its end") from None
    except OSError as error:
        if maker is not None:
            with contextlib.suppress(Exception):  # the error below is the one to tell
                maker.delete_run(run_id)
        raise disk_or(TrackingError, error)(
            f"tracking.root must have room for the spool, got {paths.spool} ({reason(error)}); "
            "free some space or choose another with tracking.root=DIR"
        ) from error


def _deliver_first(
    client: "MlflowClient",
    spool: Spool,
    writer: "Callable[[MlflowClient], RunWriter]",
    delivery: Delivery,
    *,
    uri: str,
    paths: TrackingPaths,
) -> None:
    """Delivers this run's first records, so that the store shows it as running, then what earlier runs left."""
    try:
        delivery.writer = writer(client)
        delivery.refused += deliver_until(spool, delivery.writer, deadline=time.monotonic() + BEGIN_S, models=False)
        sync_spools(client, paths, uri=uri, deadline=time.monotonic() + LEFTOVERS_S, models=False)
    except Exception as error:  # the thread goes on with it, and says what is wrong
        logger.debug("records wait for the store: %s", reason(error))
