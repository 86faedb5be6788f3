"""The one number by which epochs, trials and runs are ranked, from the Dice of each slice and class."""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from brainseg.scoring.intervals import Estimate, resampled, sums_by_person
from brainseg.scoring.overlap import dice_per_image


def ranking_score(dices: NDArray[np.float64], counted: NDArray[np.bool_]) -> float:
    """The mean over slices, then over classes, in [0, 1]. dices, counted: (slices, classes).

    A class without a slice that counts is left out; 0 if no class is left.
    """
    means = class_means(dices, counted)
    known = means[~np.isnan(means)]
    return float(np.mean(known)) if known.size else 0.0


def class_means(dices: NDArray[np.float64], counted: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The mean of each class over the slices that count, (classes,); NaN if none does."""
    columns = [dices[counted[:, place], place] for place in range(dices.shape[1])]
    return np.array([np.mean(column) if column.size else np.nan for column in columns])


def counts(empty: NDArray[np.bool_], score_by: str) -> NDArray[np.bool_]:
    """Whether each slice and class counts. empty: whether both masks are. score_by: slice or case.

    By slice all do: two empty masks agree, with a Dice of 1. By case those of two empty masks are left out, so that a
    model that finds nothing gains nothing where most masks are empty.
    """
    return np.ones_like(empty) if score_by == "slice" else ~empty


@dataclass(frozen=True, kw_only=True, eq=False)
class DiceTable:
    """The Dice of each slice and class."""

    dices: NDArray[np.float64]  # (slices, classes)
    counted: NDArray[np.bool_]  # (slices, classes), as `counts` says
    people: tuple[Hashable, ...]  # of each slice
    groups: tuple[str, ...]  # of each slice: a tumour type, say; empty where unknown

    @property
    def score(self) -> float:
        """`ranking_score`."""
        return ranking_score(self.dices, self.counted)

    @property
    def known_score(self) -> float:
        """`score`; NaN where nothing counts."""
        return self.score if self.counted.any() else math.nan

    def interval(self) -> Estimate:
        """`score` with its interval over people. Raises ValueError for no slices."""
        if not self.people:
            raise ValueError("a table without slices has no score")
        sums = _class_sums(self.dices, self.counted, self.people)
        return resampled(self.score, lambda chosen: _mean_ratio(sums, chosen), people=len(set(self.people)))

    def without_each(self) -> NDArray[np.float64]:
        """`score` without the slices of each person, (people,)."""
        sums = _class_sums(self.dices, self.counted, self.people)
        return _mean_of_classes([(upper.sum() - upper, lower.sum() - lower) for upper, lower in sums])

    def of_class(self, place: int) -> "DiceTable":
        """One class, from 0."""
        column = slice(place, place + 1)
        return replace(self, dices=self.dices[:, column], counted=self.counted[:, column])

    def of_group(self, name: str) -> "DiceTable":
        """The slices of a group."""
        inside = [place for place, group in enumerate(self.groups) if group == name]
        return DiceTable(
            dices=self.dices[inside],
            counted=self.counted[inside],
            people=tuple(self.people[place] for place in inside),
            groups=(name,) * len(inside),
        )


def difference(first: DiceTable, second: DiceTable) -> Estimate:
    """The score of the second less that of the first, of the same slices in one order, with its interval.

    Paired: the same people are drawn for both, so that what makes a slice hard for both cancels. Raises ValueError for
    tables of unequal slices.
    """
    if first.people != second.people:
        raise ValueError(f"paired tables must have the same slices, got {len(first.people)} and {len(second.people)}")
    if (first.counted == second.counted).all():
        return replace(first, dices=second.dices - first.dices).interval()
    before, after = (_class_sums(each.dices, each.counted, each.people) for each in (first, second))
    return resampled(
        second.score - first.score,
        lambda chosen: _mean_ratio(after, chosen) - _mean_ratio(before, chosen),
        people=len(set(first.people)),
    )


def difference_by_group(first: DiceTable, second: DiceTable) -> dict[str, Estimate]:
    """`difference` for the slices of each group, sorted; those of group `` belong to none."""
    return {name: difference(first.of_group(name), second.of_group(name)) for name in sorted(set(first.groups) - {""})}


# Of each class: sums of Dice over the slices that count, of a person each, say; and the numbers of those slices.
_ClassSums = list[tuple[NDArray[np.float64], NDArray[np.float64]]]


def _class_sums(dices: NDArray[np.float64], counted: NDArray[np.bool_], people: Sequence[Hashable]) -> _ClassSums:
    return [
        (
            sums_by_person(np.where(counted[:, place], dices[:, place], 0.0), people),
            sums_by_person(counted[:, place].astype(np.float64), people),
        )
        for place in range(dices.shape[1])
    ]


def _mean_ratio(sums: _ClassSums, chosen: NDArray[np.int64]) -> NDArray[np.float64]:
    """`ranking_score` of the people drawn, (draws,). chosen: their places, (draws, people)."""
    return _mean_of_classes([(upper[chosen].sum(axis=-1), lower[chosen].sum(axis=-1)) for upper, lower in sums])


def _mean_of_classes(sums: _ClassSums) -> NDArray[np.float64]:
    """`ranking_score` of sums of Dice and numbers of slices, a class each; all of one shape."""
    total, known = np.zeros(sums[0][0].shape), np.zeros(sums[0][0].shape)
    for upper, lower in sums:
        total += np.where(lower == 0, 0.0, upper / np.maximum(lower, 1.0))
        known += lower > 0
    return total / np.maximum(known, 1.0)


class SliceDices:
    """Collects the Dice of each slice and class, a batch at a time."""

    def __init__(self, *, score_by: str) -> None:
        self._score_by = score_by
        self._dices: list[NDArray[np.float64]] = []
        self._empty: list[NDArray[np.bool_]] = []

    def add(self, masks: NDArray[np.bool_], predicted: NDArray[np.bool_]) -> None:
        """Both (slices, height, width, classes)."""
        by_class = [np.moveaxis(each, -1, 0) for each in (masks, predicted)]
        self._dices.append(np.stack([dice_per_image(*pair) for pair in zip(*by_class, strict=True)], axis=-1))
        self._empty.append(np.logical_not((masks | predicted).any(axis=(1, 2))))

    def mean(self) -> float:
        """`ranking_score` of all slices."""
        return ranking_score(np.concatenate(self._dices), self._counted())

    def by_class(self) -> Sequence[float]:
        """The mean of each class; NaN without a slice that counts."""
        means: list[float] = class_means(np.concatenate(self._dices), self._counted()).tolist()
        return means

    def _counted(self) -> NDArray[np.bool_]:
        return counts(np.concatenate(self._empty), self._score_by)
