"""Summarises the scores of many slices: overall, by tumour type and by size, with 95 % intervals."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from brainseg.scoring.intervals import Estimate, mean_interval, per_person, ratio_interval
from brainseg.scoring.slice_score import MEASURES, SliceScore, by_type, count_people, dice_table

# Upper bounds of the classes of size: the true mask's share of the slice, the bound itself excluded.
SIZES: Mapping[str, float] = {"<0.5 %": 0.005, "0.5-1.5 %": 0.015, "1.5-3 %": 0.03, ">=3 %": float("inf")}
NO_FOREGROUND = "no foreground"  # a class of its own: its Dice is 0 or 1


@dataclass(frozen=True, kw_only=True)
class MeasureScores:
    """One measure over the slices of a group."""

    mean: Estimate  # over slices
    median: float
    standard_deviation: float  # of the slices, divided by their number
    per_person: Estimate  # mean over people of each person's mean
    pooled: Estimate | None  # from the pixels of all slices together; None for distances


@dataclass(frozen=True, kw_only=True)
class GroupScores:
    """The scores of some slices."""

    name: str
    slices: int
    people: int | None  # None if no patient id is known
    measures: Mapping[str, MeasureScores]  # by the keys of MEASURES
    at_zero: Estimate  # share of the slices with a Dice of 0
    present: "Presence | None" = None  # of a class; None for binary masks


@dataclass(frozen=True, kw_only=True)
class Presence:
    """The slices that have a class, beside those that don't."""

    slices: int  # that have it
    dice: Estimate | None  # mean over them; None without one
    counted: int  # slices that what ranks runs counts
    score: Estimate | None  # the mean over them; None without one


@dataclass(frozen=True, kw_only=True)
class FalseAlarms:
    """Predictions on slices without foreground."""

    slices: int  # without foreground
    share: Estimate  # of them with any predicted pixel
    mean_area_px: float | None  # predicted pixels, mean over the slices with a false alarm; None without one


@dataclass(frozen=True, kw_only=True)
class ScoreSummary:
    """The scores of many slices of one class, summarised."""

    overall: GroupScores
    by_type: tuple[GroupScores, ...]  # in the order of names; empty if types are unknown
    by_size: tuple[GroupScores, ...]  # from small to large, classes without slices left out
    false_alarms: FalseAlarms | None  # None if every slice has foreground
    drawn: str  # what the bootstrap draws: people, slices, or both


def summarize(scores: Sequence[SliceScore], *, score_by: str) -> ScoreSummary:
    """The tables of these slices, whose scores are of one class. Raises ValueError for none."""
    name = scores[0].class_name if scores else ""
    overall = group_scores(name or "all", scores)
    if name:
        overall = replace(overall, present=_presence(scores, score_by))
    sizes = [name for name in (NO_FOREGROUND, *SIZES) if any(size_of(item) == name for item in scores)]
    return ScoreSummary(
        overall=overall,
        by_type=tuple(group_scores(name, group) for name, group in by_type(scores).items()),
        by_size=tuple(group_scores(name, [item for item in scores if size_of(item) == name]) for name in sizes),
        false_alarms=_false_alarms([item for item in scores if item.area_px == 0]),
        drawn=_drawn(scores),
    )


def group_scores(name: str, scores: Sequence[SliceScore]) -> GroupScores:
    """The scores of these slices under a name. Raises ValueError for none."""
    people = [item.person for item in scores]
    pooled = _pooled(scores, people)
    return GroupScores(
        name=name,
        slices=len(scores),
        people=count_people(scores),
        measures={key: _measure_scores(column(scores, key), people, pooled.get(key)) for key in MEASURES},
        at_zero=mean_interval([float(item.dice == 0) for item in scores], people),
    )


def _presence(scores: Sequence[SliceScore], score_by: str) -> Presence:
    having = [score for score in scores if score.area_px]
    table = dice_table(scores, score_by=score_by)
    counted = int(table.counted.sum())
    return Presence(
        slices=len(having),
        dice=dice_table(having, score_by="slice").interval() if having else None,
        counted=counted,
        score=table.interval() if counted else None,
    )


def column(scores: Sequence[SliceScore], key: str) -> NDArray[np.float64]:
    """One measure of each slice, shape (slices,). key: one of MEASURES."""
    return np.array([getattr(item, key) for item in scores], dtype=np.float64)


def size_of(item: SliceScore) -> str:
    """The class of size, by the true mask's share of the slice."""
    if item.area_px == 0:
        return NO_FOREGROUND
    return next(name for name, bound in SIZES.items() if item.tumor_share < bound)


def _measure_scores(values: NDArray[np.float64], people: Sequence[Hashable], pooled: Estimate | None) -> MeasureScores:
    each = per_person(values, people)
    return MeasureScores(
        mean=mean_interval(values, people),
        median=float(np.median(values)),
        standard_deviation=float(np.std(values)),
        per_person=mean_interval(each, range(len(each))),
        pooled=pooled,
    )


def _pooled(scores: Sequence[SliceScore], people: Sequence[Hashable]) -> dict[str, Estimate]:
    """Scores of all pixels together: large tumours count for more."""
    area, predicted, shared = (
        np.array([getattr(item, key) for item in scores], dtype=np.float64)
        for key in ("area_px", "predicted_area_px", "shared_px")
    )
    return {
        "dice": ratio_interval(2 * shared, area + predicted, people),
        "iou": ratio_interval(shared, area + predicted - shared, people),
        "precision": ratio_interval(shared, predicted, people),
        "recall": ratio_interval(shared, area, people),
    }


def _false_alarms(healthy: Sequence[SliceScore]) -> FalseAlarms | None:
    if not healthy:
        return None
    areas = [item.predicted_area_px for item in healthy if item.predicted_area_px]
    people = [item.person for item in healthy]
    return FalseAlarms(
        slices=len(healthy),
        share=mean_interval([float(bool(item.predicted_area_px)) for item in healthy], people),
        mean_area_px=float(np.mean(areas)) if areas else None,
    )


def _drawn(scores: Sequence[SliceScore]) -> str:
    without = sum(not item.patient_id for item in scores)
    if not without:
        return "people"
    if without == len(scores):
        return "slices, since no patient ids are known"
    return f"people, and the {without} slices without a patient id one by one"
