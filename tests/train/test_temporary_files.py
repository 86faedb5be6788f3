"""What a training leaves in the temporary folder, and what it does where that folder is full."""

import errno
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from brainseg.config import RunConfig, TrackingConfig
from brainseg.tracking import MODEL_FILE, MemoryTracker, open_store, open_tracker
from brainseg.train.checkpoint import Checkpoints
from brainseg.train.experiment import run

pytestmark = pytest.mark.heavy

SMALLEST = {"train.epochs": 1, "model.depth": 1, "model.base_filters": 2, "tracking.predictions": 1}


def test_a_process_that_ends_without_cleaning_up_leaves_nothing(
    tmp_path: Path, tiny: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    run(tiny(**{"train.epochs": 1, "model.depth": 1}), MemoryTracker())
    # Looked at while this process lives: AutoGraph would remove its files at the end of Python alone, which a killed
    # process, a forked one and a worker that starts itself anew never reach.
    assert list(folder.iterdir()) == []


@pytest.fixture
def config(tiny: Callable[..., RunConfig], sqlite_config: TrackingConfig) -> RunConfig:
    return tiny(**SMALLEST, **{"tracking.root": sqlite_config.root})


def test_a_training_needs_no_temporary_folder(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    result = run(config, open_tracker(config.tracking, run_name="one", tags={}))
    assert (result.unwritten, result.undelivered) == ((), 0)
    store, root = open_store(config.tracking), Path(config.tracking.root)
    assert store.read(result.run_id).status == "FINISHED"
    for name in (MODEL_FILE, "val_predictions.npz", "figures/curves.png", "figures/predictions.png"):
        assert store.file(result.run_id, name, tmp_path / "fetched").stat().st_size > 100
    assert not Checkpoints(root, result.run_id).folder.exists()
    assert list((root / "spool").iterdir()) == []


def test_a_disk_that_is_full_at_the_end_costs_a_file_and_keeps_the_checkpoint(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for name in ("save_predictions", "write_model"):
        monkeypatch.setattr(f"brainseg.train.record.{name}", full)
    result = run(config, open_tracker(config.tracking, run_name="one", tags={}))
    expected = tuple(f"{name}: No space left on device" for name in ("val_predictions.npz", "model/model.keras"))
    assert result.unwritten == expected
    assert open_store(config.tracking).read(result.run_id).status == "FINISHED"
    assert Checkpoints(Path(config.tracking.root), result.run_id).have_weights
