"""Writing a run's record (`Tracker`), reading it back (`RunStore`), registering models (`ModelRegistry`)."""

from brainseg.tracking.memory import MemoryRegistry, MemoryStore, MemoryTracker
from brainseg.tracking.mlflow.registry import open_registry
from brainseg.tracking.mlflow.store import open_store
from brainseg.tracking.mlflow.tracker import open_tracker
from brainseg.tracking.protocol import (
    MODEL_FILE,
    Curves,
    DatasetInfo,
    ModelRegistry,
    ModelVersion,
    NewVersion,
    RunFilter,
    RunList,
    RunRecord,
    RunStore,
    RunSummary,
    Tracker,
)

__all__ = [
    "MODEL_FILE",
    "Curves",
    "DatasetInfo",
    "MemoryRegistry",
    "MemoryStore",
    "MemoryTracker",
    "ModelRegistry",
    "ModelVersion",
    "NewVersion",
    "RunFilter",
    "RunList",
    "RunRecord",
    "RunStore",
    "RunSummary",
    "Tracker",
    "open_registry",
    "open_store",
    "open_tracker",
]
