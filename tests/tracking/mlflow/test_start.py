"""What is said of the store before and after a run."""

import sys
from pathlib import Path

import pytest

from brainseg.config import TrackingConfig
from brainseg.errors import TrackingError
from brainseg.tracking.mlflow.connection import check_store, where_to_look


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with an environment in .venv that nobody has activated."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name in ("python", "mlflow"):
        (programs / name).touch(mode=0o755)
    monkeypatch.setattr(sys, "executable", str(programs / "python"))
    monkeypatch.setenv("PATH", "/nowhere")
    return tmp_path


def test_the_command_for_the_ui_runs_where_no_environment_is_activated(here: Path) -> None:
    assert where_to_look(TrackingConfig()) == ".venv/bin/mlflow ui --backend-store-uri sqlite:///mlruns/mlflow.db"


def test_the_command_for_the_ui_is_short_in_an_activated_environment(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(here / ".venv" / "bin"))
    assert where_to_look(TrackingConfig()) == "mlflow ui --backend-store-uri sqlite:///mlruns/mlflow.db"


def test_a_store_elsewhere_is_named_by_its_whole_path(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(here / ".venv" / "bin"))
    config = TrackingConfig(root="/somewhere/my runs")
    assert where_to_look(config) == "mlflow ui --backend-store-uri 'sqlite:////somewhere/my runs/mlflow.db'"


def test_a_server_is_its_own_address_without_the_password(here: Path) -> None:
    config = TrackingConfig(uri="https://anna:secret@tracking.example")
    assert where_to_look(config) == "https://anna:***@tracking.example"


def test_checking_the_store_makes_nothing(here: Path) -> None:
    check_store(TrackingConfig())
    assert sorted(path.name for path in here.iterdir()) == [".venv"]


def test_a_server_that_does_not_answer_is_an_error_unless_offline(here: Path) -> None:
    with pytest.raises(TrackingError, match=r"http://127\.0\.0\.1:9 can't be reached"):
        check_store(TrackingConfig(uri="http://127.0.0.1:9"))
    check_store(TrackingConfig(uri="http://127.0.0.1:9", offline=True))
