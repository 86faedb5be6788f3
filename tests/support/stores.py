"""The stores that the tracking tests run over: memory, SQLite, and one real `mlflow server`."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import processes
import pytest
from backends import Backend, MemoryBackend, MlflowBackend, Server
from shared import shared

from brainseg.config import TrackingConfig
from brainseg.tracking.mlflow.database import prepare_database


@pytest.fixture(autouse=True)
def _nothing_of_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID", "MLFLOW_RUN_ID"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that fails at the end of a run is asked once."""
    monkeypatch.setattr("brainseg.tracking.mlflow.delivery.END_RETRY_S", 0.0)


@pytest.fixture(scope="session")
def server(
    tmp_path_factory: pytest.TempPathFactory, empty_store: Path, process_server: processes.Server
) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("server"), empty_store, process_server)
    try:
        running.start()
        yield running
    finally:  # also where starting it ran into the time limit of a test
        running.kill()


@pytest.fixture(scope="session")
def empty_store(shared_folder: Path) -> Path:
    """MLflow's database without runs; making it takes seconds, so that most tests copy it."""

    def make(folder: Path) -> Path:
        prepare_database(folder / "mlflow.db")
        return folder / "mlflow.db"

    return shared(shared_folder, "empty-store", make)


@pytest.fixture
def sqlite_config(tmp_path: Path, empty_store: Path) -> TrackingConfig:
    root = tmp_path / "my runs"
    root.mkdir()
    shutil.copy(empty_store, root / "mlflow.db")
    return TrackingConfig(root=str(root), experiment="brainseg")


@pytest.fixture
def server_config(server: Server, tmp_path: Path) -> TrackingConfig:
    return TrackingConfig(root=str(tmp_path / "runs"), uri=server.uri, experiment=tmp_path.name)


@pytest.fixture(params=["memory", "sqlite", "server"])
def backend(request: pytest.FixtureRequest) -> Backend:
    if request.param == "memory":
        return MemoryBackend()
    return MlflowBackend(config=request.getfixturevalue(f"{request.param}_config"))


@pytest.fixture(scope="session")
def keras_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny network, two slices in and two masks out."""
    import keras

    keras.utils.set_random_seed(0)
    network = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Conv2D(1, 3, padding="same", activation="sigmoid")]
    )
    path = tmp_path_factory.mktemp("keras") / "best.keras"
    network.save(path)
    return path
