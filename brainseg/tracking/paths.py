"""Where records go: the folders under `tracking.root`, and the URI and name of the store."""

import contextlib
import os
import shlex
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from brainseg.cli.output import disk_or
from brainseg.cli.secrets import mask
from brainseg.config import TrackingConfig
from brainseg.errors import TrackingError

SQLITE = "sqlite:///"
SCHEMES = ("sqlite", "http", "https", "postgresql", "mysql", "mssql")
ENVIRONMENT_KEY = "MLFLOW_TRACKING_URI"
EXPERIMENT_KEY = "MLFLOW_EXPERIMENT_NAME"
EXPERIMENT = "brainseg"
SERVER = "server"  # as `tracking.uri`: the server of `tracking.root` itself, which `sweep serve` runs
SERVICE = "brainseg"  # its name for libpq, which reads address and password in a file at every connection
SERVICE_FILE_KEY = "PGSERVICEFILE"  # names that file
SERVER_URI = f"postgresql+psycopg2:///mlflow?service={SERVICE}"
MANIFEST = "run.json"  # in the checkpoint folder of a run: how it was started; `store` is its `store_name`
HOLDER = "lease.json"  # there as well: which process trains, or has trained last
HOLDER_LOCK = "lease.lock"  # and the lock that it holds
OTHERS = 0o077  # what the mode of a file allows to other users than its owner
_replaced: list[int] = []  # the umasks that `kept_private` has replaced for now, the user's own first


@dataclass(frozen=True, kw_only=True)
class TrackingPaths:
    """The folders under `tracking.root`."""

    root: Path  # absolute

    @property
    def database(self) -> Path:
        """MLflow's SQLite database, unless `tracking.uri` names another store."""
        return self.root / "mlflow.db"

    @property
    def artifacts(self) -> Path:
        """Figures, scores and models of runs in the SQLite database."""
        return self.root / "artifacts"

    @property
    def spool(self) -> Path:
        """Records that the store hasn't taken yet, a folder a run."""
        return self.root / "spool"

    @property
    def server_address(self) -> Path:
        """Where the root's own server is now; gone while none runs, unless it was killed."""
        return self.root / "server" / "address.conf"

    @property
    def checkpoints(self) -> Path:
        """Checkpoints of runs that haven't finished, a folder a run."""
        return self.root / "checkpoints"


def tracking_paths(config: TrackingConfig) -> TrackingPaths:
    """Resolves `tracking.root` from the current directory."""
    return TrackingPaths(root=Path(config.root).expanduser().absolute())


def resolve_uri(config: TrackingConfig) -> str:
    """The store's URI, absolute: `tracking.uri`, else MLFLOW_TRACKING_URI, else mlflow.db under `tracking.root`.

    For SERVER, libpq is told where the file is.
    Raises TrackingError for a URI that brainseg can't use; passwords in it are masked.
    """
    if config.uri is not None:
        return _checked("tracking.uri", config.uri, config)
    if os.environ.get(ENVIRONMENT_KEY):
        return _checked(ENVIRONMENT_KEY, os.environ[ENVIRONMENT_KEY], config)
    return _checked("tracking.root", f"{SQLITE}{tracking_paths(config).database}", config)


def experiment_in_effect(config: TrackingConfig, *, parent: str | None = None) -> str:
    """The MLflow experiment of new runs: `tracking.experiment`, else MLFLOW_EXPERIMENT_NAME, else that of their parent.

    parent: the experiment of the run that they are listed under; without any of these, it is EXPERIMENT.
    """
    return config.experiment or os.environ.get(EXPERIMENT_KEY) or parent or EXPERIMENT


def check_root(config: TrackingConfig) -> None:
    """Raises TrackingError unless `tracking.root` is a folder that can be written to, or can be created as one, and
    DiskError where its disk is full or broken.

    With `tracking.private` also where other users can look into it, or into the folder of the database.
    """
    paths = tracking_paths(config)
    existing = next(path for path in (paths.root, *paths.root.parents) if path.exists())
    if not existing.is_dir():
        raise TrackingError(f"tracking.root must be a folder, got the file {existing}; choose another")
    try:
        # Permissions alone don't tell: not for root, nor on a file system that is read-only or full.
        tempfile.TemporaryDirectory(prefix=".brainseg-", dir=existing).cleanup()
    except OSError as error:
        raise disk_or(TrackingError, error)(
            f"tracking.root must be a folder that can be written to, got {paths.root} ({error.strerror}); "
            "choose another with tracking.root=DIR"
        ) from error
    database = sqlite_path(resolve_uri(config))
    for folder in (paths.root, paths.root if database is None else database.parent):
        if config.private and folder.exists() and (mode := folder.stat().st_mode & 0o777) & OTHERS:
            raise TrackingError(
                f"tracking.private needs a folder that is closed to others, and {folder} has the mode {mode:o}; "
                f"close it with chmod -R go= {shlex.quote(str(folder))}, or choose another"
            )


@contextlib.contextmanager
def kept_private(config: TrackingConfig, folder: Path | None = None) -> Iterator[None]:
    """With `tracking.private`, files that are made inside have the mode 0600, and folders 0700.

    folder: what is made lies there; if that is outside of `tracking.root`, which may be for several users, it has the
    modes of the user's other files.
    """
    if not config.private:
        yield
        return
    is_ours = folder is None or folder.expanduser().absolute().is_relative_to(tracking_paths(config).root)
    _replaced.append(os.umask(OTHERS))
    try:
        if not is_ours:
            os.umask(_replaced[0])
        yield
    finally:
        os.umask(_replaced.pop())


def sqlite_path(uri: str) -> Path | None:
    """The database file of an SQLite URI, None for any other."""
    return Path(uri.removeprefix(SQLITE)) if uri.startswith(SQLITE) else None


def store_name(uri: str) -> str:
    """The store's URI without what two users of the same store may write differently: login, driver and options."""
    if sqlite_path(uri) is not None:
        return uri
    scheme, _, rest = uri.partition("://")
    return f"{scheme.partition('+')[0]}://{rest.rpartition('@')[2].partition('?')[0].rstrip('/')}"


def is_same_store(recorded: str, uri: str) -> bool:
    """Whether a recorded `store_name` or masked URI means this store.

    A database file counts by its name alone: it may have moved, together with the folder that names it.
    """
    before, now = sqlite_path(recorded), sqlite_path(uri)
    if before is not None and now is not None:
        return before.name == now.name
    return store_name(recorded) == store_name(uri)


def _checked(key: str, uri: str, config: TrackingConfig) -> str:
    if uri in (SERVER, SERVER_URI):
        os.environ[SERVICE_FILE_KEY] = str(tracking_paths(config).server_address)
        return SERVER_URI
    scheme = uri.partition("://")[0].partition("+")[0] if "://" in uri else ""
    if scheme not in SCHEMES:
        raise TrackingError(
            f"{key} must start with one of {', '.join(f'{name}://' for name in SCHEMES)}, got {mask(uri)!r}; "
            f"leave it out for {SQLITE}{tracking_paths(config).database}"
        )
    if scheme != "sqlite":
        return uri
    name = uri.removeprefix(SQLITE)
    if not uri.startswith(SQLITE) or not name or ":memory:" in name:
        raise TrackingError(f"{key} must name an SQLite file, got {mask(uri)!r}; write {SQLITE}FOLDER/mlflow.db")
    if "?" in name or "%" in name:  # MLflow and SQLAlchemy read these as options and escapes, each in its own way
        raise TrackingError(f"{key} must not hold ? or % in an SQLite path, got {mask(uri)!r}; choose another folder")
    return f"{SQLITE}{Path(name).expanduser().absolute()}"
