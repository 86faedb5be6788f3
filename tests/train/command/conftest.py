"""The store that trainings write, and a run that nothing disturbs."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from processes import PATIENCE_S, Server
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
    """The run that the real command makes of `SMALL` when nothing disturbs it."""
    done = subprocess.run(
        [sys.executable, "-m", "brainseg.train", *commands.where, *SMALL],
        cwd=commands.root,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return next(line for line in done.stdout.splitlines() if line.startswith("run ")).removeprefix("run ").strip()
