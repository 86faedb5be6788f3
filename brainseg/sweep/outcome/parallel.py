"""Parallel coordinates of a study: a line for each complete trial, across an axis for the metric and each parameter."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial

from brainseg.drawing.page_figures import BEST_COLOUR, OTHER_COLOUR, plain
from brainseg.sweep.engine.trial_row import shown_metric, shown_value

AXIS_PX = 90  # an axis with its labels takes at least so much
APART = 0.12  # of an axis, between two labels


@dataclass(frozen=True, kw_only=True)
class _Axis:
    """The scale of a parameter or the metric: value -> place between 0 and 1."""

    title: str
    place: Callable[[Any], float]
    labels: Mapping[float, str]  # place -> text


def parallel_lines(
    trials: Sequence[FrozenTrial], names: Sequence[str], *, metric: str, maximize: bool
) -> tuple[dict[str, Any], int]:
    """The figure for Plotly, and its minimum width in pixels.

    trials: complete ones, at least one, of one metric. names: parameters with several values among them. A trial
    without a parameter has a gap there. The better a trial, the closer its line to the colour of the best.
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
    """The line of the trial at `place` in `ordered`, from the worst to the best."""
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
    """The mix of two colours. share: of the second, from 0 to 1."""
    channels = [
        round(int(first[at : at + 2], 16) * (1 - share) + int(second[at : at + 2], 16) * share) for at in (1, 3, 5)
    ]
    return "#" + "".join(f"{channel:02x}" for channel in channels)
