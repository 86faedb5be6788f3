"""Where MLflow's own environment puts new runs: the run that MLFLOW_RUN_ID names, and the one that is open here."""

import dataclasses
import logging
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

from brainseg.cli.secrets import mask
from brainseg.config import TrackingConfig
from brainseg.errors import ResumeError, TrackingError
from brainseg.tracking.mlflow.client_runs import check_database, experiment_name, find_run
from brainseg.tracking.mlflow.connection import UnreachableError, reached, store_errors
from brainseg.tracking.paths import EXPERIMENT_KEY, experiment_in_effect, resolve_uri
from brainseg.tracking.rules import STATE, UnknownRunError

RUN_KEY = "MLFLOW_RUN_ID"
ID_KEY = "MLFLOW_EXPERIMENT_ID"

logger = logging.getLogger("brainseg")


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where new runs are recorded."""

    tracking: TrackingConfig  # with the experiment in effect
    run_id: str | None = None  # of a single run, where MLflow has made it already
    tags: Mapping[str, str] = field(default_factory=dict)  # `parent`, where they have one


def place_of_runs(tracking: TrackingConfig, *, is_single: bool) -> Place:
    """Where new runs are recorded: under the run that MLFLOW_RUN_ID names, else under the one that is open here.

    is_single: there is but one, which is the named run itself. What is started from here doesn't see the variable.
    Raises TrackingError where the store doesn't have the named run, and ResumeError where that was trained before.
    """
    named = os.environ.pop(RUN_KEY, None)
    run_id = named or _open_run()
    if not run_id:
        return place_under(tracking, tags={}, experiment=None)
    try:
        tags, experiment = _read(tracking, run_id)
    except UnknownRunError as error:
        if named:
            raise UnknownRunError(f"{RUN_KEY}: {error}") from error
        logger.warning("the open run %s is in another store than this one, which has no parent therefore", run_id)
        return place_under(tracking, tags={}, experiment=None)
    if not named or not is_single:
        return place_under(tracking, tags={"parent": run_id}, experiment=experiment)
    if STATE in tags:
        raise ResumeError(f"{RUN_KEY} names a run that was trained before; unset it, or add resume={run_id}")
    return Place(tracking=dataclasses.replace(tracking, experiment=experiment), run_id=run_id)


def place_under(tracking: TrackingConfig, *, tags: Mapping[str, str], experiment: str | None) -> Place:
    """Where runs with these tags are recorded. experiment: that of their parent, in case that none is named."""
    in_effect = experiment_in_effect(with_experiment_of_id(tracking), parent=experiment)
    return Place(tracking=dataclasses.replace(tracking, experiment=in_effect), tags=tags)


def with_experiment_of_id(tracking: TrackingConfig) -> TrackingConfig:
    """With the experiment that MLFLOW_EXPERIMENT_ID means, where none is named and MLflow itself uses this store.

    Raises TrackingError where the store doesn't have it, or can't be asked.
    """
    experiment_id = os.environ.get(ID_KEY)
    if not experiment_id or tracking.experiment or os.environ.get(EXPERIMENT_KEY) or not _is_mlflows_own(tracking):
        return tracking
    uri = resolve_uri(tracking)
    try:
        client = reached(uri)
        with store_errors(uri):
            name = experiment_name(client, experiment_id)
    except UnreachableError as error:
        if not tracking.offline:
            raise
        raise TrackingError(f"{ID_KEY} can't be looked up offline; set {EXPERIMENT_KEY} to the name") from error
    if name is None:
        raise TrackingError(
            f"{ID_KEY}: no experiment {experiment_id!r} in {mask(uri)}; unset it, or name one by tracking.experiment"
        )
    return dataclasses.replace(tracking, experiment=name)


def _is_mlflows_own(tracking: TrackingConfig) -> bool:
    """Whether it is the store that MLflow's own functions use here: an id means another experiment in another store."""
    import mlflow

    try:
        return resolve_uri(dataclasses.replace(tracking, uri=mlflow.get_tracking_uri())) == resolve_uri(tracking)
    except TrackingError:  # brainseg has no use for the store that MLflow uses
        return False


def _open_run() -> str | None:
    """The run that a caller in this thread has started by `mlflow.start_run`."""
    mlflow = sys.modules.get("mlflow")  # who has opened a run has imported it
    run = None if mlflow is None else mlflow.active_run()
    return None if run is None else str(run.info.run_id)


def _read(tracking: TrackingConfig, run_id: str) -> tuple[Mapping[str, str], str | None]:
    """The tags of a run, and the name of its experiment; nothing of them where an offline run can't ask."""
    uri = resolve_uri(tracking)
    check_database(run_id, uri=uri)
    try:
        client = reached(uri)
        with store_errors(uri):
            run = find_run(client, run_id, uri=uri)
            return run.data.tags, str(client.get_experiment(run.info.experiment_id).name)
    except UnreachableError:
        if not tracking.offline:
            raise
        return {}, None
