"""Reads all that a report shows: the best run, its gain over the baseline, and what is needed to judge both.

`page.py` makes the page; nothing is written here.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from brainseg.compare.comparison import Comparison, Row, RunPair, compare_pair, comparison_of
from brainseg.drawing.figures import Panel, choose_panels
from brainseg.drawing.page_figures import CURVES, Curve
from brainseg.errors import InputError, TrackingError
from brainseg.parsing import parse_json
from brainseg.runs import tested
from brainseg.runs.artifacts import MACHINE_FILE, PACKAGES_FILE, optional_text
from brainseg.runs.select import SCORE
from brainseg.runs.stored_predictions import images_of, panel_as_scored, read_predictions
from brainseg.scoring.slice_score import slice_dice
from brainseg.sweep.confirm.confirmation import Confirmation, read_confirmation
from brainseg.sweep.outcome.facts import StudyFacts
from brainseg.sweep.outcome.front import Front, front_of
from brainseg.tracking.listing import FINISHED, ranked
from brainseg.tracking.mlflow.connection import UnreachableError
from brainseg.tracking.protocol import Curves, RunFilter, RunList, RunStore, RunSummary

PICTURE_FILE = "figures/predictions.png"
COMMAND_TAG = "source"  # the command line that started the run
GALLERY = 9  # slices: a third each of the worst, the median and the best
MOST_CURVES = 200  # lines in one figure: more are slow to draw and can't be told apart
SECONDS = "seconds"
# Tag -> what it is, in the table of where the runs come from.
ORIGINS = {
    "data": "data",
    "data_fingerprint": "fingerprint of the data",
    "split": "split by",
    "split_fingerprint": "fingerprint of the split",
    "patients_on_both_sides": "people with slices on both sides of the split",
    "git_commit": "git commit",
    "code_changed": "uncommitted changes in the code",
    "precision": "number format",
    "threads": "threads",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions:
    """Slices of the best run with outlines; else the picture that it recorded; else neither."""

    panels: tuple[Panel, ...] = ()
    picture: bytes | None = None  # PNG
    missing: str = ""  # why there are no panels; empty if there are


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What the runs cost."""

    minutes: float  # of training, without pauses
    epochs: int
    epochs_saved: int  # that pruned runs were asked for and didn't run
    minutes_saved: float  # by the pace of each pruned run


@dataclass(frozen=True, kw_only=True)
class KeyDifference:
    """A configuration key that isn't the same in all runs."""

    key: str
    baseline: str  # empty if there is no such run, or if it hasn't recorded the key
    best: str
    values: Mapping[str, int]  # value -> how many runs have it


@dataclass(frozen=True, kw_only=True)
class Origin:
    """One fact about where the runs come from, such as their data."""

    what: str
    values: Mapping[str, int]  # value -> how many runs have it


@dataclass(frozen=True, kw_only=True, eq=False)
class Report:
    """All that the page shows."""

    study: StudyFacts | None
    comparison: Comparison
    best: Row | None  # None if the runs can't be ranked
    baseline: RunSummary | None
    pair: RunPair | None  # of the baseline and the best; None if they are the same run, or can't be paired
    curves: tuple[Curve, ...]
    epochs: Mapping[str, int]  # run id -> epochs that were trained
    predictions: Predictions
    differences: tuple[KeyDifference, ...]
    cost: Cost
    origins: tuple[Origin, ...]
    machine: Mapping[str, str]  # of the best run; empty if it isn't recorded
    packages: str  # of the best run, a line each
    commands: Mapping[str, str]  # what the command repeats -> command
    confirmation: Confirmation | None  # of the study's winners, by `sweep confirm`
    front: Front | None  # of a study of several metrics
    tested: str  # how many configurations its test slices have judged; empty without one

    @property
    def rankable(self) -> tuple[Row, ...]:
        """The finished runs that can be compared, the best first."""
        return tuple(row for row in self.comparison.rows if row.rank is not None)


def list_of(runs: Iterable[RunSummary]) -> RunList:
    """Runs as a store lists them, each once."""
    each = {run.run_id: run for run in runs}.values()
    finished = [run for run in each if run.tags.get("state") == FINISHED]
    others = tuple(run for run in each if run.tags.get("state") != FINISHED)
    return RunList(finished=ranked(finished, SCORE), others=others, more_finished=False, more_others=False)


def of_study(runs: RunList, study: StudyFacts) -> RunList:
    """The runs of this study, without those of an earlier study of its name."""
    return list_of(run for run in (*runs.finished, *runs.others) if run.tags.get("sweep_id", "") in ("", study.id))


def study_without_storage(name: str, runs: RunList) -> StudyFacts:
    """What the runs alone say about their study. Raises InputError if they belong to several studies of its name."""
    ids = sorted({run.tags.get("sweep_id", "") for run in (*runs.finished, *runs.others)} - {""})
    if len(ids) > 1:
        raise InputError(
            f"{len(ids)} studies are called {name}; name the storage of one with --storage, or runs by their ids"
        )
    # A study tries its baseline first.
    first = next((run for run in (*runs.finished, *runs.others) if run.tags.get("trial") == "0"), None)
    return StudyFacts(
        name=name,
        id="".join(ids),
        baseline=None if first is None else first.run_id,
        missing="Nothing can be drawn of them: the storage of the study isn't here, and --storage names it. "
        "The baseline is taken to be trial 0.",
    )


def make_report(
    store: RunStore,
    runs: RunList,
    *,
    study: StudyFacts | None,
    baseline: RunSummary | None,
    data: Path | None,
    folder: Path,
) -> Report:
    """Reads all that a report of these runs needs.

    baseline: one of the runs, another run, or None. data: where the runs' data lies now. folder: for fetched files.
    Raises InputError if no run has finished.
    """
    if not any(SCORE in run.metrics for run in runs.finished):
        raise InputError(
            f"none of the {len(runs.finished) + len(runs.others)} runs has finished with a {SCORE}; "
            "name runs that were trained to their end, or wait for them"
        )
    is_scored = baseline is not None and SCORE in baseline.metrics
    comparison = comparison_of(store, runs, reference=baseline if is_scored else None)
    best = _best(comparison)
    everyone = [row.run for row in comparison.rows]
    histories = store.curves([run.run_id for run in everyone], (*CURVES, SECONDS))
    epochs = {run_id: len(metrics.get(SECONDS, ())) for run_id, metrics in histories.items()}
    told = best.run if best is not None else runs.finished[0]
    confirmation = None if study is None else read_confirmation(store, study.id)
    return Report(
        study=study,
        comparison=comparison,
        best=best,
        baseline=baseline,
        pair=_pair(store, baseline, best),
        curves=_curves(comparison, histories, best=best, baseline=baseline),
        epochs=epochs,
        predictions=_predictions(store, told, data=data, folder=folder),
        differences=_differences(comparison, best=best, baseline=baseline),
        cost=_cost(comparison, epochs),
        origins=_origins(everyone),
        machine=_machine(store, told),
        packages=optional_text(store, told.run_id, PACKAGES_FILE) or "",
        commands=_commands(store, study, best=told, baseline=baseline),
        confirmation=confirmation,
        front=None if study is None else front_of(store, study.front, study.metrics),
        tested="" if confirmation is None else tested.told(tested.configurations_tested(store, told)),
    )


def _best(comparison: Comparison) -> Row | None:
    """The best ranked run; None if the only ranked one was scored on other slices than all others."""
    ranked = [row for row in comparison.rows if row.rank is not None]
    alone = len(ranked) == 1 and any(row.not_comparable for row in comparison.rows)
    return None if alone or not ranked else ranked[0]


def _pair(store: RunStore, baseline: RunSummary | None, best: Row | None) -> RunPair | None:
    if baseline is None or best is None or baseline.run_id == best.run.run_id or SCORE not in baseline.metrics:
        return None
    try:
        return compare_pair(store, baseline.run_id, best.run.run_id, split="val")
    except UnreachableError:
        raise
    except InputError:  # the scores of the slices are lost
        return None


def _curves(
    comparison: Comparison, histories: Curves, *, best: Row | None, baseline: RunSummary | None
) -> tuple[Curve, ...]:
    """The curves of at most MOST_CURVES runs: the best, the baseline, then in the order of the table."""
    chosen = {} if best is None else {best.run.run_id: best}
    rows = {row.run.run_id: row for row in comparison.rows}
    if baseline is not None and baseline.run_id in rows:
        chosen[baseline.run_id] = rows[baseline.run_id]
    chosen |= {run_id: row for run_id, row in rows.items() if run_id not in chosen}

    def role(row: Row) -> str:
        if best is not None and row.run.run_id == best.run.run_id:
            return "best"
        if baseline is not None and row.run.run_id == baseline.run_id:
            return "baseline"
        return "pruned" if row.state == "pruned" else "other"

    return tuple(
        Curve(name=row.run.name or run_id, role=role(row), metrics=histories[run_id])
        for run_id, row in list(chosen.items())[:MOST_CURVES]
    )


def _predictions(store: RunStore, run: RunSummary, *, data: Path | None, folder: Path) -> Predictions:
    """The panels if the images are at hand, else the picture that the run recorded."""
    try:
        predictions = read_predictions(store, run, folder=folder)
        images = images_of(store, run, data=data)
        ids = list(predictions.scores)
        chosen = choose_panels([slice_dice(scores) for scores in predictions.scores.values()], count=GALLERY)
        panels = tuple(panel_as_scored(predictions, ids[place], images) for place in chosen)
    except UnreachableError:
        raise
    except InputError as error:
        if data is not None:
            raise  # the user named the folder
        reason = str(error)
    else:
        return Predictions(panels=panels)
    try:
        picture = store.file(run.run_id, PICTURE_FILE, folder / f"{run.run_id}-picture").read_bytes()
    except UnreachableError:
        raise
    except (TrackingError, OSError):
        return Predictions(missing=f"{reason}; and the run has no {PICTURE_FILE}")
    return Predictions(picture=picture, missing=reason)


def _differences(comparison: Comparison, *, best: Row | None, baseline: RunSummary | None) -> tuple[KeyDifference, ...]:
    recorded = [row.run.params for row in comparison.rows if row.run.params]
    return tuple(
        KeyDifference(
            key=key,
            baseline="" if baseline is None else baseline.params.get(key, ""),
            best="" if best is None else best.run.params.get(key, ""),
            values=_counted(params.get(key, "") for params in recorded),
        )
        for key in comparison.differing
    )


def _cost(comparison: Comparison, epochs: Mapping[str, int]) -> Cost:
    saved, minutes_saved = 0, 0.0
    for row in comparison.rows:
        asked, done = row.run.params.get("train.epochs", ""), epochs[row.run.run_id]
        if row.state == "pruned" and asked.isdecimal() and done:
            saved += int(asked) - done
            minutes_saved += (int(asked) - done) * (row.run.total or 0.0) / done / 60
    return Cost(
        minutes=sum(row.run.total or 0.0 for row in comparison.rows) / 60,
        epochs=sum(epochs.values()),
        epochs_saved=saved,
        minutes_saved=minutes_saved,
    )


def _origins(runs: Sequence[RunSummary]) -> tuple[Origin, ...]:
    return tuple(
        Origin(what=what, values=values)
        for tag, what in ORIGINS.items()
        if (values := _counted(run.tags.get(tag, "") for run in runs if run.tags.get(tag)))
    )


def _counted(values: Iterable[str]) -> dict[str, int]:
    """Value -> count, the most frequent first."""
    return dict(Counter(values).most_common())


def _machine(store: RunStore, run: RunSummary) -> dict[str, str]:
    try:
        found = parse_json(optional_text(store, run.run_id, MACHINE_FILE) or "{}")
    except ValueError:
        return {}
    return {str(key).replace("_", " "): str(value) for key, value in found.items()} if isinstance(found, dict) else {}


def _commands(
    store: RunStore, study: StudyFacts | None, *, best: RunSummary, baseline: RunSummary | None
) -> dict[str, str]:
    """The recorded command lines; a run that wasn't started by a command has none."""
    told = {f"run {best.name or best.run_id}": best}
    if baseline is not None and baseline.run_id != best.run_id:
        told[f"the baseline {baseline.name or baseline.run_id}"] = baseline
    if study is not None:
        tags = {"sweep": study.name} | ({"sweep_id": study.id} if study.id else {})
        which = RunFilter(parents=True, tags=tags)
        parents = store.overview(which, rank_by=SCORE, total_of=SECONDS, limit=None)
        told |= {f"study {study.name}": run for run in (*parents.finished, *parents.others)}
    return {what: run.tags[COMMAND_TAG] for what, run in told.items() if COMMAND_TAG in run.tags}
