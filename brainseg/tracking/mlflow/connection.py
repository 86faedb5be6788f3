"""The one place where an MLflow client is made, and where its errors are sorted and put into words."""

import contextlib
import logging
import os
import shlex
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from brainseg.cli.secrets import mask
from brainseg.config import TrackingConfig
from brainseg.errors import TrackingError
from brainseg.tracking.home import check_root, home_of, resolve_uri, sqlite_path
from brainseg.tracking.mlflow.database import prepare_database

if TYPE_CHECKING:
    from mlflow import MlflowClient

Result = TypeVar("Result")

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


class UnreachableError(TrackingError):
    """The store doesn't answer; it may later."""


def connect(uri: str) -> "MlflowClient":
    """A client of the store; an SQLite database is made where there is none.

    Raises TrackingError for a store that can't be used. A server is not asked anything yet.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    # It logs a traceback for a full disk and for each attempt at a database; what is raised is enough.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    path = sqlite_path(uri)
    if path is not None:
        prepare_database(path)
    try:
        return MlflowClient(tracking_uri=uri, registry_uri=uri)
    except (MlflowException, SQLAlchemyError, ImportError) as error:
        text = reason(error)
        if "out-of-date" in text:
            remedy = f"back it up and run `mlflow db upgrade {mask(uri)}`"
        elif isinstance(error, ImportError):
            remedy = "install the database's driver"
        else:
            remedy = "check tracking.uri"
        raise TrackingError(f"the tracking store {mask(uri)} can't be used ({text}); {remedy}") from error


def reached(uri: str, ask: Callable[["MlflowClient"], Result]) -> tuple["MlflowClient", Result]:
    """A client and its first answer. Raises UnreachableError within START_PATIENCE_S, TrackingError for refusals."""
    import mlflow  # noqa: F401  # outside the time limit: a cold disk takes seconds

    def first_answer() -> tuple["MlflowClient", Result]:
        client = connect(uri)
        return client, ask(client)

    with store_errors(uri):
        if sqlite_path(uri) is not None:
            return first_answer()  # a file needs no limit: making it may take its time
        return _within(START_PATIENCE_S, first_answer)


@contextlib.contextmanager
def store_errors(uri: str) -> Iterator[None]:
    """What MLflow raises inside, as TrackingError in one line: UnreachableError unless the store has refused."""
    try:
        yield
    except TrackingError:
        raise
    except Exception as error:
        if is_refusal(error):
            raise TrackingError(f"the tracking store {mask(uri)} refused this: {reason(error)}") from error
        raise UnreachableError(
            f"the tracking store {mask(uri)} can't be reached ({reason(error)}); "
            "start it, or set tracking.offline=true to record now and deliver later"
        ) from error


def is_refusal(error: Exception) -> bool:
    """The store will never take this; anything else is worth another attempt."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    if isinstance(error, MlflowException):
        return error.error_code in REFUSALS
    if isinstance(error, FileNotFoundError):  # a spooled file that somebody deleted
        return True
    # Not connections, full disks and locked databases; but a ValueError from a broken model file.
    return not isinstance(error, (OSError, SQLAlchemyError, TrackingError))


def reason(error: BaseException) -> str:
    """Why, in one short line: the operating system's words where there are some; passwords are masked."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    lines = mask(str(error)).splitlines()
    text = lines[0].strip() if lines else type(error).__name__
    return text if len(text) <= 200 else f"{text[:197]}..."


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
