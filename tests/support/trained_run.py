"""A tiny run that was trained to its end, for the tests of several commands."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

from brainseg.config import RunConfig
from brainseg.data.phantom.source import PhantomSource, write_phantom
from brainseg.scoring.predictions import load_predictions
from brainseg.tracking import MODEL_FILE, MemoryStore, MemoryTracker, Tracker
from brainseg.train.experiment import run

KEYS = {"train.epochs": 8, "optimizer.learning_rate": 0.01, "optimizer.warmup_epochs": 0.0}


@dataclass(frozen=True)
class Trained:
    """A run in a store, and its slices on disk, 128x128 pixels each."""

    store: MemoryStore
    run_id: str
    slices: Path
    masks: dict[str, NDArray[np.bool_]]  # predicted at the end of the training, validation slice -> (height, width)

    @property
    def tracker(self) -> MemoryTracker:
        return self.store.trackers[self.run_id]


def train(folder: Path, tiny_in: Callable[..., RunConfig]) -> Trained:
    """Trains the run in a folder."""
    before = keras.config.dtype_policy()
    store = MemoryStore()
    result = run(
        tiny_in(folder, **KEYS, **{"data.cache_dir": str(folder / "cache")}), store.open_tracker(run_name="one")
    )
    keras.config.set_dtype_policy(before)
    write_phantom(PhantomSource(patients=8, seed=0), folder / "slices")
    recorded = store.file(result.run_id, "val_predictions.npz", folder)
    masks = {name: mask[..., 0] for name, mask in load_predictions(recorded).items()}
    return Trained(store=store, run_id=result.run_id, slices=folder / "slices", masks=masks)


def record_again(trained: Trained, tracker: Tracker, folder: Path, **tags: str) -> str:
    """Records what the run has recorded in another store; the run's id there. folder: for its files."""
    source = trained.tracker
    with tracker:
        tracker.log_params(source.params)
        tracker.set_tags({key: value for key, value in source.tags.items() if key != "state"} | tags)
        assert source.dataset is not None
        tracker.log_dataset(source.dataset)
        for epoch, metrics in source.metrics:
            tracker.log_metrics(metrics, epoch=epoch)
        for name, text in source.texts.items():
            tracker.log_text(text, name)
        model = folder / "model.keras"
        model.write_bytes(source.files[MODEL_FILE])
        tracker.log_model(model)
    return tracker.run_id
