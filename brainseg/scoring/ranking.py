"""The one number by which epochs, trials and runs are ranked, from the Dice of each slice and class."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

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
