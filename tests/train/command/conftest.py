"""The store that trainings write, and a run that nothing disturbs."""

import shutil
from pathlib import Path

import pytest
from processes import Server
from trainings import SMALL, Commands


@pytest.fixture(scope="session")
def commands(tmp_path_factory: pytest.TempPathFactory, process_server: Server, empty_store: Path) -> Commands:
    """The store of all trainings that tests start, one after the other."""
    root = tmp_path_factory.mktemp("trainings")
    (root / "mlruns").mkdir()
    shutil.copy(empty_store, root / "mlruns" / "mlflow.db")
    return Commands(root, process_server)


@pytest.fixture(scope="session")
def uninterrupted(commands: Commands) -> str:
    """The run that the command makes of `SMALL` when nothing disturbs it."""
    training = commands.start(*SMALL)
    assert training.exit_code() == 0, training.text
    return training.run_id
