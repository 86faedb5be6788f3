"""Writing a run's record (`Tracker`), reading it back (`RunStore`), registering models (`ModelRegistry`)."""

from brainseg.tracking.memory import MemoryRegistry, MemoryStore, MemoryTracker
from brainseg.tracking.mlflow_store import open_store
from brainseg.tracking.mlflow_tracker import open_tracker
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
from brainseg.tracking.registry import open_registry

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
