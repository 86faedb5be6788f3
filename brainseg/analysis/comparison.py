"""Which run is better, by how much, and whether that is more than chance: tables of runs, and pairs of them."""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from brainseg.analysis.intervals import Estimate, difference_by_group, difference_interval, mean_interval
from brainseg.config import RunConfig, did_you_mean, flatten
from brainseg.data.people import whose
from brainseg.errors import InputError, TrackingError
from brainseg.tracking.connection import UnreachableError
from brainseg.tracking.listing import merged
from brainseg.tracking.protocol import RunFilter, RunList, RunRecord, RunStore, RunSummary

SCORE = "final_dice"
SECONDS = "seconds"  # of each epoch
# Part -> the artifact with a row for each of its slices.
SCORE_FILES = {"val": "val_scores.csv", "test": "evaluation/test/scores.csv"}
SHORTEST_ID = 6  # characters that a run may be named by
NEWEST = 100  # runs that are looked at to find the key that was meant
MOVED = 5  # slices shown of those that went up, and of those that went down
# Where things are and what they are called, not what is done.
UNTOLD = ("run_name", "resume", "data.root", "data.cache_dir", "tracking.")
TEXTS = {"true": "True", "false": "False", "null": "None"}  # a value as it is typed -> as it is recorded


@dataclass(frozen=True, kw_only=True)
class Row:
    """A run in the table."""

    run: RunSummary
    rank: int | None  # None where the run has no score, or one that can't be ranked
    score: Estimate | None
    mark: str  # what keeps it from being ranked against the first run: `other data`, `other split`, or nothing

    @property
    def state(self) -> str:
        """finished, pruned, failed, killed or running."""
        return self.run.tags["state"]

    @property
    def data(self) -> str:
        """The fingerprint of the data; empty where it isn't recorded yet."""
        return self.run.tags.get("data_fingerprint", "")

    @property
    def split(self) -> str:
        """The fingerprint of the split; empty where it isn't recorded yet."""
        return self.run.tags.get("split_fingerprint", "")


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Runs, the best first; those that are not finished at the end."""

    rows: tuple[Row, ...]
    differing: tuple[str, ...]  # parameters that aren't the same in all rows, in the order of the configuration
    more_finished: bool  # there are further runs, which `top` cut off
    more_others: bool


@dataclass(frozen=True, kw_only=True)
class SliceDice:
    """How well a run did on one slice."""

    id: str
    patient_id: str  # empty where unknown
    tumor_type: str  # empty where unknown
    dice: float

    @property
    def person(self) -> tuple[str, str]:
        """Whose slice it is; one without a patient id stands for itself."""
        return whose(self.id, self.patient_id)


@dataclass(frozen=True, kw_only=True)
class PairedSlice:
    """One slice under both runs."""

    first: SliceDice
    second: SliceDice

    @property
    def difference(self) -> float:
        """Second minus first."""
        return self.second.dice - self.first.dice


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two runs, slice by slice."""

    first: RunSummary
    second: RunSummary
    part: str  # val or test
    slices: tuple[PairedSlice, ...]  # those that both have scored, in the order of ids
    only_first: int  # slices that the other run has not scored
    only_second: int
    overall: Estimate  # of second - first
    by_type: dict[str, Estimate] = field(default_factory=dict)  # empty where types are unknown

    @property
    def people(self) -> int | None:
        """How many people the slices are of; None where no patient id is known."""
        return len({each.first.person for each in self.slices if each.first.patient_id}) or None

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
    """The table of the runs that the words select: ids, studies, `key=value`; without any, of the experiment.

    top: rows of finished runs, and of others; None for all. Raises InputError for a word that selects nothing.
    """
    return comparison_of(store, select(store, words, experiment=experiment, limit=top))


def comparison_of(store: RunStore, runs: RunList, *, reference: RunSummary | None = None) -> Comparison:
    """The table of these runs. reference: what they are marked and ranked against; by default the best score's run."""
    first = reference or next((run for run in runs.finished if SCORE in run.metrics), None)
    rows, rank = [], 0
    for run in runs.finished:
        mark = _mark(run, first)
        is_ranked = SCORE in run.metrics and not mark
        rank += is_ranked
        rows.append(Row(run=run, rank=rank if is_ranked else None, score=_score(store, run), mark=mark))
    rows += [Row(run=run, rank=None, score=None, mark="") for run in runs.others]
    return Comparison(
        rows=tuple(rows),
        differing=_differing([row.run for row in rows]),
        more_finished=runs.more_finished,
        more_others=runs.more_others,
    )


def find_study(store: RunStore, name: str) -> RunList | None:
    """The runs of the study of this name, the best first; None where the name is that of a run.

    Raises InputError for what is neither, and for a study without runs.
    """
    which = _named(store, name, RunFilter())
    return None if "sweep" not in which.tags else _overview(store, which, limit=None)


def select(store: RunStore, words: Sequence[str], *, experiment: str, limit: int | None) -> RunList:
    """The runs that any id or study among the words names, and for which all `key=value` hold.

    The experiment counts where neither run nor study is named. Raises InputError where nothing is found.
    """
    filters = [word for word in words if "=" in word]
    which = RunFilter()
    for word in filters:
        key, _, value = word.partition("=")
        which = _with_condition(which, key.strip(), value.strip())
    names = [word for word in words if "=" not in word]
    if names:
        lists = [_overview(store, _named(store, name, which), limit=limit) for name in dict.fromkeys(names)]
    else:
        lists = [_overview(store, replace(which, experiment=experiment), limit=limit)]
    found = merged(lists, rank_by=SCORE, limit=limit)
    if not found.finished and not found.others:
        raise _nothing(store, names, filters, experiment=experiment)
    return found


def find_run(store: RunStore, name: str) -> RunSummary:
    """The run with this id, or with an id that starts so. Raises InputError for none, or several."""
    found = _runs_starting(store, name)
    if not found:
        raise InputError(f"no run {name!r} here; python -m brainseg.compare lists them, or check --root and --uri")
    return found[0]


def compare_pair(store: RunStore, first: str, second: str, *, part: str) -> Pair:
    """Both runs on the slices that both have scored. first, second: ids or their starts. part: of SCORE_FILES.

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
    scores = [{item.id: item for item in read_scores(store, run, part=part)} for run in runs]
    common = sorted(scores[0].keys() & scores[1].keys())
    if not common:
        raise InputError(
            f"run {runs[0].run_id} and run {runs[1].run_id} have no {part} slice in common; "
            "name two runs on the same split"
        )
    slices = tuple(PairedSlice(first=scores[0][key], second=scores[1][key]) for key in common)
    dices = [each.first.dice for each in slices], [each.second.dice for each in slices]
    people = [each.first.person for each in slices]
    return Pair(
        first=runs[0],
        second=runs[1],
        part=part,
        slices=slices,
        only_first=len(scores[0]) - len(common),
        only_second=len(scores[1]) - len(common),
        overall=difference_interval(*dices, people),
        by_type=difference_by_group(*dices, people, [each.first.tumor_type for each in slices]),
    )


def read_scores(store: RunStore, run: RunSummary | RunRecord, *, part: str) -> list[SliceDice]:
    """The scores of a run's slices, at least one. Raises InputError where there are none, or they can't be read."""
    name = SCORE_FILES[part]
    try:
        text = store.text(run.run_id, name)
    except UnreachableError:
        raise
    except TrackingError as error:
        state = run.tags.get("state", run.status.lower())
        remedy = "name a run that was trained to its end"
        if part == "test" and state == "finished":
            remedy = f"score it with python -m brainseg.evaluate {run.run_id} --split test"
        raise InputError(f"run {run.run_id} has no {name} (state: {state}); {remedy}") from error
    try:
        scores = [
            SliceDice(id=row["id"], patient_id=row["patient_id"], tumor_type=row["tumor_type"], dice=float(row["dice"]))
            for row in csv.DictReader(text.splitlines())
        ]
    except (KeyError, TypeError, ValueError):
        scores = []
    if not scores:
        raise InputError(f"{name} of run {run.run_id} can't be read; restore the artifact that the run recorded")
    return scores


def _score(store: RunStore, run: RunSummary) -> Estimate | None:
    """The run's score, with its interval where the slices' scores are there."""
    if SCORE not in run.metrics:
        return None
    score = Estimate(value=run.metrics[SCORE], low=None, high=None)
    try:
        slices = read_scores(store, run, part="val")
    except UnreachableError:
        raise
    except InputError:
        return score
    found = mean_interval([item.dice for item in slices], [item.person for item in slices])
    return replace(found, value=score.value)


def _mark(run: RunSummary, first: RunSummary | None) -> str:
    """What the run doesn't share with the first one; nothing for a run without a score."""
    if first is None or SCORE not in run.metrics:
        return ""
    if run.tags.get("data_fingerprint") != first.tags.get("data_fingerprint"):
        return "other data"
    return "" if run.tags.get("split_fingerprint") == first.tags.get("split_fingerprint") else "other split"


def _differing(runs: Sequence[RunSummary]) -> tuple[str, ...]:
    """Parameters with several values; a run that hasn't recorded any yet has no say."""
    recorded = [run.params for run in runs if run.params]
    known = list(flatten(RunConfig()))
    others = sorted({key for params in recorded for key in params} - set(known))
    return tuple(
        key
        for key in (*known, *others)
        if not key.startswith(UNTOLD) and len({params.get(key) for params in recorded}) > 1
    )


def _overview(store: RunStore, which: RunFilter, *, limit: int | None) -> RunList:
    return store.overview(which, rank_by=SCORE, total_of=SECONDS, limit=limit)


def _with_condition(which: RunFilter, key: str, value: str) -> RunFilter:
    """A configuration key is a parameter, any other key a tag."""
    if not re.fullmatch(r"[\w./-]+", key):
        raise InputError(f"'{key}={value}' is not of the form key=value, such as model.depth=5 or state=finished")
    known = flatten(RunConfig())
    conditions = which.params if key in known else which.tags
    recorded = _as_recorded(known[key], value) if key in known else value
    if conditions.get(key, recorded) != recorded:
        raise InputError(f"{key} is given twice, and all conditions must hold; leave one out")
    if key in known:
        return replace(which, params={**which.params, key: recorded})
    return replace(which, tags={**which.tags, key: recorded})


def _as_recorded(default: object, typed: str) -> str:
    """The text under which a value is recorded: `1e-4` is 0.0001. default: of the same key."""
    if isinstance(default, float):
        try:
            return str(float(typed))
        except ValueError:
            return typed
    return TEXTS.get(typed, typed)


def _named(store: RunStore, name: str, which: RunFilter) -> RunFilter:
    """The filter for the study or the run of this name. Raises InputError where there is neither."""
    of_study = replace(which, tags={**which.tags, "sweep": name})
    looks_like_id = re.fullmatch(rf"[0-9a-f]{{{SHORTEST_ID},32}}|local-[0-9a-f]+", name) is not None
    # What is more likely comes first: each is a question to the server.
    if looks_like_id and (found := _runs_starting(store, name)):
        return replace(which, id_start=found[0].run_id)
    if _any(_overview(store, RunFilter(tags={"sweep": name}), limit=1)):
        return of_study
    if not looks_like_id and len(name) >= SHORTEST_ID and (found := _runs_starting(store, name)):
        return replace(which, id_start=found[0].run_id)
    parents = _any(_overview(store, RunFilter(parents=True), limit=None))
    studies = sorted({run.tags.get("sweep", "") for run in parents})
    if name in studies:
        raise InputError(f"study {name!r} has no runs yet; python -m brainseg.sweep status {name} shows how it stands")
    near = did_you_mean(name, studies) or "; python -m brainseg.compare lists the runs"
    shortest = f" (the start of an id needs {SHORTEST_ID} characters)" if len(name) < SHORTEST_ID else ""
    raise InputError(f"no run and no study {name!r} here{shortest}{near}")


def _runs_starting(store: RunStore, start: str) -> list[RunSummary]:
    """The run whose id starts so, or none. Raises InputError for several, of which none is named in full."""
    if len(start) < SHORTEST_ID:
        raise InputError(f"the start of a run id needs at least {SHORTEST_ID} characters, got {start!r}")
    found = _any(_overview(store, RunFilter(id_start=start), limit=2))
    whole = [run for run in found if run.run_id == start]
    if len(found) > 1 and not whole:
        ids = " and ".join(run.run_id for run in found[:2])
        raise InputError(f"{start!r} is the start of several ids, of {ids} for two; give more of it")
    return whole or found


def _any(runs: RunList) -> list[RunSummary]:
    return [*runs.finished, *runs.others]


def _nothing(store: RunStore, names: Sequence[str], filters: Sequence[str], *, experiment: str) -> InputError:
    """What to say where no run is left, with the key that was meant where one isn't known."""
    where = f"of {', '.join(names)}" if names else f"in experiment {experiment!r}"
    if not filters:
        return InputError(f"no runs {where}; train one first, or check --experiment, --root and --uri")
    newest = _any(_overview(store, RunFilter(experiment=None if names else experiment), limit=NEWEST))
    known = sorted({*flatten(RunConfig()), *(key for run in newest for key in run.tags)})
    for word in filters:
        key = word.partition("=")[0].strip()
        if key not in known:
            near = did_you_mean(key, known) or "; a key is one of the configuration, or a tag such as state or sweep"
            return InputError(f"no run {where} has the parameter or tag {key}{near}")
    return InputError(f"no run {where} has {' and '.join(filters)}; leave a condition out, or check the values")
