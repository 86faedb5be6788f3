"""Compares, in Dice, models that have seen other slices of a test slice's patient with models that haven't."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from brainseg.data.people import person_of
from brainseg.scoring.intervals import Estimate, mean_interval
from brainseg.scoring.slice_score import SliceScore


@dataclass(frozen=True, kw_only=True)
class ScoredRun:
    """The scores of one training of a pair on the test slices."""

    run_id: str
    trained_on: frozenset[str]  # people
    slices: Mapping[str, SliceScore]  # of each test slice, by its id


@dataclass(frozen=True, kw_only=True)
class PairedSlice:
    """A test slice under the two models of a pair."""

    person: str
    tumor_type: str
    pair: str
    seen: float  # Dice by the model that was trained on other slices of the person
    unseen: float  # by the one that wasn't


@dataclass(frozen=True, kw_only=True)
class Row:
    """The two means over some slices, and the paired difference, each with its interval over people."""

    name: str
    slices: int
    people: int
    seen: Estimate
    unseen: Estimate
    difference: Estimate


def paired(pair: str, first: ScoredRun, second: ScoredRun) -> list[PairedSlice]:
    """Every test slice whose person exactly one of the two trainings has seen.

    Raises ValueError where the two weren't tested on the same slices.
    """
    if first.slices.keys() != second.slices.keys():
        raise ValueError(f"runs {first.run_id} and {second.run_id} weren't tested on the same slices")
    slices = []
    for slice_id in sorted(first.slices):
        person = person_of(first.slices[slice_id].patient_id)
        sides = [run for run in (first, second) if person in run.trained_on]
        if len(sides) == 1:
            seen = sides[0]
            unseen = second if seen is first else first
            slices.append(
                PairedSlice(
                    person=person,
                    tumor_type=first.slices[slice_id].tumor_type,
                    pair=pair,
                    seen=seen.slices[slice_id].dice,
                    unseen=unseen.slices[slice_id].dice,
                )
            )
    return slices


def rows_of(slices: Sequence[PairedSlice]) -> list[Row]:
    """Rows for all slices, for each tumour type and for each pair; someone in several pairs counts as one person."""
    rows = [_row("all", slices)]
    for kind in sorted({item.tumor_type for item in slices} - {""}):
        rows.append(_row(kind, [item for item in slices if item.tumor_type == kind]))
    for pair in sorted({item.pair for item in slices}):
        rows.append(_row(f"pair {pair}", [item for item in slices if item.pair == pair]))
    return rows


def _row(name: str, slices: Sequence[PairedSlice]) -> Row:
    people = [item.person for item in slices]
    seen, unseen = [item.seen for item in slices], [item.unseen for item in slices]
    return Row(
        name=name,
        slices=len(slices),
        people=len(set(people)),
        seen=mean_interval(seen, people),
        unseen=mean_interval(unseen, people),
        difference=mean_interval(np.subtract(seen, unseen), people),
    )
