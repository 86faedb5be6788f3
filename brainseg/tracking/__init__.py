"""Writing a run's record (`Tracker`) and reading it back (`RunStore`), in memory and on MLflow."""

from brainseg.tracking.memory import MemoryStore, MemoryTracker
from brainseg.tracking.mlflow_store import open_store
from brainseg.tracking.mlflow_tracker import open_tracker
from brainseg.tracking.protocol import (
    MODEL_FILE,
    DatasetInfo,
    RunFilter,
    RunList,
    RunRecord,
    RunStore,
    RunSummary,
    Tracker,
)

__all__ = [
    "MODEL_FILE",
    "DatasetInfo",
    "MemoryStore",
    "MemoryTracker",
    "RunFilter",
    "RunList",
    "RunRecord",
    "RunStore",
    "RunSummary",
    "Tracker",
    "open_store",
    "open_tracker",
]
