"""Which configurations are better than a baseline, where each was trained with several seeds.

Two things make a configuration look better than it is: whom the slices show, and which seeds the trainings had. The
variance of a difference is therefore that over people, paired, and that of the seeds of either side. Both come from an
analysis of variance of jackknife pseudo-values, as where several readers read the same cases (Dorfman, Berbaum and Metz
1992, *Invest. Radiol.* 27:723; here each side has seeds of its own). The test is a t test with Satterthwaite's degrees
of freedom (1946, *Biometrics Bulletin* 2:110). Several configurations are compared with one baseline: Holm's procedure
(1979, *Scand. J. Statist.* 6:65) keeps the chance of a false winner among all of them below 1 - CONFIDENCE.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from brainseg.scoring.intervals import CONFIDENCE, Estimate
from brainseg.scoring.ranking import DiceTable

FEWEST_SEEDS = 2  # of a configuration: one alone says nothing of the others


@dataclass(frozen=True, kw_only=True)
class Lead:
    """How much better a configuration is than the baseline."""

    difference: Estimate  # of the scores, in [-1, 1]; the interval holds for all configurations at once
    p: float  # chance of a difference as large, either way, where there is none; adjusted by Holm
    spread: float  # of the seeds: standard deviation of the configuration's scores

    @property
    def is_better(self) -> bool:
        """Whether it can be told from the baseline, and is better."""
        return self.p <= 1 - CONFIDENCE and self.difference.value > 0

    @property
    def is_worse(self) -> bool:
        """Whether it can be told from the baseline, and is worse."""
        return self.p <= 1 - CONFIDENCE and self.difference.value < 0


def leads(baseline: Sequence[DiceTable], others: Sequence[Sequence[DiceTable]]) -> list[Lead]:
    """The lead of each other configuration over the baseline.

    baseline: a table a seed; others: the same of each configuration. All have the same slices, in one order. Raises
    ValueError for other slices, slices of one person, and fewer than FEWEST_SEEDS tables of a configuration.
    """
    if len(set(baseline[0].people)) < 2:
        raise ValueError("the slices of one person say nothing of others")
    for tables in (baseline, *others):
        if len(tables) < FEWEST_SEEDS:
            raise ValueError(f"a configuration needs {FEWEST_SEEDS} seeds or more, got {len(tables)}")
        if any(table.people != baseline[0].people for table in tables):
            raise ValueError("all tables must have the same slices")
    differences = [_Difference.between(tables, baseline) for tables in others]
    ps = [each.p for each in differences]
    adjusted, levels = holm(ps)
    return [
        Lead(difference=each.estimate(level), p=p, spread=float(np.std([table.score for table in tables], ddof=1)))
        for each, p, level, tables in zip(differences, adjusted, levels, others, strict=True)
    ]


def holm(ps: Sequence[float]) -> tuple[list[float], list[float]]:
    """The adjusted chances, and the level at which each is tested: an interval of 1 - level tells the same."""
    adjusted, levels = [1.0] * len(ps), [1 - CONFIDENCE] * len(ps)
    largest, level = 0.0, 0.0
    for rank, place in enumerate(sorted(range(len(ps)), key=lambda place: ps[place])):
        if rank == 0 or largest <= 1 - CONFIDENCE:  # from the first that isn't told apart, none is
            level = (1 - CONFIDENCE) / (len(ps) - rank)
        largest = max(largest, min(1.0, ps[place] * (len(ps) - rank)))
        adjusted[place], levels[place] = largest, level
    return adjusted, levels


@dataclass(frozen=True)
class _Difference:
    value: float
    variance: float
    freedom: float  # degrees of freedom

    @classmethod
    def between(cls, tables: Sequence[DiceTable], baseline: Sequence[DiceTable]) -> "_Difference":
        sides = [_pseudo_values(each) for each in (tables, baseline)]
        paired = sides[0].mean(axis=0) - sides[1].mean(axis=0)
        people = len(paired)
        parts = [(float(np.var(paired, ddof=1)) / people, people - 1)]
        parts += [part for each in sides for part in _of_seeds(each)]
        variance = sum(part for part, _ in parts)
        by_freedom = sum(part**2 / freedom for part, freedom in parts)
        return cls(
            value=float(np.mean([table.score for table in tables]) - np.mean([table.score for table in baseline])),
            variance=variance,
            freedom=variance**2 / by_freedom if by_freedom > 0 else float("inf"),
        )

    @property
    def p(self) -> float:
        from scipy.special import stdtr

        if self.variance == 0:
            return float(self.value == 0)
        return 2 * float(stdtr(self.freedom, -abs(self.value) / self.variance**0.5))

    def estimate(self, level: float) -> Estimate:
        from scipy.special import stdtrit

        half = -float(stdtrit(self.freedom, level / 2)) * self.variance**0.5
        return Estimate(value=self.value, low=self.value - half, high=self.value + half)


def _pseudo_values(tables: Sequence[DiceTable]) -> NDArray[np.float64]:
    """The jackknife's pseudo-values, (seeds, people): each person's share in the score of each seed."""
    without = np.array([table.without_each() for table in tables])
    people = without.shape[1]
    scores = np.array([[table.score] for table in tables])
    values: NDArray[np.float64] = people * scores - (people - 1) * without
    return values


def _of_seeds(values: NDArray[np.float64]) -> list[tuple[float, int]]:
    """What the seeds add to the variance of a mean over seeds and people, and the degrees of freedom of each part.

    The mean squares of a two-way table. How single runs fit single people stands in the variance over people, too, and
    is taken out here. values: (seeds, people).
    """
    seeds, people = values.shape
    of_seed, of_person = values.mean(axis=1, keepdims=True), values.mean(axis=0, keepdims=True)
    rest = values - of_seed - of_person + values.mean()
    freedom = (seeds - 1) * (people - 1)
    between = float(np.var(of_seed, ddof=1)) / seeds
    within = float(np.sum(rest**2)) / freedom / (seeds * people)
    return [(between, seeds - 1), (-within, freedom)] if between > within else []
