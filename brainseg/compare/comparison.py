"""Compares runs: a table ranked by score, or two runs slice by slice, with intervals."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from brainseg.config import RunConfig, flatten
from brainseg.errors import InputError
from brainseg.runs.select import SCORE, find_run, select
from brainseg.runs.slice_scores import read_scores
from brainseg.scoring.intervals import Estimate, difference_by_group, difference_interval
from brainseg.scoring.slice_score import SliceScore, count_people, mean_dice
from brainseg.tracking.mlflow.connection import UnreachableError
from brainseg.tracking.protocol import RunList, RunStore, RunSummary

MOVED = 5  # at most so many slices are shown that gained, and so many that lost
# Keys that change names and places, but not the training.
IRRELEVANT = ("run_name", "resume", "data.root", "data.cache_dir", "tracking.")


@dataclass(frozen=True, kw_only=True)
class Row:
    """A run in the table."""

    run: RunSummary
    rank: int | None  # None without a score that can be ranked
    score: Estimate | None
    not_comparable: str  # why its score can't be ranked against the first run's: other data, other split, or empty

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

    first: SliceScore
    second: SliceScore

    @property
    def difference(self) -> float:
        """Second minus first."""
        return self.second.dice - self.first.dice


@dataclass(frozen=True, kw_only=True)
class RunPair:
    """Two runs, slice by slice."""

    first: RunSummary
    second: RunSummary
    split: str  # val or test
    slices: tuple[PairedSlice, ...]  # those that both have scored, in the order of ids
    only_first: int  # slices that the other run has not scored
    only_second: int
    overall: Estimate  # of second - first
    by_type: dict[str, Estimate] = field(default_factory=dict)  # empty if types are unknown

    @property
    def people(self) -> int | None:
        """How many people the slices are of; None if no patient id is known."""
        return count_people([each.first for each in self.slices])

    def mean_dice(self) -> tuple[float, float]:
        """Of the first and of the second run, over the common slices."""
        count = len(self.slices)
        return sum(each.first.dice for each in self.slices) / count, sum(
            each.second.dice for each in self.slices
        ) / count

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
    scores = [{item.id: item for item in read_scores(store, run, split=split)} for run in runs]
    common = sorted(scores[0].keys() & scores[1].keys())
    if not common:
        raise InputError(
            f"run {runs[0].run_id} and run {runs[1].run_id} have no {split} slice in common; "
            "name two runs on the same split"
        )
    slices = tuple(PairedSlice(first=scores[0][key], second=scores[1][key]) for key in common)
    dices = [each.first.dice for each in slices], [each.second.dice for each in slices]
    people = [each.first.person for each in slices]
    return RunPair(
        first=runs[0],
        second=runs[1],
        split=split,
        slices=slices,
        only_first=len(scores[0]) - len(common),
        only_second=len(scores[1]) - len(common),
        overall=difference_interval(*dices, people),
        by_type=difference_by_group(*dices, people, [each.first.tumor_type for each in slices]),
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
    return replace(mean_dice(slices), value=score.value)


def _not_comparable(run: RunSummary, first: RunSummary | None) -> str:
    """What the run doesn't share with the first one; empty for a run without a score."""
    if first is None or SCORE not in run.metrics:
        return ""
    if run.tags.get("data_fingerprint") != first.tags.get("data_fingerprint"):
        return "other data"
    return "" if run.tags.get("split_fingerprint") == first.tags.get("split_fingerprint") else "other split"


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
