"""Finds and lists runs through MLflow's client, in any store."""

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, Any

from brainseg.cli.secrets import mask
from brainseg.errors import TrackingError
from brainseg.parsing import parse_json
from brainseg.tracking.listing import FINISHED, PARENT, ROLE, UnknownExperimentError, is_parent
from brainseg.tracking.mlflow.tags import from_mlflow, to_mlflow
from brainseg.tracking.paths import sqlite_path
from brainseg.tracking.protocol import DatasetInfo, RunFilter, RunList, RunSummary
from brainseg.tracking.rules import STATE, UnknownRunError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, LoggedModel, Run
    from mlflow.entities.model_registry import RegisteredModel

LOCAL_ID = "local_id"  # tag: the id of a run that started offline
LOCAL_PREFIX = "local-"
MODEL_NAME = "model"
PAGE = 1000  # runs a request, at most
REQUESTS = 8  # at once
# MLflow sorts every run that fulfils a condition, which takes seconds for ten thousand; so the first questions are
# for high scores alone. The answer is right for any metric, and quick for one between 0 and 1.
FLOORS = (0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.6)


def experiment_ids(client: "MlflowClient", name: str | None, *, uri: str) -> list[str]:
    """The ids of the experiments of this name, or of all for None. Raises UnknownExperimentError."""
    found = {experiment.name: str(experiment.experiment_id) for experiment in _experiments(client)}
    if name is None:
        return list(found.values())
    if name not in found:
        raise UnknownExperimentError(name, list(found), uri=uri)
    return [found[name]]


def experiment_name(client: "MlflowClient", experiment_id: str) -> str | None:
    """The name of the experiment of this id; None where the store doesn't have it."""
    found = (experiment for experiment in _experiments(client) if str(experiment.experiment_id) == experiment_id)
    return next((str(experiment.name) for experiment in found), None)


def check_database(run_id: str, *, uri: str) -> None:
    """Raises UnknownRunError where the store is a database file that isn't there: asking would make it."""
    path = sqlite_path(uri)
    if path is not None and not path.exists():
        raise UnknownRunError(f"no run {run_id!r}, since there is no {path}; check tracking.root and tracking.uri")


def find_run(client: "MlflowClient", run_id: str, *, uri: str) -> "Run":
    """The MLflow run of this id, MLflow's own or a local one.

    Raises UnknownRunError where the store doesn't have it, and TrackingError where it has it deleted.
    """
    from mlflow.exceptions import MlflowException

    if run_id.startswith(LOCAL_PREFIX):
        run = find_local_run(client, run_id)
    else:
        try:
            run = client.get_run(run_id)
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
            run = None
    if run is None:
        raise UnknownRunError(f"no run {run_id!r} in {mask(uri)}; see the MLflow UI for the ids, or check tracking.uri")
    if run.info.lifecycle_stage != "active":
        raise TrackingError(
            f"run {run_id!r} is deleted in {mask(uri)}; "
            f"restore it with `mlflow runs restore --run-id {run.info.run_id}`"
        )
    return run


def find_local_run(client: "MlflowClient", local_id: str) -> "Run | None":
    """The MLflow run with this local id; None before `sync` has created it."""
    condition = f"tags.{LOCAL_ID} = '{local_id}'"
    return next(search(client, experiment_ids(client, None, uri=""), condition, order=[], page=1), None)


def find_model(client: "MlflowClient", run: "Run") -> "LoggedModel | None":
    """The run's logged model, whole or still being uploaded."""
    found = client.search_logged_models(
        [run.info.experiment_id], filter_string=f"source_run_id = '{run.info.run_id}' AND name = '{MODEL_NAME}'"
    )
    return found[0] if found else None


def find_registered(client: "MlflowClient", name: str) -> "RegisteredModel | None":
    """The registered model of this name."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


def registered_models(client: "MlflowClient") -> "Iterator[RegisteredModel]":
    """All registered models of the store, brainseg's and others."""
    return _of_pages(lambda token: client.search_registered_models(page_token=token))


def dataset_of(run: "Run") -> DatasetInfo | None:
    """The data set that `log_dataset` recorded; None for one that other software recorded, or none at all."""
    for item in run.inputs.dataset_inputs if run.inputs else ():
        try:
            profile, source = parse_json(item.dataset.profile), parse_json(item.dataset.source)
            return DatasetInfo(
                name=item.dataset.name,
                # MLflow has but the start of it.
                fingerprint=run.data.tags.get("data_fingerprint", item.dataset.digest),
                source=source["uri"],
                slices=profile["slices"],
                patients=profile["patients"],
            )
        except (ValueError, TypeError, KeyError):
            continue
    return None


def overview(
    client: "MlflowClient",
    which: RunFilter,
    experiments: list[str],
    *,
    rank_by: str,
    total_of: str,
    limit: int | None,
) -> RunList:
    """`RunStore.overview` over the experiments with these ids. Raises what MLflow raises."""
    more = None if limit is None else limit + 1  # tells whether there are more

    def first(condition: str, order: list[str]) -> "list[Run]":
        wanted = " and ".join([condition, *_conditions(which)])
        found = search(client, experiments, wanted, order=order, page=min(more or PAGE, PAGE))
        # Here, since an older MLflow can't ask for the runs without a tag.
        return list(islice((run for run in found if is_parent(run.data.tags) == which.parents), more))

    def best() -> "list[Run]":
        condition, order = f"tags.`{STATE}` = '{FINISHED}'", [f"metrics.`{rank_by}` DESC", "attributes.start_time ASC"]
        for floor in FLOORS if more is not None else ():
            found = first(f"{condition} and metrics.`{rank_by}` >= {floor}", order)
            if len(found) == more:
                return found
        return first(condition, order)

    # A run without the tag `state` is in neither list.
    finished = best()
    others = first(f"tags.`{STATE}` != '{FINISHED}'", ["attributes.start_time DESC"])
    with ThreadPoolExecutor(REQUESTS) as pool:  # the history of a metric is a request for each run

        def summaries(runs: "list[Run]") -> tuple[RunSummary, ...]:
            return tuple(pool.map(lambda run: _summary(client, run, total_of=total_of), runs[:limit]))

        return RunList(
            finished=summaries(finished),
            others=summaries(others),
            more_finished=limit is not None and len(finished) > limit,
            more_others=limit is not None and len(others) > limit,
        )


def curves(client: "MlflowClient", runs: "Sequence[Run]", keys: Sequence[str]) -> list[dict[str, dict[int, float]]]:
    """Metric -> epoch -> value, of each run. Raises what MLflow raises."""

    def history(run: "Run") -> dict[str, dict[int, float]]:
        return {
            key: {
                point.step: float(point.value)
                for point in client.get_metric_history(run.info.run_id, key)
                if not math.isnan(point.value)
            }
            for key in keys
            if key in run.data.metrics
        }

    with ThreadPoolExecutor(REQUESTS) as pool:
        return list(pool.map(history, runs))


def quoted(value: str) -> str:
    """Quotes a text for MLflow's filters, which have no escapes."""
    return f'"{value}"' if "'" in value else f"'{value}'"


def _conditions(which: RunFilter) -> Iterator[str]:
    if which.id_start:
        key = f"tags.`{LOCAL_ID}`" if which.id_start.startswith(LOCAL_PREFIX) else "attributes.run_id"
        yield f"{key} LIKE {quoted(which.id_start + '%')}"
    for key, value in which.params.items():
        yield f"params.`{key}` = {quoted(value)}"
    for key, value in to_mlflow(which.tags).items():
        yield f"tags.`{key}` = {quoted(value)}"
    if which.parents:
        yield f"tags.`{ROLE}` = '{PARENT}'"


def search(
    client: "MlflowClient", experiments: list[str], wanted: str, *, order: list[str], page: int = PAGE
) -> "Iterator[Run]":
    """Yields every run in these experiments that fulfils an MLflow filter, and fetches pages as needed."""
    token = None
    while experiments:
        found = client.search_runs(experiments, wanted, max_results=page, order_by=order, page_token=token)
        yield from found
        token = found.token
        if not token:
            return


def _experiments(client: "MlflowClient") -> "Iterator[Experiment]":
    return _of_pages(lambda token: client.search_experiments(page_token=token))


def _of_pages(page: Callable[[str | None], Any]) -> Iterator[Any]:
    """What is on all pages; page: the one with this token."""
    token = None
    while True:
        found = page(token)
        yield from found
        token = found.token
        if not token:
            return


def _summary(client: "MlflowClient", run: "Run", *, total_of: str) -> RunSummary:
    metrics = {key: float(value) for key, value in run.data.metrics.items() if not math.isnan(value)}
    total = None
    if total_of in metrics:
        total = sum(float(point.value) for point in client.get_metric_history(run.info.run_id, total_of))
    return RunSummary(
        run_id=run.data.tags.get(LOCAL_ID, run.info.run_id),
        name=run.info.run_name,
        status=run.info.status,
        params=dict(run.data.params),
        tags=from_mlflow(run.data.tags),
        metrics=metrics,
        total=total,
    )
