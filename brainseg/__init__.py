"""Experiment tracking and hyperparameter sweeps for image segmentation.

Public is what `__all__` names, of which docs/python.md tells; it is imported when it is used. All else may change.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from brainseg.config import RunConfig
    from brainseg.errors import BrainsegError, Interrupted
    from brainseg.library import Prediction, Run, Scores, configure, find_runs, fit, load_run

__all__ = [
    "BrainsegError",
    "Interrupted",
    "Prediction",
    "Run",
    "RunConfig",
    "Scores",
    "configure",
    "find_runs",
    "fit",
    "load_run",
]

# TensorFlow reads both in every process that uses a GPU: a command, a worker, a served model.
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")  # memory as it is needed, so that several find room on one
os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # numbers that nvidia-smi gives as well

__version__ = "0.2.0"


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.library"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
