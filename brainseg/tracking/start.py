"""What a command asks about the store before a run starts: whether it answers, and how a person looks into it."""

import os
import shlex
import shutil
import sys
from pathlib import Path

from brainseg.config import TrackingConfig
from brainseg.tracking.connection import reached
from brainseg.tracking.home import check_root, home_of, mask, resolve_uri, sqlite_path


def check_store(config: TrackingConfig) -> None:
    """Tries the folder, and asks a server for a sign of life, before minutes are spent on the data; makes nothing.

    Raises TrackingError where `tracking.root` can't be written to, and within 10 s where a server doesn't
    answer, unless `tracking.offline`. A database file isn't touched: opening it would make it.
    """
    uri = resolve_uri(config)
    check_root(home_of(config))
    if sqlite_path(uri) is None and not config.offline:
        reached(uri, lambda client: client.search_experiments(max_results=1))


def where_to_look(config: TrackingConfig) -> str:
    """The command that opens the MLflow UI on the store, or the address of the server that is one."""
    uri = resolve_uri(config)
    path = sqlite_path(uri)
    if path is None:
        return mask(uri)
    return f"{_mlflow()} ui --backend-store-uri {shlex.quote(f'sqlite:///{_shown(path)}')}"


def _mlflow() -> str:
    """How a shell in this folder calls the mlflow of this Python, which may be in no activated environment."""
    program = Path(sys.executable).parent / "mlflow"
    found = shutil.which("mlflow")
    if not program.exists() or (found is not None and Path(found) == program):
        return "mlflow"
    return shlex.quote(_shown(program))


def _shown(path: Path) -> str:
    """The path as a person would type it here."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)
