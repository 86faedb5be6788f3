"""MLflow's model registry: models of runs as versions of registered models, and aliases of these."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import brainseg
from brainseg.config import TrackingConfig
from brainseg.errors import InputError
from brainseg.tracking.mlflow.artifacts import run_location
from brainseg.tracking.mlflow.client_runs import find_registered, find_run
from brainseg.tracking.mlflow.connection import reached, store_errors
from brainseg.tracking.mlflow.database import check_writable
from brainseg.tracking.paths import resolve_uri
from brainseg.tracking.protocol import MADE_BY, ModelVersion, NewVersion

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion as MlflowVersion

LONGEST_ALIAS = 255  # characters, as in MLflow
LONGEST_NAME = 256


def check_name(name: str, *, called: str) -> None:
    """Raises InputError for a name of a registered model that MLflow, or its `models:/` addresses, don't take.

    called: where it was named, for the error.
    """
    if not name.strip(" .") or len(name) > LONGEST_NAME or not name.isprintable() or set(name) & set("/:?"):
        raise InputError(
            f"{called} can't name a registered model, got {name!r}: MLflow takes at most {LONGEST_NAME} characters, "
            "no /, : or ? and not dots alone; name another with --name NAME"
        )


def check_alias(alias: str) -> None:
    """Raises InputError, which names the option, for an alias that MLflow doesn't take."""
    if not re.fullmatch(r"[\w-]+", alias) or len(alias) > LONGEST_ALIAS:
        raise InputError(
            f"--alias must be letters, digits, _ and -, at most {LONGEST_ALIAS} of them, got {alias!r}; "
            "name it champion, say"
        )
    if alias.lower() == "latest" or re.fullmatch(r"v\d+", alias, re.IGNORECASE):
        raise InputError(f"--alias {alias} means a version itself in MLflow; name it champion, say")


class MlflowRegistry:
    """A `ModelRegistry` over MLflow. It connects when it is first asked for something."""

    def __init__(self, uri: str) -> None:
        """Used by `open_registry`."""
        self._uri = uri
        self._client: MlflowClient | None = None

    def name_for(self, run_id: str) -> str:
        with store_errors(self._uri):
            return str(self._connected().get_experiment(self._run(run_id).info.experiment_id).name)

    def of_run(self, run_id: str) -> Sequence[ModelVersion]:
        with store_errors(self._uri):
            found = self._connected().search_model_versions(f"run_id = '{self._run(run_id).info.run_id}'")
        made = [version for version in found if MADE_BY in version.tags]
        made.sort(key=lambda version: (version.creation_timestamp, int(version.version)))
        return [self._version(version) for version in made]

    def with_alias(self, name: str, alias: str) -> ModelVersion | None:
        with store_errors(self._uri):
            model = find_registered(self._connected(), name)
            if model is None or alias not in model.aliases:
                return None
            return self._version(self._connected().get_model_version(name, model.aliases[alias]))

    def with_number(self, name: str, number: str) -> ModelVersion | None:
        from mlflow.exceptions import MlflowException

        with store_errors(self._uri):
            try:
                return self._version(self._connected().get_model_version(name, number))
            except MlflowException as error:
                if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                    raise
                return None

    def register(self, run_id: str, new: NewVersion) -> ModelVersion:
        from mlflow.exceptions import MlflowException

        check_writable(self._uri)
        client = self._connected()
        with store_errors(self._uri):
            run = self._run(run_id)
            if find_registered(client, new.name) is None:
                try:
                    client.create_registered_model(new.name)
                except MlflowException as error:  # another process was faster
                    if error.error_code != "RESOURCE_ALREADY_EXISTS":
                        raise
            made = client.create_model_version(
                new.name,
                f"{run_location(run, uri=self._uri)}/{new.artifact}",
                run_id=run.info.run_id,
                tags={**new.tags, MADE_BY: brainseg.__version__},
                description=new.description,
            )
            return self._version(made)

    def set_alias(self, alias: str, version: ModelVersion) -> None:
        check_writable(self._uri)
        with store_errors(self._uri):
            self._connected().set_registered_model_alias(version.name, alias, version.version)

    def _version(self, version: "MlflowVersion") -> ModelVersion:
        number, run_id, tags = str(version.version), version.run_id or "", dict(version.tags)
        return ModelVersion(name=version.name, version=number, run_id=run_id, tags=tags)

    def _run(self, run_id: str) -> "Run":
        return find_run(self._connected(), run_id, uri=self._uri)

    def _connected(self) -> "MlflowClient":
        if self._client is None:
            self._client = reached(self._uri)
        return self._client


def open_registry(config: TrackingConfig) -> MlflowRegistry:
    """The registry in the store that `tracking` names. Raises TrackingError for a URI that can't be used."""
    return MlflowRegistry(resolve_uri(config))
