"""Creates MLflow clients, and turns what they raise into errors of one line."""

import contextlib
import logging
import os
import shlex
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from brainseg.cli.output import disk_or
from brainseg.cli.secrets import mask
from brainseg.config import TrackingConfig
from brainseg.errors import DiskError, InputError, TrackingError, how_to_install
from brainseg.tracking.mlflow.client_runs import LOCAL_PREFIX
from brainseg.tracking.mlflow.database import half_made, prepare_database, what_is_wrong
from brainseg.tracking.paths import SERVER_URI, SERVICE_FILE_KEY, check_root, resolve_uri, sqlite_path, tracking_paths

if TYPE_CHECKING:
    from mlflow import MlflowClient

Result = TypeVar("Result")

UI_ADDRESS = "http://127.0.0.1:5000"  # where `mlflow ui` listens unless it is told otherwise
DATABASE_ATTEMPTS = 7  # of MLflow's, with pauses of 12 s in all: longer than START_PATIENCE_S
START_PATIENCE_S = 8.0  # how long a server may take to answer at the start of a run

# Without retries: the client's own (7, of up to 120 s each) would hold a run for minutes. What fails is
# spooled and sent again. Settings that the user made stay.
ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",  # nothing about a medical data set leaves the machine unasked
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_UV_AUTO_DETECT": "false",  # else a model gets the uv.lock of whatever folder this is
}

# The store has understood, and will say no again: sending these once more is no use.
REFUSALS = frozenset({"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "INVALID_STATE", "RESOURCE_ALREADY_EXISTS"})
# HTTP status -> what such a store says to everybody who asks like this, and the remedy.
DENIALS = {
    401: ("refused the login", "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"),
    403: ("denies this", "ask its administrator for the permission, or name another experiment: tracking.experiment"),
}
BUSY = (408, 429)  # of the statuses from 400 to 499, those that may be another answer later


class UnreachableError(TrackingError):
    """The store doesn't answer now."""


class FetchError(UnreachableError):
    """An artifact can't be fetched now; whether the run has it isn't known."""


def check_store(config: TrackingConfig) -> None:
    """Fails early, before minutes are spent on the data, where the store can't be used; creates nothing.

    Raises TrackingError where `tracking.root` can't be written to or psutil is missing, and within 10 s where a server
    refuses or doesn't answer; for the latter not with `tracking.offline`. A database file isn't opened, since that
    would create it.
    """
    uri = resolve_uri(config)
    check_root(config)
    if config.system_metrics and find_spec("psutil") is None:
        raise TrackingError(f"tracking.system_metrics needs psutil; {how_to_install('monitor')} adds it")
    if sqlite_path(uri) is None and not config.offline:
        reached(uri)


def reached(uri: str) -> "MlflowClient":
    """Connects to a store that answers. Raises UnreachableError within START_PATIENCE_S, TrackingError for a refusal.

    An SQLite database is created if there is none. A server is asked a question that changes nothing: it may answer
    when nobody waits any more.
    """
    import mlflow  # noqa: F401  # outside the time limit: a cold disk takes seconds

    def answering() -> "MlflowClient":
        client = connect(uri)
        client.search_experiments(max_results=1)
        return client

    with store_errors(uri):
        if sqlite_path(uri) is not None:
            return answering()  # a file needs no limit: creating it may take its time
        return _within(START_PATIENCE_S, answering)


def connect(uri: str) -> "MlflowClient":
    """A client of the store; creates an SQLite database if there is none.

    Raises TrackingError for a store that can't be used. A server is not asked anything yet.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from mlflow.store.db import utils
    from sqlalchemy.exc import SQLAlchemyError

    # It would try a database that is away for an hour, and every other store of this process would wait for it.
    utils.MAX_RETRY_COUNT = DATABASE_ATTEMPTS
    # It logs a traceback for a full disk and for each attempt at a database; what is raised is enough.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    path = sqlite_path(uri)
    address = uri if path is None else prepare_database(path)
    try:
        return MlflowClient(tracking_uri=address, registry_uri=address)
    except (MlflowException, SQLAlchemyError, ImportError) as error:
        text = reason(error)
        if path is not None and "found version None" in text:
            raise half_made(path, "its alembic_version is empty") from error
        if path is not None and (wrong := what_is_wrong(path, error)) is not None:
            raise wrong from error
        if "out-of-date" in text:
            remedy = f"back it up and run `mlflow db upgrade {mask(uri)}`"
        elif isinstance(error, ImportError):
            remedy = "install the database's driver, and name it in the address, as in postgresql+psycopg2://"
        else:
            remedy = "check tracking.uri"
        raise TrackingError(f"the tracking store {mask(uri)} can't be used ({text}); {remedy}") from error


@contextlib.contextmanager
def store_errors(uri: str, *, remedy: str = "check tracking.uri") -> Iterator[None]:
    """Raises what MLflow raises inside as TrackingError in one line: UnreachableError unless the store has refused.

    Where a full or broken disk is the cause, it is a DiskError.

    remedy: for a refusal that isn't one of the user.
    """
    try:
        yield
    except (InputError, DiskError):
        raise
    except Exception as error:
        path = sqlite_path(uri)
        if path is not None and (wrong := what_is_wrong(path, error)) is not None:
            raise wrong from error
        store, status, cause = f"the tracking store {mask(uri)}", _http_status(error), _system_error(error)
        if cause is not None and cause.filename is not None:
            raise disk_or(TrackingError, error)(
                f"{store} can't be used ({cause_of(error)}); check that there is space, and permission"
            ) from error
        if status in DENIALS:
            what, how = DENIALS[status]
            raise TrackingError(f"{store} {what} ({reason(error)}); {how}") from error
        if is_refusal(error) or (400 <= status < 500 and status not in BUSY):
            raise TrackingError(f"{store} refused this: {reason(error)}; {remedy}") from error
        raise UnreachableError(
            f"{store} can't be reached ({reason(error)}); "
            "start it, or set tracking.offline=true to record now and deliver later"
        ) from error


def is_refusal(error: Exception) -> bool:
    """Whether the store will never take this record. Anything else is worth another attempt, also a denial."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    if isinstance(error, MlflowException):
        return error.error_code in REFUSALS
    # Not connections, full disks and locked databases; but a ValueError from a broken model file.
    return not isinstance(error, (OSError, SQLAlchemyError, TrackingError))


def cause_of(error: BaseException) -> str:
    """`reason`, with the file or folder that the operating system complains about."""
    cause = _system_error(error)
    return reason(error) if cause is None or cause.filename is None else f"{cause.strerror}: {cause.filename}"


def reason(error: BaseException) -> str:
    """The cause in one short line without passwords: the operating system's message if there is one."""
    cause = _system_error(error)
    if cause is not None:
        return str(cause.strerror)
    lines = mask(str(error)).splitlines() or [type(error).__name__]
    text = lines[-1 if lines[0].endswith(":") else 0].strip()  # MLflow lists what failed below such a line
    return text if len(text) <= 200 or isinstance(error, InputError) else f"{text[:197]}..."  # ours end with a remedy


def _system_error(error: BaseException | None) -> OSError | None:
    """The operating system's error in a chain of causes."""
    while error is not None and not (isinstance(error, OSError) and error.strerror):
        error = error.__cause__ or error.__context__
    return error


def _http_status(error: Exception) -> int:
    """The status of a server's answer; 500 also where it gave none, 0 for an error that isn't MLflow's."""
    from mlflow.exceptions import MlflowException

    return error.get_http_status_code() if isinstance(error, MlflowException) else 0


def _within(seconds: float, function: Callable[[], Result]) -> Result:
    outcome: list[Result] = []
    errors: list[Exception] = []

    def call() -> None:
        try:
            outcome.append(function())
        except Exception as error:
            errors.append(error)

    # A daemon: a server that never answers must not hold the process at its end.
    thread = threading.Thread(target=call, name="brainseg-connect", daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not outcome:
        raise TimeoutError(f"no answer within {seconds:.0f} s")
    return outcome[0]


def where_to_look(config: TrackingConfig, *, run_id: str | None = None) -> str:
    """The address of MLflow's page of the run; where no server is known, the command that starts one, and the address.

    run_id: None, or that of a run which the store doesn't have yet: the address of the server, or the command, alone.
    """
    page = "" if run_id is None or run_id.startswith(LOCAL_PREFIX) else f"/#/runs/{run_id}"
    uri = resolve_uri(config)
    if uri.startswith(("http://", "https://")):
        return f"{mask(uri.rstrip('/'))}{page}"
    path = sqlite_path(uri)
    store = mask(uri) if path is None else f"sqlite:///{_shown(path)}"
    file = shlex.quote(_shown(tracking_paths(config).server_address))
    prefix = f"{SERVICE_FILE_KEY}={file} " if uri == SERVER_URI else ""
    return f"{prefix}{_mlflow()} ui --backend-store-uri {shlex.quote(store)}{page and f'  # {UI_ADDRESS}{page}'}"


def _mlflow() -> str:
    """How a shell calls this Python's mlflow, also outside an activated environment."""
    program = Path(sys.executable).parent / "mlflow"
    found = shutil.which("mlflow")
    if not program.exists() or (found is not None and Path(found) == program):
        return "mlflow"
    return shlex.quote(_shown(program))


def _shown(path: Path) -> str:
    """The path as a person would type it here."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)
