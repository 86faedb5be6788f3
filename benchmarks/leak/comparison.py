"""What it is worth, in Dice, that a training has seen other slices of the people it is tested on."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from brainseg.analysis.intervals import Estimate, difference_interval, mean_interval
from brainseg.data.people import person_of


@dataclass(frozen=True, kw_only=True)
class ScoredRun:
    """One training of a pair, on the test slices."""

    run_id: str
    trained_on: frozenset[str]  # people
    dice: Mapping[str, float]  # id of each test slice -> its Dice


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


def paired(pair: str, first: ScoredRun, second: ScoredRun, people: Mapping[str, tuple[str, str]]) -> list[PairedSlice]:
    """Every test slice whose person exactly one of the two trainings has seen.

    people: id of each test slice -> person and tumour type. Raises ValueError where the two weren't tested on the same.
    """
    if first.dice.keys() != second.dice.keys():
        raise ValueError(f"runs {first.run_id} and {second.run_id} weren't tested on the same slices")
    slices = []
    for slice_id in sorted(first.dice):
        person, tumor_type = people[slice_id]
        sides = [run for run in (first, second) if person in run.trained_on]
        if len(sides) == 1:
            seen = sides[0]
            unseen = second if seen is first else first
            slices.append(
                PairedSlice(
                    person=person,
                    tumor_type=tumor_type,
                    pair=pair,
                    seen=seen.dice[slice_id],
                    unseen=unseen.dice[slice_id],
                )
            )
    return slices


def rows_of(slices: Sequence[PairedSlice]) -> list[Row]:
    """All of them, then by tumour type, then by pair; a person is one in all pairs."""
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
        difference=difference_interval(unseen, seen, people),
    )


def read_scores(text: str) -> tuple[dict[str, float], dict[str, tuple[str, str]]]:
    """Dice of each slice, and its person and tumour type, from the `scores.csv` of an evaluation."""
    rows = list(csv.DictReader(io.StringIO(text)))
    dice = {row["id"]: float(row["dice"]) for row in rows}
    return dice, {row["id"]: (person_of(row["patient_id"]), row["tumor_type"]) for row in rows}
