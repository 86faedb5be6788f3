"""Interactive figures of a page, for Plotly; text and grid lines have the page's colours."""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# They differ on white and on black, in grey, and for people who see no red or no green.
BEST_COLOUR = "#d55e00"
BASELINE_COLOUR = "#2b7cd3"
OTHER_COLOUR = "#868e96"
LONGEST_NAME = 60  # characters of a run's name beside a point
# Metric that is drawn -> label of its axis.
CURVES = {
    "val_dice_image": "Dice, mean over validation images",
    "val_loss": "loss on the validation slices",
    "train_loss": "loss on the training slices",
}


@dataclass(frozen=True, kw_only=True)
class PageFigure:
    """A figure, or the reason why there is none."""

    name: str  # letters, digits and dashes
    heading: str
    caption: str
    missing: str = ""  # why it can't be drawn; empty if it can
    content: Mapping[str, Any] | None = None  # `data` and `layout` of Plotly; None if it is missing
    width_px: int = 0  # in less room it scrolls sideways; 0: it fits any width


@dataclass(frozen=True, kw_only=True)
class FigureGroup:
    """Figures that stand side by side below one heading."""

    heading: str
    figures: tuple[PageFigure, ...]


@dataclass(frozen=True, kw_only=True)
class Curve:
    """The history of one run."""

    name: str
    role: str  # best, baseline, pruned or other
    metrics: Mapping[str, Mapping[int, float]]  # of CURVES -> epoch -> value


# Role -> colour, width and dash of the line.
LINES = {
    "best": (BEST_COLOUR, 3.0, "solid"),
    "baseline": (BASELINE_COLOUR, 2.5, "dash"),
    "pruned": (OTHER_COLOUR, 1.2, "dot"),
    "other": (OTHER_COLOUR, 1.2, "solid"),
}


def plotly_script() -> str:
    """Plotly's JavaScript, which draws the figures of a page."""
    from plotly.offline import get_plotlyjs

    script: str = get_plotlyjs()
    return script


def curves_figure(curves: Sequence[Curve]) -> PageFigure:
    """A line for each run, the best and the baseline on top. `content` also has the metrics that can be chosen."""
    heading, name = "Curves", "curves"
    drawn = [curve for curve in curves if any(curve.metrics.get(key) for key in CURVES)]
    if not drawn:
        return PageFigure(name=name, heading=heading, caption="", missing="no run has recorded an epoch")
    drawn.sort(key=lambda curve: list(reversed(LINES)).index(curve.role))
    first = next(iter(CURVES))
    content = {
        "data": [_line(curve, first) for curve in drawn],
        "layout": {
            "xaxis": {"title": {"text": "epoch"}, "tickformat": "d"},
            "yaxis": {"title": {"text": CURVES[first]}, "automargin": True},
            "hovermode": "closest",
            "showlegend": False,
            "dragmode": False,  # a finger scrolls the page
            "margin": {"l": 60, "r": 15, "t": 35, "b": 50},
            "height": 420,
        },
        "choices": {
            key: {
                "label": label,
                "x": [_epochs(curve, key) for curve in drawn],
                "y": [_values(curve, key) for curve in drawn],
            }
            for key, label in CURVES.items()
        },
    }
    caption = "A line is a run. Point at a line, or touch it, to see which run it is."
    return PageFigure(name=name, heading=heading, caption=caption, content=content)


def plain(text: str) -> str:
    """A name, shortened and escaped: Plotly takes some tags of HTML for formatting."""
    short = text if len(text) <= LONGEST_NAME else f"{text[: LONGEST_NAME - 1]}…"
    return html.escape(short, quote=False)


def _line(curve: Curve, key: str) -> dict[str, Any]:
    colour, width, dash = LINES[curve.role]
    return {
        "type": "scatter",
        "mode": "lines" if len(_epochs(curve, key)) > 1 else "markers",
        "name": plain(curve.name),
        "x": _epochs(curve, key),
        "y": _values(curve, key),
        "line": {"color": colour, "width": width, "dash": dash},
        "marker": {"color": colour, "size": 7},
        "hovertemplate": "%{fullData.name}<br>epoch %{x}: %{y:.4f}<extra></extra>",
    }


def _epochs(curve: Curve, key: str) -> list[int]:
    return sorted(curve.metrics.get(key, {}))


def _values(curve: Curve, key: str) -> list[float]:
    values = curve.metrics.get(key, {})
    return [round(values[epoch], 6) for epoch in _epochs(curve, key)]
