"""What a command asks about the store before a run starts: whether it answers, and how a person looks into it."""

import os
import shlex
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
    inside = path.is_relative_to(Path.cwd())
    shown = os.path.relpath(path) if inside else str(path)
    return f"mlflow ui --backend-store-uri {shlex.quote(f'sqlite:///{shown}')}"
