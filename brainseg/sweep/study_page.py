"""What a report tells of a study: its baseline, its best trial, and Optuna's plots of what mattered."""

import json
from typing import Any

import optuna
from optuna.trial import TrialState

from brainseg.analysis.page_figures import OTHER_COLOUR, FigureGroup, PageFigure
from brainseg.analysis.report import StudyFacts
from brainseg.config import TrackingConfig
from brainseg.sweep import trial_queue as keys
from brainseg.sweep.parallel import parallel_lines
from brainseg.sweep.plots import copy_of, quiet, shares_evaluator, varied_parameters
from brainseg.sweep.storage import open_storage, place_of
from brainseg.sweep.study import load_config
from brainseg.sweep.study_file import StudyConfig
from brainseg.sweep.summary import MetricSummary, headline, summarize, verdict
from brainseg.tracking.home import home_of

# Dark and light of it are told apart by people who see no red or green; with a rim also on white.
NUMBER_COLOURS = "Cividis"


def facts_of_study(name: str, *, tracking: TrackingConfig, where: str | None) -> StudyFacts | None:
    """What the study's storage knows; None where no storage was named and none is here.

    where: the storage, as `--storage` takes it. Raises TrackingError where it can't be used, or has no such study.
    """
    root = home_of(tracking).root
    place = place_of(where, root=root, name=name)
    if where is None and not isinstance(place, str) and not place.exists():
        return None
    with quiet():
        storage = open_storage(where, root=root, name=name, create=False)
        with storage.reached():
            config = load_config(storage, name)
            study = optuna.load_study(study_name=name, storage=storage.optuna)
            return study_facts(study, config)


def study_facts(study: optuna.Study, config: StudyConfig) -> StudyFacts:
    """The same of a study that is open."""
    with quiet():
        summary = summarize(study, config)
        groups = [
            group
            for position, metric in enumerate(summary.metrics)
            for group in _groups(copy_of(study, position), metric, is_alone=len(summary.metrics) == 1)
        ]
    return StudyFacts(
        name=config.name,
        id=study.user_attrs.get(keys.STUDY_ID, ""),
        baseline=None if summary.baseline is None or not summary.baseline.run_id else summary.baseline.run_id,
        verdicts=tuple(verdict(summary, metric) for metric in summary.metrics),
        progress=f"{headline(summary)}.",
        groups=tuple(groups),
    )


def _groups(study: optuna.Study, metric: MetricSummary, *, is_alone: bool) -> list[FigureGroup]:
    """study: a copy with this metric alone, the parameters under short names."""
    suffix = "" if is_alone else f"-{metric.name}"
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    varied = varied_parameters(complete)
    missing = "" if varied else "no parameter differs between complete trials"
    heading = f"Parallel coordinates: {metric.name} of each complete trial"
    caption = (
        "A line is a complete trial; the best one is the widest, and the better a trial, the more it has its colour."
    )
    content, width_px = None, 0
    if varied:
        content, width_px = parallel_lines(
            complete, varied, metric=metric.name, maximize=metric.direction == "maximize"
        )
    parallel = PageFigure(
        name=f"parallel{suffix}", heading=heading, caption=caption, missing=missing, content=content, width_px=width_px
    )
    slices = [_slice(study, metric, name, f"slice{suffix}-{place}") for place, name in enumerate(varied)]
    if not slices:
        slices = [PageFigure(name=f"slice{suffix}", heading="Slices", caption="", missing=missing)]
    return [
        FigureGroup(heading=f"Importance for {metric.name}", figures=(_importance(study, metric, suffix),)),
        FigureGroup(heading=f"Slices: {metric.name} by parameter", figures=tuple(slices)),
        FigureGroup(heading=heading, figures=(parallel,)),
    ]


def _importance(study: optuna.Study, metric: MetricSummary, suffix: str) -> PageFigure:
    name, heading = f"importance{suffix}", f"Importance for {metric.name}"
    shares = metric.importance.shares
    if not shares:
        return PageFigure(name=name, heading=heading, caption="", missing=metric.importance.note)
    figure = optuna.visualization.plot_param_importances(study, shares_evaluator(metric), target_name=metric.name)
    figure.update_traces(marker_color=OTHER_COLOUR, textfont_color=None)
    note = f" {metric.importance.note[0].upper()}{metric.importance.note[1:]}." if metric.importance.note else ""
    caption = (
        f"The share of the differences in {metric.name} between complete trials that a parameter explains by itself "
        f"(fANOVA). Of few trials it says little.{note}"
    )
    content = _content(figure, x="share of the variance", y="", height=110 + 34 * len(shares))
    return PageFigure(name=name, heading=heading, caption=caption, content=content)


def _slice(study: optuna.Study, metric: MetricSummary, parameter: str, name: str) -> PageFigure:
    figure = optuna.visualization.plot_slice(study, [parameter], target_name=metric.name)
    figure.update_traces(marker_colorscale=NUMBER_COLOURS, marker_showscale=False, marker_size=8)
    figure.for_each_xaxis(lambda axis: axis.update(exponentformat="e") if axis.type == "log" else None)
    caption = f"{metric.name} of each complete trial by {parameter}; the later a trial, the lighter its point."
    content = _content(figure, x=parameter, y=metric.name, height=280)
    return PageFigure(name=name, heading=f"Slice: {parameter}", caption=caption, content=content)


def _content(figure: Any, *, x: str, y: str, height: int) -> dict[str, Any]:
    """As the page takes it: without Optuna's template, whose colours are those of a light page."""
    figure.update_layout(
        template=None,
        title=None,
        xaxis_title=x,
        yaxis_title=y,
        yaxis_automargin=True,
        showlegend=False,
        dragmode=False,
        height=height,
        width=None,
        margin={"l": 60, "r": 15, "t": 35, "b": 50},
    )
    found: dict[str, Any] = json.loads(figure.to_json())
    return found
