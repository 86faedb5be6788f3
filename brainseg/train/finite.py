"""Losses and scores that have to be finite."""

import math
from collections.abc import Mapping

from brainseg.errors import NonFiniteError


def check_finite(values: Mapping[str, float], *, epoch: int, step: int | None = None) -> None:
    """Raises NonFiniteError that names the first value which is NaN or infinite, and the epoch."""
    for name, value in values.items():
        if not math.isfinite(value):
            where = f"epoch {epoch}" if step is None else f"epoch {epoch}, step {step}"
            raise NonFiniteError(f"{name} is {value} in {where}; try a lower optimizer.learning_rate")
