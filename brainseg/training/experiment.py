"""Kept for one release, for scripts that still import `run` from here."""

import warnings

from brainseg.train.experiment import Result, prepare, run

__all__ = ["Result", "prepare", "run"]

warnings.warn("brainseg.training.experiment is now brainseg.train.experiment", FutureWarning, stacklevel=2)
