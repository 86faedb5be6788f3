"""The tags that MLflow shows in columns of their own, by brainseg's names (see `Tracker.set_tags`) and by MLflow's."""

import getpass
import sys
from collections.abc import Mapping
from pathlib import Path

MLFLOW_NAMES = {
    "source": "mlflow.source.name",
    "git_commit": "mlflow.source.git.commit",
    "parent": "mlflow.parentRunId",
    "description": "mlflow.note.content",
}


def to_mlflow(tags: Mapping[str, str]) -> dict[str, str]:
    """The tags under the names by which MLflow stores them."""
    return {MLFLOW_NAMES.get(key, key): value for key, value in tags.items()}


def from_mlflow(tags: Mapping[str, str]) -> dict[str, str]:
    """The tags as brainseg's readers get them; those that MLflow keeps for itself keep their names."""
    shown = {ours: tags[theirs] for ours, theirs in MLFLOW_NAMES.items() if theirs in tags}
    return {key: value for key, value in tags.items() if key not in MLFLOW_NAMES.values()} | shown


def origin_tags() -> dict[str, str]:
    """Which user and program make a run, for the columns Source and User of the MLflow UI."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        user = "unknown"
    program = Path(sys.argv[0]).name if sys.argv and sys.argv[0] else "python"
    return {"mlflow.user": user, "mlflow.source.name": program, "mlflow.source.type": "LOCAL"}
