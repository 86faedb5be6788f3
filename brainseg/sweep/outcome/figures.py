"""The plots of a study as interactive figures of a page, drawn by Optuna's functions for Plotly."""

import dataclasses
import json
from collections.abc import Callable, Collection, Mapping
from typing import Any

import optuna

from brainseg.drawing.page_figures import OTHER_COLOUR, Curve, FigureGroup, PageFigure, curves_figure
from brainseg.sweep.engine.trial_row import REPORTED
from brainseg.sweep.outcome.drawable import HEADINGS, Plot, plots_of
from brainseg.sweep.outcome.parallel import parallel_lines
from brainseg.sweep.outcome.summary import StudySummary
from brainseg.sweep.study.plan import quiet
from brainseg.tracking.mlflow.connection import reason

# Dark and light of it are told apart by people who see no red or green; with a rim also on white.
NUMBER_COLOURS = "Cividis"
HEIGHT_PX = 380


def figure_groups(
    study: optuna.Study, summary: StudySummary, *, kinds: Collection[str] = tuple(HEADINGS)
) -> tuple[FigureGroup, ...]:
    """The plots of these kinds, each under its heading."""
    with quiet():
        return tuple(
            FigureGroup(heading=plot.heading, figures=_drawn(plot))
            for plot in plots_of(study, summary)
            if plot.kind in kinds
        )


def _drawn(plot: Plot) -> tuple[PageFigure, ...]:
    """The plot, or in its place why there is none."""
    try:
        missing = plot.missing
        if not missing:
            return FIGURES[plot.kind](plot)
    except Exception as error:  # whatever a library raises: the others are drawn
        missing = f"it failed ({reason(error)})"
    return (PageFigure(name=plot.name, heading=plot.heading, caption="", missing=missing),)


def _history(plot: Plot) -> tuple[PageFigure, ...]:
    figure = optuna.visualization.plot_optimization_history(plot.study, target_name=plot.metric.name)
    told = ""
    if plot.metric.baseline_value is not None:
        figure.add_hline(plot.metric.baseline_value, line_dash="dot")
        told = "; the dotted line is the baseline"
    caption = f"{plot.metric.name} of each complete trial, and the best value so far{told}."
    return (_figure(plot, figure, caption=caption, x="trial", y=plot.metric.name, height=HEIGHT_PX),)


def _importance(plot: Plot) -> tuple[PageFigure, ...]:
    metric = plot.metric
    figure = optuna.visualization.plot_param_importances(plot.study, plot.evaluator, target_name=metric.name)
    figure.update_traces(marker_color=OTHER_COLOUR, textfont_color=None)
    note = f" {metric.importance.note[0].upper()}{metric.importance.note[1:]}." if metric.importance.note else ""
    caption = (
        f"The share of the differences in {metric.name} between complete trials that a parameter explains by itself "
        f"(fANOVA). Of few trials it says little.{note}"
    )
    height = 110 + 34 * len(metric.importance.shares)
    return (_figure(plot, figure, caption=caption, x="share of the variance", y="", height=height),)


def _slices(plot: Plot) -> tuple[PageFigure, ...]:
    """A figure for each parameter."""
    found = []
    for place, parameter in enumerate(plot.varied):
        figure = optuna.visualization.plot_slice(plot.study, [parameter], target_name=plot.metric.name)
        figure.update_traces(marker_colorscale=NUMBER_COLOURS, marker_showscale=False, marker_size=8)
        figure.for_each_xaxis(lambda axis: axis.update(exponentformat="e") if axis.type == "log" else None)
        caption = f"{plot.metric.name} of each complete trial by {parameter}; the later a trial, the lighter its point."
        drawn = _figure(plot, figure, caption=caption, x=parameter, y=plot.metric.name, height=280)
        found.append(dataclasses.replace(drawn, name=f"{plot.name}-{place}", heading=f"Slice: {parameter}"))
    return tuple(found)


def _parallel(plot: Plot) -> tuple[PageFigure, ...]:
    maximize = plot.metric.direction == "maximize"
    content, width_px = parallel_lines(plot.complete, plot.varied, metric=plot.metric.name, maximize=maximize)
    caption = (
        "A line is a complete trial; the best one is the widest, and the better a trial, the more it has its colour."
    )
    return (PageFigure(name=plot.name, heading=plot.heading, caption=caption, content=content, width_px=width_px),)


def _intermediate(plot: Plot) -> tuple[PageFigure, ...]:
    best = plot.summary.best[0].number if plot.summary.best else None
    baseline = None if plot.summary.baseline is None else plot.summary.baseline.number
    rows, curves = plot.rows, []
    for trial in plot.study.get_trials(deepcopy=False):
        if (row := rows.get(trial.number)) is not None:
            role = {best: "best", baseline: "baseline"}.get(row.number, "pruned" if row.state == "pruned" else "other")
            name = f"trial {row.number}, {row.state}"
            curves.append(Curve(name=name, role=role, metrics={REPORTED: trial.intermediate_values}))
    caption = "A line is a trial; the best is orange, the baseline blue and dashed, pruned ones are dotted."
    return (dataclasses.replace(curves_figure(curves), name=plot.name, heading=plot.heading, caption=caption),)


def _pareto(plot: Plot) -> tuple[PageFigure, ...]:
    names = [metric.name for metric in plot.summary.metrics]
    figure = optuna.visualization.plot_pareto_front(plot.study, target_names=names)
    x, y = names if len(names) == 2 else ("", "")
    return (_figure(plot, figure, caption="A point is a complete trial.", x=x, y=y, height=HEIGHT_PX),)


def _figure(plot: Plot, figure: Any, *, caption: str, height: int, x: str = "", y: str = "") -> PageFigure:
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
    return PageFigure(name=plot.name, heading=plot.heading, caption=caption, content=json.loads(figure.to_json()))


FIGURES: Mapping[str, Callable[[Plot], tuple[PageFigure, ...]]] = {
    "history": _history,
    "importance": _importance,
    "slice": _slices,
    "parallel": _parallel,
    "intermediate": _intermediate,
    "pareto": _pareto,
}
