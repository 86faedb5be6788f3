"""What a report tells of a study: its baseline, its best trial, and Optuna's plots of what mattered."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from brainseg.config import TrackingConfig
from brainseg.drawing.page_figures import BEST_COLOUR, OTHER_COLOUR, FigureGroup, PageFigure, plain
from brainseg.sweep.engine import trial_queue as keys
from brainseg.sweep.engine.storage import open_storage, place_of
from brainseg.sweep.engine.stored_study import load_config
from brainseg.sweep.engine.trial_row import shown_metric, shown_value
from brainseg.sweep.outcome.plots import copy_of, quiet, shares_evaluator, varied_parameters
from brainseg.sweep.outcome.summary import MetricSummary, headline, summarize, verdict
from brainseg.sweep.study.study_file import StudyConfig
from brainseg.tracking.home import home_of

# Dark and light of it are told apart by people who see no red or green; with a rim also on white.
NUMBER_COLOURS = "Cividis"


@dataclass(frozen=True, kw_only=True)
class StudyFacts:
    """What is known of a study, besides its runs."""

    name: str
    id: str = ""  # tag `sweep_id` of its runs, which tells it from others of its name; empty where unknown
    baseline: str | None  # run id; None where it has none
    verdicts: tuple[str, ...] = ()  # its best trial, a sentence for each metric
    progress: str = ""  # how many trials have ended, and how; empty where unknown
    groups: tuple[FigureGroup, ...] = ()
    missing: str = ""  # why there are no figures; empty where there are


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


AXIS_PX = 90  # an axis with its labels takes at least so much
APART = 0.12  # of an axis, between two labels


@dataclass(frozen=True, kw_only=True)
class _Axis:
    """Where the values of a parameter, or of the metric, stand between 0 and 1."""

    title: str
    place: Callable[[Any], float]
    labels: Mapping[float, str]  # place -> text


def parallel_lines(
    trials: Sequence[FrozenTrial], names: Sequence[str], *, metric: str, maximize: bool
) -> tuple[dict[str, Any], int]:
    """The figure for Plotly, and how wide it has to be at least, in pixels.

    trials: complete ones, at least one, of one metric. names: parameters that have several values among them. A trial
    that lacks a parameter has a gap there. The better a trial, the more its line is of the colour of the best.
    """
    ordered = sorted(trials, key=lambda trial: trial.values[0], reverse=not maximize)  # the best last, on top
    axes = [_number_axis(metric, [trial.values[0] for trial in ordered], shown=shown_metric)]
    axes += [_axis_of(name, ordered) for name in names]
    lines = [_line(trial, place, ordered, axes, names, metric) for place, trial in enumerate(ordered)]
    upright = [
        {"type": "line", "x0": place, "x1": place, "y0": 0, "y1": 1, "line": {"width": 1}, "layer": "below"}
        for place in range(len(axes))
    ]
    layout = {
        "xaxis": {
            "tickvals": list(range(len(axes))),
            "ticktext": [plain(axis.title) for axis in axes],
            "side": "top",
            "showgrid": False,
            "zeroline": False,
            "range": [-0.3, len(axes) - 0.3],
            "fixedrange": True,
        },
        "yaxis": {"visible": False, "range": [-0.06, 1.06], "fixedrange": True},
        "shapes": upright,
        "annotations": [
            {"x": place, "y": at, "text": plain(text), "showarrow": False, "xanchor": "left", "xshift": 4}
            for place, axis in enumerate(axes)
            for at, text in axis.labels.items()
        ],
        "hovermode": "closest",
        "showlegend": False,
        "dragmode": False,
        "margin": {"l": 10, "r": 10, "t": 45, "b": 10},
        "height": 380,
    }
    return {"data": lines, "layout": layout}, AXIS_PX * len(axes)


def _line(
    trial: FrozenTrial,
    place: int,
    ordered: Sequence[FrozenTrial],
    axes: Sequence[_Axis],
    names: Sequence[str],
    metric: str,
) -> dict[str, Any]:
    """The line of the trial at `place` of those that are ordered from the worst to the best."""
    is_best = trial is ordered[-1]
    values = [trial.values[0], *(trial.params.get(name) for name in names)]
    given = [f"{name}={shown_value(trial.params[name])}" for name in names if name in trial.params]
    told = plain(f"trial {trial.number}: {metric} {shown_metric(trial.values[0])}")
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": f"trial {trial.number}",
        "x": list(range(len(axes))),
        "y": [None if value is None else axis.place(value) for axis, value in zip(axes, values, strict=True)],
        "line": {
            "color": _between(OTHER_COLOUR, BEST_COLOUR, place / max(1, len(ordered) - 1)),
            "width": 3 if is_best else 1.2,
        },
        "marker": {"size": 6 if is_best else 4},
        "hovertemplate": "<br>".join([told, *map(plain, given)]) + "<extra></extra>",
    }


def _axis_of(name: str, trials: Sequence[FrozenTrial]) -> _Axis:
    having = [trial for trial in trials if name in trial.params]
    values = [trial.params[name] for trial in having]
    are_numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    if are_numbers:
        is_log = getattr(having[0].distributions[name], "log", False)
        return _number_axis(name, values, is_log=is_log, shown=shown_value)
    kinds = sorted({shown_value(value) for value in values})
    places = {kind: place / max(1, len(kinds) - 1) for place, kind in enumerate(kinds)}
    return _Axis(
        title=name,
        place=lambda value: places[shown_value(value)],
        labels={place: kind for kind, place in places.items()},
    )


def _number_axis(title: str, values: Sequence[float], *, shown: Callable[[Any], str], is_log: bool = False) -> _Axis:
    low, high = min(values), max(values)
    scale: Callable[[float], float] = math.log if is_log else float
    width = scale(high) - scale(low)

    def place(value: Any) -> float:
        return (scale(value) - scale(low)) / width if width else 0.5

    labels = {place(low): shown(low), place(high): shown(high)}
    for value in sorted(set(values)):
        if all(abs(place(value) - other) >= APART for other in labels):
            labels[place(value)] = shown(value)
    return _Axis(title=title, place=place, labels=labels)


def _between(first: str, second: str, share: float) -> str:
    """A colour so far from the first one to the second."""
    channels = [
        round(int(first[at : at + 2], 16) * (1 - share) + int(second[at : at + 2], 16) * share) for at in (1, 3, 5)
    ]
    return "#" + "".join(f"{channel:02x}" for channel in channels)
