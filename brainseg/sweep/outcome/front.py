"""The Pareto front of a study of several metrics: each trial's Dice with its interval, and which cost nothing more.

A trial that has a higher Dice and costs more is worth it only if it can be told from every cheaper trial. No correction
for several comparisons is needed for that: it is said to be better only where all of them say so.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from brainseg.cli.tables import Section
from brainseg.errors import InputError
from brainseg.runs.select import find_run
from brainseg.runs.slice_scores import read_scores, score_rule
from brainseg.scoring.intervals import CONFIDENCE, Estimate
from brainseg.scoring.ranking import DiceTable, difference
from brainseg.scoring.slice_score import dice_table
from brainseg.sweep.study.study_rules import PRUNABLE
from brainseg.tracking.mlflow.connection import UnreachableError
from brainseg.tracking.protocol import RunStore


@dataclass(frozen=True, kw_only=True)
class FrontTrial:
    """A trial of the front."""

    number: int
    values: tuple[float, ...]  # of the study's metrics, in their order
    run_id: str


@dataclass(frozen=True, kw_only=True)
class FrontPoint:
    """What its slices say of it."""

    trial: FrontTrial
    dice: Estimate | None  # final Dice over people; None where the run's scores can't be read
    not_told_from: tuple[int, ...]  # trials of the front that cost less


@dataclass(frozen=True, kw_only=True)
class Front:
    """A front of Dice against what it costs."""

    metrics: Mapping[str, str]  # metric -> direction
    points: tuple[FrontPoint, ...]  # the highest Dice first, as the study measures it


def front_of(store: RunStore, trials: Sequence[FrontTrial], metrics: Mapping[str, str]) -> Front | None:
    """Reads the scores of the front's runs; None for a study of one metric, or without a Dice among them.

    Raises UnreachableError if the store is away.
    """
    if not trials or len(metrics) < 2 or not set(PRUNABLE).intersection(metrics):
        return None
    tables = {trial.number: _table(store, trial) for trial in trials}
    place = next(place for place, metric in enumerate(metrics) if metric in PRUNABLE)
    points = [
        FrontPoint(
            trial=trial,
            dice=None if (table := tables[trial.number]) is None else table.interval(),
            not_told_from=tuple(
                other.number
                for other in trials
                if _is_cheaper(other, trial, metrics) and not _is_told(tables[other.number], table)
            ),
        )
        for trial in trials
    ]
    return Front(metrics=metrics, points=tuple(sorted(points, key=lambda point: -point.trial.values[place])))


def verdicts(front: Front, *, study: str) -> list[str]:
    """Sentences: which trials of the front can't be told from one that costs less, and which can."""
    told = [
        f"Trial {point.trial.number} is not to be told from {_listed(point.not_told_from)}, "
        f"which {'costs' if len(point.not_told_from) == 1 else 'cost'} less."
        for point in front.points
        if point.not_told_from
    ]
    worth = sorted(point.trial.number for point in front.points if not point.not_told_from)
    return [
        *told,
        f"Better than all that cost less: {_listed(worth)}.",
        "Each was trained with one seed and chosen on these slices; "
        f"`python -m brainseg.sweep confirm {study} --front` trains them with new seeds, and tests them on slices that "
        "no trial has seen.",
    ]


def section(front: Front) -> Section:
    """A row a trial."""
    from brainseg.sweep.engine.trial_row import shown_metric  # Optuna, which a report of runs never needs

    rows = tuple(
        (
            str(point.trial.number),
            *map(shown_metric, point.trial.values),
            "" if point.dice is None else point.dice.text,
            ", ".join(map(str, point.not_told_from)),
        )
        for point in front.points
    )
    headings = ("trial", *front.metrics, f"final Dice ({CONFIDENCE:.0%})", "not told from the cheaper trials")
    lines = (
        f"{CONFIDENCE:.0%} intervals over people. A trial is told from a cheaper one where the interval of their "
        "difference, slice by slice, lies above 0.",
    )
    return Section(title="Pareto front", headings=headings, rows=rows, lines=lines)


def _table(store: RunStore, trial: FrontTrial) -> DiceTable | None:
    try:
        run = find_run(store, trial.run_id)
        return dice_table(read_scores(store, run, split="val"), score_by=score_rule(run))
    except UnreachableError:
        raise
    except InputError:
        return None


def _is_cheaper(one: FrontTrial, other: FrontTrial, metrics: Mapping[str, str]) -> bool:
    """Whether it is better in one metric that is no Dice, and worse in none."""
    signs = {place: 1 if metrics[metric] == "minimize" else -1 for place, metric in enumerate(metrics)}
    costs = [
        (signs[place] * one.values[place], signs[place] * other.values[place])
        for place, metric in enumerate(metrics)
        if metric not in PRUNABLE
    ]
    return all(first <= second for first, second in costs) and any(first < second for first, second in costs)


def _is_told(cheaper: DiceTable | None, table: DiceTable | None) -> bool:
    """Whether the Dice is higher than that of the cheaper one by more than chance."""
    if cheaper is None or table is None or cheaper.people != table.people:
        return False
    low = difference(cheaper, table).low
    return low is not None and low > 0


def _listed(numbers: Sequence[int]) -> str:
    names = [f"trial {number}" for number in numbers]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
