"""Confidence intervals by a bootstrap over people: neighbouring slices of one person are near duplicates.

People are drawn with replacement, each with all of their slices; an interval is from the 2.5th to the
97.5th percentile of the statistic (Efron and Tibshirani 1993, chapter 13). The seed is fixed: the same
scores give the same interval. The draws and the percentiles are those of `scipy.stats.bootstrap`, whose
import takes longer than all of the intervals of a table.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
CONFIDENCE = 0.95
SEED = 0
BATCH = 200  # resamples that are computed at once: 3,000 people are then 5 MB


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A statistic with its 95 % interval, which is None if only one person contributed."""

    value: float
    low: float | None
    high: float | None

    @property
    def text(self) -> str:
        """`0.7512 (0.7210-0.7790)`; below zero, `-0.0100 (-0.0200 to 0.0300)`."""
        if self.low is None or self.high is None:
            return f"{self.value:.4f}"
        between = " to " if self.low < 0 else "-"
        return f"{self.value:.4f} ({self.low:.4f}{between}{self.high:.4f})"


def mean_interval(values: Sequence[float] | NDArray[np.float64], people: Sequence[Hashable]) -> Estimate:
    """The mean of a column over slices. values, people: of each slice. Raises ValueError for no slices."""
    found = ratio_interval(values, np.ones(len(people)), people)
    return replace(found, value=float(np.mean(values)))  # added up in this order, it is the score of the training


def ratio_interval(
    numerators: Sequence[float] | NDArray[np.float64],
    denominators: Sequence[float] | NDArray[np.float64],
    people: Sequence[Hashable],
) -> Estimate:
    """sum(numerators) / sum(denominators), and 1 where both are 0, as for two empty masks.

    All of one length, a slice (or a person) each. Raises ValueError for none or unequal lengths.
    """
    if not len(numerators) == len(denominators) == len(people) > 0:
        raise ValueError(
            f"one value a slice is needed, got {len(numerators)} and {len(denominators)} for {len(people)} slices"
        )
    upper, lower = sums_by_person(numerators, people), sums_by_person(denominators, people)
    value = float(_ratio(upper.sum(), lower.sum()))
    return resampled(
        value,
        lambda chosen: np.asarray(_ratio(upper[chosen].sum(axis=-1), lower[chosen].sum(axis=-1))),
        people=len(upper),
    )


def resampled(value: float, statistic: Callable[[NDArray[np.int64]], NDArray[np.float64]], *, people: int) -> Estimate:
    """A statistic's value with its interval. statistic: of people drawn, (draws, people) places -> (draws,)."""
    if people < 2:
        return Estimate(value=value, low=None, high=None)
    rng = np.random.default_rng(SEED)
    drawn = [
        statistic(rng.integers(people, size=(min(BATCH, RESAMPLES - start), people)))
        for start in range(0, RESAMPLES, BATCH)
    ]
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.concatenate(drawn), [tail, 1 - tail])
    return Estimate(value=value, low=float(low), high=float(high))


def per_person(values: Sequence[float] | NDArray[np.float64], people: Sequence[Hashable]) -> NDArray[np.float64]:
    """The mean of each person's values, shape (people,), in the order in which they come first."""
    return sums_by_person(values, people) / sums_by_person(np.ones(len(people)), people)


def sums_by_person(values: Sequence[float] | NDArray[np.float64], people: Sequence[Hashable]) -> NDArray[np.float64]:
    """Sum of each person's values, shape (people,), in the order in which they come first."""
    places: Mapping[Hashable, int] = {person: place for place, person in enumerate(dict.fromkeys(people))}
    weights = np.asarray(values, dtype=np.float64)
    sums: NDArray[np.float64] = np.bincount([places[person] for person in people], weights=weights).astype(np.float64)
    return sums


def _ratio(upper: Any, lower: Any) -> Any:
    # Both 0 for masks that are all empty.
    return np.where(lower == 0, 1.0, upper / np.where(lower == 0, 1.0, lower))
