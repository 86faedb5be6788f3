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


def test_a_database_server_is_no_page_and_its_command_needs_the_password(here: Path) -> None:
    config = TrackingConfig(uri="postgresql://anna:secret@db/mlflow")
    assert where_to_look(config) == ".venv/bin/mlflow ui --backend-store-uri 'postgresql://anna:***@db/mlflow'"


def test_a_run_is_named_by_its_page_on_a_server_or_behind_the_command_that_starts_one(here: Path) -> None:
    page = where_to_look(TrackingConfig(uri="https://tracking.example/team/"), run_id="0a1b")
    assert page == "https://tracking.example/team/#/runs/0a1b"
    command = where_to_look(TrackingConfig(), run_id="0a1b")
    expected = ".venv/bin/mlflow ui --backend-store-uri sqlite:///mlruns/mlflow.db  # http://127.0.0.1:5000/#/runs/0a1b"
    assert command == expected


def test_a_run_that_the_store_does_not_have_yet_has_no_page(here: Path) -> None:
    config = TrackingConfig(uri="https://tracking.example")
    assert where_to_look(config, run_id="local-0a1b") == "https://tracking.example"


def test_checking_the_store_makes_nothing(here: Path) -> None:
    check_store(TrackingConfig())
    assert sorted(path.name for path in here.iterdir()) == [".venv"]


def test_a_server_that_does_not_answer_is_an_error_unless_offline(here: Path) -> None:
    with pytest.raises(TrackingError, match=r"http://127\.0\.0\.1:9 can't be reached"):
        check_store(TrackingConfig(uri="http://127.0.0.1:9"))
    check_store(TrackingConfig(uri="http://127.0.0.1:9", offline=True))
