"""Where commands and workers find the server of a `tracking.root`: a file that libpq reads at every connection.

The addresses below never change. Where the server is now, and its password, are in the file alone, which is written
anew whenever the server starts, on whatever host.
"""

import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from brainseg import compose
from brainseg.sweep.engine.storage import ADDRESS_OPTIONS, ENVIRONMENT_KEY, journal_path
from brainseg.sweep.study.study_rules import key_of
from brainseg.tracking.mlflow.connection import reason
from brainseg.tracking.paths import ENVIRONMENT_KEY as TRACKING_KEY
from brainseg.tracking.paths import SERVER, SERVICE, SERVICE_FILE_KEY, TrackingPaths, tracking_paths

STORAGE = f"postgresql+psycopg2:///studies?service={SERVICE}"  # beside MLflow's: they can't share a database


@dataclass(frozen=True)
class ServerFolder:
    """The folder `server` below `tracking.root`."""

    root: Path

    @property
    def file(self) -> Path:
        """Its address."""
        return TrackingPaths(root=self.root).server_address

    @property
    def path(self) -> Path:
        """The folder itself; it is there once the root has had a server."""
        return self.file.parent

    @property
    def data(self) -> Path:
        """PostgreSQL's."""
        return self.path / "data"

    @property
    def log(self) -> Path:
        """PostgreSQL's."""
        return self.path / "postgresql.log"

    def password(self) -> str:
        """The one that was made when it was first asked for. The file is its owner's alone."""
        path = self.path / "password"
        if not path.exists():
            write_secret(path, secrets.token_urlsafe(24))
        return path.read_text(encoding="utf-8")


def write_secret(path: Path, text: str) -> None:
    """Writes a file that its owner alone may read; others see the old one until it is whole."""
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    new.rename(path)


def service(values: Mapping[str, str]) -> str:
    """The file's content, as libpq reads it."""
    lines = [f"{key}={value}" for key, value in {"user": SERVICE, **ADDRESS_OPTIONS, **values}.items()]
    return "\n".join([f"[{SERVICE}]", *lines, ""])


def at_server(
    tracking: Sequence[str], where: str | None, *, name: str | None, is_wanted: bool = False
) -> tuple[tuple[str, ...], str | None]:
    """The overrides of tracking.*, and the storage, with those of the root's own server where none is named.

    name: of the study; one that has a journal stays in it. is_wanted: also where the root has had no server yet.
    """
    folder = server_folder(tracking)
    named = where or os.environ.get(ENVIRONMENT_KEY)
    is_ours = is_wanted or folder.path.is_dir()
    if name is not None and journal_path(folder.root, name).exists():
        is_ours = False
    if named not in (None, STORAGE) or (named is None and not is_ours):
        return tuple(tracking), where
    os.environ[SERVICE_FILE_KEY] = str(folder.file)
    is_named = os.environ.get(TRACKING_KEY) or any(key_of(item) == "tracking.uri" for item in tracking)
    return (*tracking, *([] if is_named else [f"tracking.uri={SERVER}"])), STORAGE


def server_folder(tracking: Sequence[str]) -> ServerFolder:
    """The folder of the root that these overrides name."""
    return ServerFolder(tracking_paths(compose.freeze(list(tracking)).tracking).root)


def database_of(address: str) -> str:
    """The name of the database."""
    return address.rpartition("/")[2].partition("?")[0]


def why_away(address: str = STORAGE) -> str | None:
    """Why the server doesn't answer, in a few words; None where it does."""
    from sqlalchemy import create_engine
    from sqlalchemy.exc import SQLAlchemyError
    from sqlalchemy.pool import NullPool

    try:
        create_engine(address, poolclass=NullPool).connect().close()
    except (SQLAlchemyError, ImportError) as error:
        return reason(error)
    return None
