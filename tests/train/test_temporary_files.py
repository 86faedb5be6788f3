"""What a training leaves in the temporary folder."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import keras
import pytest

from brainseg.config import RunConfig
from brainseg.tracking import MemoryTracker
from brainseg.train.experiment import run


@pytest.mark.heavy
def test_a_process_that_ends_without_cleaning_up_leaves_nothing(
    tmp_path: Path, tiny: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    policy = keras.config.dtype_policy()
    try:
        run(tiny(**{"train.epochs": 1, "model.depth": 1}), MemoryTracker())
    finally:
        keras.config.set_dtype_policy(policy)
    # Looked at while this process lives: AutoGraph would remove its files at the end of Python alone, which a killed
    # process, a forked one and a worker that starts itself anew never reach.
    assert list(folder.iterdir()) == []
