"""The story of an evaluation: finds the slices, chooses the settings, scores every slice, makes the tables.

Every error is raised before a slice is predicted. Nothing is written here.
"""

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from brainseg.cli.console import OnProgress
from brainseg.data.cache import SliceSet
from brainseg.errors import InputError
from brainseg.evaluate.summary import GroupScores, ScoreSummary, group_scores, summarize
from brainseg.evaluate.tuning import Choice, choose, tables_of
from brainseg.evaluate.volume_scores import VolumeScore, volume_scores
from brainseg.inference.postprocess import MaskSettings
from brainseg.inference.prediction import Predictor, ensemble
from brainseg.keys import as_text
from brainseg.runs.stored_run import StoredRun, metrics_of, model_of, slices_in, training_slices
from brainseg.scoring.calibration import Calibration
from brainseg.scoring.confusion import Confusion
from brainseg.scoring.evaluation import Evaluation, evaluate
from brainseg.scoring.intervals import Estimate
from brainseg.scoring.slice_score import SliceScore, by_class, dice_table, metric_table

SPLITS = ("val", "test")


@dataclass(frozen=True, kw_only=True)
class EvaluationSplit:
    """The slices on which a run is scored."""

    name: str  # val, test, or data-NAME for another data set
    slices: SliceSet
    ids: tuple[str, ...]  # sorted, at least one


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is to be done with one run, or with an ensemble of several."""

    runs: tuple[StoredRun, ...]
    split: EvaluationSplit  # the same for all runs
    settings: MaskSettings | None  # None: to be chosen on the validation slices below
    validation: EvaluationSplit | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Scored:
    """One run or ensemble, scored."""

    runs: tuple[StoredRun, ...]
    split: EvaluationSplit
    settings: MaskSettings
    choice: Choice | None  # how the settings were chosen, if by --tune
    evaluation: Evaluation  # in full
    volumes: tuple[VolumeScore, ...] = ()  # those that lie in the split as a whole

    @property
    def id(self) -> str:
        """The run's id, or the ids of all runs joined by plus signs."""
        return "+".join(run.id for run in self.runs)

    @property
    def fold(self) -> int | None:
        """Of the cross-validation, if there is one. The runs of an ensemble share it, as they share their slices."""
        return self.runs[0].config.data.fold


@dataclass(frozen=True, kw_only=True)
class RunScores:
    """The scores of one of several runs."""

    name: str
    dice: Estimate  # what ranks runs
    group: GroupScores | None  # None with several classes


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """One run or ensemble, or several pooled over all of their slices."""

    split: str
    scored: tuple[Scored, ...]
    dice: Estimate  # what ranks runs
    summaries: Mapping[str, ScoreSummary]  # by class; one without a name for binary masks
    by_run: tuple[RunScores, ...]  # a row for each of several, and one without fold 0; empty for one
    by_type: Mapping[str, Estimate]  # what ranks runs, for the slices of each tumour type
    calibrations: Mapping[str, Calibration]  # by class
    confusion: Confusion | None  # of exclusive classes
    further: Mapping[str, Estimate]  # metric of a plugin that all of them have -> its mean over slices, then classes

    @property
    def has_classes(self) -> bool:
        """False for binary masks."""
        return "" not in self.summaries

    @property
    def summary(self) -> ScoreSummary:
        """Of binary masks."""
        return self.summaries[""]

    @property
    def scores(self) -> list[SliceScore]:
        """Of all runs, one after the other."""
        return [item for scored in self.scored for item in scored.evaluation.scores]

    @property
    def volumes(self) -> list[VolumeScore]:
        """Of all runs, likewise; empty for a set that isn't of volumes."""
        return [item for scored in self.scored for item in scored.volumes]

    @property
    def slices_of_partial_volumes(self) -> int:
        """Slices that were scored, and whose volumes weren't, since some of theirs are in other parts of the split."""
        whole = sum(sum({item.id: item.slices for item in scored.volumes}.values()) for scored in self.scored)
        return sum(len(scored.evaluation.predictions) for scored in self.scored) - whole

    @property
    def ensemble_size(self) -> int:
        """Runs of the largest ensemble; 1 if every run is scored alone."""
        return max(len(scored.runs) for scored in self.scored)

    @property
    def place(self) -> str:
        """The name under `evaluation/` and of the tags: an ensemble's scores replace no other ones."""
        return self.split if self.ensemble_size == 1 else f"{self.split}-averaged"


def split_of(
    run: StoredRun,
    *,
    split: str | None,
    data: Path | None,
    named: Mapping[str, Any] = MappingProxyType({}),
    default: str = "val",
) -> EvaluationSplit:
    """Finds the slices to score. split: val or test. data: another folder, or where the run's data has moved to.

    named: as for `slices_in`.
    Raises InputError if the run has no such slices, or if its data has changed since it was trained.
    """
    if data is None:
        _ids_of(run, split or default)  # before minutes of decoding
        return _evaluation_split(run, training_slices(run), split or default)
    slices = slices_in(run, data, named)
    if slices.fingerprint != run.fingerprint:
        if split is not None:
            raise InputError(
                f"--split {split} has no meaning for {data}, which is not the data that run {run.id} was trained on; "
                "leave --split out to score all of its slices"
            )
        name = re.sub(r"[^A-Za-z0-9._-]", "_", slices.source.name)  # for a folder of artifacts and a tag
        return EvaluationSplit(name=f"data-{name}", slices=slices, ids=tuple(item.id for item in slices.slices))
    return _evaluation_split(run, slices, split or default)


def task_of(
    run: StoredRun,
    *,
    split: str | None,
    settings: MaskSettings | None,
    data: Path | None = None,
    named: Mapping[str, Any] = MappingProxyType({}),
    default: str = "val",
) -> Task:
    """What is to be done with one run. settings: None to choose them on its validation slices.

    For the other arguments and errors see `split_of`.
    """
    found = split_of(run, split=split, data=data, named=named, default=default)
    return Task(
        runs=(run,),
        split=found,
        settings=settings,
        validation=_validation_split(run, found) if settings is None else None,
    )


def _validation_split(run: StoredRun, split: EvaluationSplit) -> EvaluationSplit:
    """The run's validation slices, from the data of `split` if that is the run's own."""
    slices = split.slices if split.slices.fingerprint == run.fingerprint else training_slices(run)
    return _evaluation_split(run, slices, "val")


def together(tasks: Sequence[Task], *, average: bool) -> list[Task]:
    """Checks that the runs can be pooled. average: make ensembles of those that score the same slices.

    Raises InputError unless all runs were trained on the same data and no slice is scored twice; with `average` also
    if no two runs score the same slices, or if those that do can't be an ensemble.
    """
    first = tasks[0].runs[0]
    for (run,) in (task.runs for task in tasks):
        if run.fingerprint != first.fingerprint:
            raise InputError(
                f"run {first.id} and run {run.id} were trained on different data; evaluate them one by one"
            )
    joined = _ensembles(tasks) if average else list(tasks)
    owner: dict[str, str] = {}
    for task in joined:
        run = task.runs[0]
        for slice_id in task.split.ids:
            if slice_id in owner:
                remedy = "" if average else "average them with --average, or "
                raise InputError(
                    f"slice {slice_id} is in the {task.split.name} split of run {owner[slice_id]} and of run "
                    f"{run.id}, and a pooled score counts each slice once; {remedy}evaluate them one by one"
                )
            owner[slice_id] = run.id
    return joined


def score(task: Task, progress: OnProgress) -> Scored:
    """Chooses the settings if asked to, and scores every slice of the split."""
    predictor = Predictor(ensemble([model_of(run) for run in task.runs]))
    score_by = task.runs[0].config.data.score_by
    choice = None if task.validation is None else _tuned(predictor, task.validation, score_by, progress)
    settings = choice.settings if choice is not None else task.settings or MaskSettings()
    evaluation = evaluate(
        predictor,
        task.split.slices,
        task.split.ids,
        score_by=score_by,
        settings=settings,
        metrics=metrics_of(task.runs[0].config)[0],
        in_full=True,
        on_slice=_counting(progress, f"{runs_short_title(task.runs)}, {task.split.name}", task.split),
    )
    return Scored(
        runs=task.runs,
        split=task.split,
        settings=settings,
        choice=choice,
        evaluation=evaluation,
        volumes=volume_scores(task.split.slices, evaluation),
    )


def outcome_of(scored: Sequence[Scored]) -> Outcome:
    """The tables of one run, or of several pooled: every slice counts once, whichever run scored it."""
    calibrations = {name: Calibration() for name in scored[0].split.slices.labels.names}
    for each in scored:
        for name, calibration in each.evaluation.calibrations.items():
            calibrations[name].merge(calibration)
    scores = [item for each in scored for item in each.evaluation.scores]
    score_by = scored[0].evaluation.score_by
    table = dice_table(scores, score_by=score_by)
    types = sorted(set(table.groups) - {""})
    return Outcome(
        split=scored[0].split.name,
        scored=tuple(scored),
        dice=table.interval(),
        summaries={name: summarize(group, score_by=score_by) for name, group in by_class(scores).items()},
        by_run=_by_run(scored) if len(scored) > 1 else (),
        by_type={name: table.of_group(name).interval() for name in types},
        calibrations=calibrations,
        confusion=_confusion([each.evaluation for each in scored]),
        further=_further([each.evaluation for each in scored]),
    )


def _further(evaluations: Sequence[Evaluation]) -> dict[str, Estimate]:
    scores = [item for each in evaluations for item in each.scores]
    found: dict[str, Estimate] = {}
    for name in evaluations[0].further:
        if all(name in each.further for each in evaluations):
            table = metric_table(scores, [value for each in evaluations for value in each.further[name]])
            found |= {name: table.interval()} if table.counted.any() else {}
    return found


def _confusion(evaluations: Sequence[Evaluation]) -> Confusion | None:
    first, *others = (evaluation.confusion for evaluation in evaluations)
    for other in others:
        if first is not None and other is not None:
            first = first.merged(other)
    return first


def runs_title(runs: Sequence[StoredRun]) -> str:
    """`run 1a2b...`, or `ensemble of runs 1a2b..., 3c4d...`."""
    ids = ", ".join(run.id for run in runs)
    return f"run {ids}" if len(runs) == 1 else f"ensemble of runs {ids}"


def runs_short_title(runs: Sequence[StoredRun]) -> str:
    """`fold 0, run 1a2b...` or `fold 0, ensemble of 2 runs`; without folds as `runs_title`."""
    fold = runs[0].config.data.fold
    if fold is None:
        return runs_title(runs)
    return f"fold {fold}, {runs_title(runs) if len(runs) == 1 else f'ensemble of {len(runs)} runs'}"


def _evaluation_split(run: StoredRun, slices: SliceSet, split: str) -> EvaluationSplit:
    ids = _ids_of(run, split)
    unknown = sorted(set(ids) - {item.id for item in slices.slices})
    if unknown:
        raise InputError(
            f"split.json of run {run.id} names slice {unknown[0]}, which its data doesn't have "
            f"({len(unknown)} in all); restore the artifact that the run recorded"
        )
    return EvaluationSplit(name=split, slices=slices, ids=ids)


def _ids_of(run: StoredRun, split: str) -> tuple[str, ...]:
    ids = {"val": run.split.val, "test": run.split.test}[split]
    if not ids:
        raise InputError(
            f"run {run.id} has no {split} slices in its split; score its validation slices with --split val, "
            "or train with data.test_fraction or data.folds"
        )
    return ids


def _counting(progress: OnProgress, what: str, split: EvaluationSplit) -> Callable[[], None]:
    """Returns what is called after each slice of the split, to show how many are done."""
    done = itertools.count(1)
    return lambda: progress(what, next(done), len(split.ids))


def _tuned(predictor: Predictor, validation: EvaluationSplit, score_by: str, progress: OnProgress) -> Choice:
    on_slice = _counting(progress, "choosing on validation slices", validation)
    tables = tables_of(predictor, validation.slices, validation.ids, score_by=score_by, on_slice=on_slice)
    return choose(tables, validation.slices.labels.names)


def _ensembles(tasks: Sequence[Task]) -> list[Task]:
    groups: dict[tuple[str, ...], list[Task]] = {}
    for task in tasks:
        groups.setdefault(task.split.ids, []).append(task)
    if len(groups) == len(tasks):
        raise InputError("--average is for runs that score the same slices, and no two of these do; leave it out")
    return [_joined(group) for group in groups.values()]


def _joined(tasks: Sequence[Task]) -> Task:
    first = tasks[0]
    size = first.runs[0].config.data.image_size
    for task in tasks:
        pair = f"run {first.runs[0].id} and run {task.runs[0].id}"
        other_size = task.runs[0].config.data.image_size
        if other_size != size:
            raise InputError(
                f"{pair} work at {as_text(size)} and at {as_text(other_size)} pixels, and only models of one "
                "data.image_size can be averaged; leave one out"
            )
        reading = first.runs[0].config.data.reading_keys
        for key, value in task.runs[0].config.data.reading_keys.items():
            if value != reading[key]:
                raise InputError(
                    f"{pair} have data.{key}={reading[key]} and {value}, and only models that read images alike can be "
                    "averaged; leave one out"
                )
        if first.validation and task.validation and task.validation.ids != first.validation.ids:
            raise InputError(
                f"{pair} have different validation slices, and --tune needs slices that no model was trained on; "
                "leave --tune out, or one of the runs"
            )
    return replace(first, runs=tuple(run for task in tasks for run in task.runs))


def _by_run(scored: Sequence[Scored]) -> tuple[RunScores, ...]:
    score_by = scored[0].evaluation.score_by
    rows = [_run_scores(runs_short_title(each.runs), each.evaluation.scores, score_by) for each in scored]
    # The recipe may have been searched on fold 0.
    others = [item for each in scored if each.fold != 0 for item in each.evaluation.scores]
    if any(each.fold == 0 for each in scored) and others:
        rows.append(_run_scores("without fold 0", others, score_by))
    return tuple(rows)


def _run_scores(name: str, scores: Sequence[SliceScore], score_by: str) -> RunScores:
    group = None if scores[0].class_name else group_scores(name, scores)
    return RunScores(name=name, dice=dice_table(scores, score_by=score_by).interval(), group=group)
