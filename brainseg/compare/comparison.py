"""Compares runs: a table ranked by score, or two runs slice by slice, with intervals."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from brainseg.config import RunConfig, flatten
from brainseg.errors import InputError
from brainseg.runs.select import IRRELEVANT, SCORE, find_run, select
from brainseg.runs.slice_scores import read_scores, score_rule
from brainseg.runs.tested import configurations_tested
from brainseg.scoring.intervals import Estimate
from brainseg.scoring.ranking import difference, difference_by_group
from brainseg.scoring.slice_score import SliceScore, by_slice, count_people, dice_table, slice_dice
from brainseg.tracking.mlflow.connection import UnreachableError
from brainseg.tracking.protocol import RunList, RunStore, RunSummary

MOVED = 5  # at most so many slices are shown that gained, and so many that lost


@dataclass(frozen=True, kw_only=True)
class Row:
    """A run in the table."""

    run: RunSummary
    rank: int | None  # None without a score that can be ranked
    score: Estimate | None
    not_comparable: str  # why its score can't be ranked against the first run's, such as other data; or empty

    @property
    def state(self) -> str:
        """finished, pruned, failed, killed or running."""
        return self.run.tags["state"]

    @property
    def data(self) -> str:
        """The fingerprint of the data; empty if not recorded yet."""
        return self.run.tags.get("data_fingerprint", "")

    @property
    def split(self) -> str:
        """The fingerprint of the split; empty if not recorded yet."""
        return self.run.tags.get("split_fingerprint", "")


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Runs, the best first; those that are not finished at the end."""

    rows: tuple[Row, ...]
    differing: tuple[str, ...]  # parameters with several values, in the order of the configuration
    more_finished: bool  # `top` left out further ones
    more_others: bool


@dataclass(frozen=True, kw_only=True)
class PairedSlice:
    """One slice under both runs."""

    id: str
    patient_id: str  # empty where unknown
    tumor_type: str  # empty where unknown
    first: float  # Dice, the mean over the classes that count
    second: float

    @property
    def difference(self) -> float:
        """Second minus first."""
        return self.second - self.first


@dataclass(frozen=True, kw_only=True)
class RunPair:
    """Two runs, slice by slice."""

    first: RunSummary
    second: RunSummary
    split: str  # val or test
    slices: tuple[PairedSlice, ...]  # those that both have scored, in the order of ids
    only_first: int  # slices that the other run has not scored
    only_second: int
    dices: tuple[float, float]  # what ranks runs, of the first and of the second over these slices
    people: int | None  # whom the slices show; None if no patient id is known
    overall: Estimate  # of second - first
    configurations_tested: int | None = None  # on these test slices, of all runs here; None for the validation split
    by_type: dict[str, Estimate] = field(default_factory=dict)  # empty if types are unknown
    by_class: dict[str, Estimate] = field(default_factory=dict)  # empty for binary masks

    def moved_up(self) -> tuple[PairedSlice, ...]:
        """The slices that gained most."""
        gained = [each for each in self.slices if each.difference > 0]
        return tuple(sorted(gained, key=lambda each: -each.difference)[:MOVED])

    def moved_down(self) -> tuple[PairedSlice, ...]:
        """The slices that lost most."""
        lost = [each for each in self.slices if each.difference < 0]
        return tuple(sorted(lost, key=lambda each: each.difference)[:MOVED])


def compare(store: RunStore, words: Sequence[str], *, experiment: str, top: int | None) -> Comparison:
    """Compares the runs that the words select (ids, studies, `key=value`), or without words all of the experiment.

    top: rows of finished runs, and of others; None for all. Raises InputError for a word that selects nothing.
    """
    return comparison_of(store, select(store, words, experiment=experiment, limit=top))


def comparison_of(store: RunStore, runs: RunList, *, reference: RunSummary | None = None) -> Comparison:
    """Compares these runs. reference: whose score the others are compared with; by default the best one's."""
    first = reference or next((run for run in runs.finished if SCORE in run.metrics), None)
    rows, rank = [], 0
    for run in runs.finished:
        reason = _not_comparable(run, first)
        is_ranked = SCORE in run.metrics and not reason
        rank += is_ranked
        rows.append(Row(run=run, rank=rank if is_ranked else None, score=_score(store, run), not_comparable=reason))
    rows += [Row(run=run, rank=None, score=None, not_comparable="") for run in runs.others]
    return Comparison(
        rows=tuple(rows),
        differing=_differing([row.run for row in rows]),
        more_finished=runs.more_finished,
        more_others=runs.more_others,
    )


def compare_pair(store: RunStore, first: str, second: str, *, split: str) -> RunPair:
    """Compares two runs on the slices that both have scored. first, second: ids or their starts. split: of SCORE_FILES.

    Raises InputError for unknown runs, runs on different data, without scores, or without a slice in common.
    """
    runs = find_run(store, first), find_run(store, second)
    if runs[0].run_id == runs[1].run_id:
        raise InputError(f"--pair needs two runs, and both {first!r} and {second!r} name run {runs[0].run_id}")
    data = [run.tags.get("data_fingerprint", "") for run in runs]
    if data[0] != data[1]:
        raise InputError(
            f"run {runs[0].run_id} and run {runs[1].run_id} were trained on different data ({data[0][:8]} and "
            f"{data[1][:8]}), so that their slices can't be paired; name two runs on the same data"
        )
    score_by = score_rule(runs[0])
    if score_rule(runs[1]) != score_by:
        raise InputError(
            f"run {runs[0].run_id} has data.score_by={score_by} and run {runs[1].run_id} {score_rule(runs[1])}, so "
            "that their scores can't be paired; name two runs with one rule"
        )
    scores = [by_slice(read_scores(store, run, split=split)) for run in runs]
    common = sorted(scores[0].keys() & scores[1].keys())
    if not common:
        raise InputError(
            f"run {runs[0].run_id} and run {runs[1].run_id} have no {split} slice in common; "
            "name two runs on the same split"
        )
    classes = [[score.class_name for score in of_run[common[0]]] for of_run in scores]
    if classes[0] != classes[1]:
        raise InputError(
            f"run {runs[0].run_id} has the classes {', '.join(classes[0])} and run {runs[1].run_id} "
            f"{', '.join(classes[1])}; name two runs with the same classes"
        )
    common_scores = [[score for key in common for score in of_run[key]] for of_run in scores]
    first_table, second_table = (dice_table(of_run, score_by=score_by) for of_run in common_scores)
    named = [name for name in classes[0] if name]
    return RunPair(
        first=runs[0],
        second=runs[1],
        split=split,
        slices=tuple(_paired(scores[0][key], scores[1][key]) for key in common),
        only_first=len(scores[0]) - len(common),
        only_second=len(scores[1]) - len(common),
        dices=(first_table.score, second_table.score),
        people=count_people(common_scores[0]),
        overall=difference(first_table, second_table),
        configurations_tested=configurations_tested(store, runs[0]) if split == "test" else None,
        by_type=difference_by_group(first_table, second_table),
        by_class={
            name: difference(first_table.of_class(place), second_table.of_class(place))
            for place, name in enumerate(named)
        },
    )


def _paired(first: Sequence[SliceScore], second: Sequence[SliceScore]) -> PairedSlice:
    """A slice by its scores under both runs, one a class."""
    return PairedSlice(
        id=first[0].id,
        patient_id=first[0].patient_id,
        tumor_type=first[0].tumor_type,
        first=slice_dice(first),
        second=slice_dice(second),
    )


def _score(store: RunStore, run: RunSummary) -> Estimate | None:
    """The run's score, with its interval if the slices' scores can be read."""
    if SCORE not in run.metrics:
        return None
    score = Estimate(value=run.metrics[SCORE], low=None, high=None)
    try:
        slices = read_scores(store, run, split="val")
    except UnreachableError:
        raise
    except InputError:
        return score
    return replace(dice_table(slices, score_by=score_rule(run)).interval(), value=score.value)


def _not_comparable(run: RunSummary, first: RunSummary | None) -> str:
    """What the run doesn't share with the first one; empty for a run without a score."""
    if first is None or SCORE not in run.metrics:
        return ""
    if run.tags.get("data_fingerprint") != first.tags.get("data_fingerprint"):
        return "other data"
    if run.tags.get("split_fingerprint") != first.tags.get("split_fingerprint"):
        return "other split"
    return "" if score_rule(run) == score_rule(first) else "other data.score_by"


def _differing(runs: Sequence[RunSummary]) -> tuple[str, ...]:
    """Parameters with several values, over the runs that have recorded any."""
    recorded = [run.params for run in runs if run.params]
    known = list(flatten(RunConfig()))
    others = sorted({key for params in recorded for key in params} - set(known))
    return tuple(
        key
        for key in (*known, *others)
        if not key.startswith(IRRELEVANT) and len({params.get(key) for params in recorded}) > 1
    )
