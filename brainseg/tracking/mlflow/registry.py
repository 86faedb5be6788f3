"""MLflow's model registry: models of runs as versions of the registered model `brainseg`, and aliases of these."""

import re
from typing import TYPE_CHECKING

import brainseg
from brainseg.config import TrackingConfig
from brainseg.errors import InputError
from brainseg.tracking.mlflow.artifacts import run_location
from brainseg.tracking.mlflow.client_runs import find_run
from brainseg.tracking.mlflow.connection import reached, store_errors
from brainseg.tracking.mlflow.database import check_writable
from brainseg.tracking.paths import resolve_uri
from brainseg.tracking.protocol import MADE_BY, REGISTERED_MODEL, ModelVersion, NewVersion

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion as MlflowVersion
    from mlflow.entities.model_registry import RegisteredModel

LONGEST_ALIAS = 255  # characters, as in MLflow


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

    def of_run(self, run_id: str) -> ModelVersion | None:
        mlflow_id = self._mlflow_id(run_id)
        with store_errors(self._uri):
            found = self._connected().search_model_versions(f"name = '{REGISTERED_MODEL}'")
        versions = [version for version in found if version.run_id == mlflow_id and MADE_BY in version.tags]
        return self._version(max(versions, key=lambda version: int(version.version))) if versions else None

    def with_alias(self, alias: str) -> ModelVersion | None:
        model = self._model()
        if model is None or alias not in model.aliases:
            return None
        with store_errors(self._uri):
            return self._version(self._connected().get_model_version(REGISTERED_MODEL, model.aliases[alias]))

    def register(self, run_id: str, new: NewVersion) -> ModelVersion:
        from mlflow.exceptions import MlflowException

        check_writable(self._uri)
        client = self._connected()
        with store_errors(self._uri):
            run = find_run(client, run_id, uri=self._uri)
            if self._model() is None:
                try:
                    client.create_registered_model(REGISTERED_MODEL)
                except MlflowException as error:  # another process was faster
                    if error.error_code != "RESOURCE_ALREADY_EXISTS":
                        raise
            made = client.create_model_version(
                REGISTERED_MODEL,
                f"{run_location(run, uri=self._uri)}/{new.artifact}",
                run_id=run.info.run_id,
                tags={**new.tags, MADE_BY: brainseg.__version__},
                description=new.description,
            )
            return self._version(made)

    def set_alias(self, alias: str, version: ModelVersion) -> None:
        check_writable(self._uri)
        with store_errors(self._uri):
            self._connected().set_registered_model_alias(REGISTERED_MODEL, alias, version.version)

    def _version(self, version: "MlflowVersion") -> ModelVersion:
        return ModelVersion(version=str(version.version), run_id=version.run_id or "", tags=dict(version.tags))

    def _model(self) -> "RegisteredModel | None":
        with store_errors(self._uri):
            found = self._connected().search_registered_models(f"name = '{REGISTERED_MODEL}'")
        return found[0] if found else None

    def _mlflow_id(self, run_id: str) -> str:
        with store_errors(self._uri):
            return str(find_run(self._connected(), run_id, uri=self._uri).info.run_id)

    def _connected(self) -> "MlflowClient":
        if self._client is None:
            self._client = reached(self._uri)
        return self._client


def open_registry(config: TrackingConfig) -> MlflowRegistry:
    """The registry in the store that `tracking` names. Raises TrackingError for a URI that can't be used."""
    return MlflowRegistry(resolve_uri(config))
