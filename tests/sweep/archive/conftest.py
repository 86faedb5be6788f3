"""A study of made runs, and the file that `sweep export` writes of it."""

from pathlib import Path

import pytest
from made_archives import add_study_on
from made_runs import write_slices

from brainseg.sweep.__main__ import main
from brainseg.tracking import MemoryStore


@pytest.fixture
def slices(tmp_path: Path) -> Path:
    return write_slices(tmp_path / "slices")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "mlruns"


@pytest.fixture
def store(slices: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MemoryStore:
    """Has the study `quick`, whose journal lies in root; the current folder is one without files."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    for name in ("MLFLOW_TRACKING_URI", "BRAINSEG_STORAGE"):
        monkeypatch.delenv(name, raising=False)
    made = MemoryStore()
    add_study_on(made, slices, root)
    monkeypatch.setattr("brainseg.sweep.archive.export.open_store", lambda config: made)
    monkeypatch.setattr("brainseg.tracking.open_store", lambda config: made)
    return made


@pytest.fixture
def exported(store: MemoryStore, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """The study as a file."""
    file = tmp_path / "quick.zip"
    assert main(["export", "quick", "-o", str(file), f"tracking.root={root}"]) == 0
    capsys.readouterr()
    return file
