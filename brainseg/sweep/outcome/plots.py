"""The plots of a study as PNG files, drawn by Optuna's functions for matplotlib."""

import functools
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.exceptions import ExperimentalWarning

from brainseg.sweep.engine.trial_row import INTERRUPTED, REPORTED
from brainseg.sweep.outcome.drawable import Plot, plots_of
from brainseg.sweep.outcome.summary import StudySummary
from brainseg.sweep.study.plan import quiet
from brainseg.tracking.listing import INFEASIBLE
from brainseg.tracking.mlflow.connection import reason

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Save = Callable[[Path], None]
DPI = 110
# State -> colour and line style, in the plot of the epochs.
CURVES = {
    "complete": ("#1f77b4", "solid"),
    INFEASIBLE: ("#7f7f7f", "solid"),
    "pruned": ("#ff7f0e", "dashed"),
    "running": ("#2ca02c", "dotted"),
    INTERRUPTED: ("#9467bd", "dotted"),
}
BEST_COLOUR = "#d62728"


def write_plots(study: optuna.Study, summary: StudySummary, write: Callable[[str, Save], None]) -> list[str]:
    """Draws each plot for which there are enough trials. write: takes a PNG file's name and what saves it at a path.

    Returns a line for each plot that Optuna, or its library, failed to draw: no plot ends a sweep.
    """
    failed = []
    with _drawing():
        for plot in plots_of(study, summary):
            try:
                if not plot.missing:
                    write(f"{plot.name}.png", functools.partial(_save, plot))
            except Exception as error:
                failed.append(f"the plot {plot.name} couldn't be drawn: {reason(error)}")
    return failed


@contextmanager
def _drawing() -> Iterator[None]:
    """Optuna draws through pyplot and sets a style: here without a display, and with all settings restored."""
    from matplotlib import pyplot

    backend = pyplot.get_backend()
    with pyplot.rc_context({"figure.constrained_layout.use": True}), warnings.catch_warnings(), quiet():
        warnings.simplefilter("ignore", ExperimentalWarning)  # Optuna calls its matplotlib plots so since 2.2
        pyplot.switch_backend("Agg")
        try:
            yield
        finally:
            pyplot.switch_backend(backend)


def _save(plot: Plot, path: Path) -> None:
    from matplotlib import pyplot

    figure = AXES[plot.kind](plot).get_figure(root=True)
    if figure is None:
        raise RuntimeError(f"{plot.name}: Optuna drew no figure")
    try:
        for axes in figure.get_axes():
            axes.set_title("")
            axes.set_title("", loc="left")
        figure.suptitle(f"{plot.heading} ({plot.summary.name})", fontsize=11)
        figure.set_size_inches(_size_in(plot))
        figure.set_layout_engine("constrained")  # two of Optuna's plots ask for another one
        figure.savefig(path, dpi=DPI)
    finally:
        pyplot.close(figure)


def _size_in(plot: Plot) -> tuple[float, float]:
    """Width and height."""
    sizes: dict[str, tuple[float, float]] = {"history": (8, 4.5), "intermediate": (8, 5), "pareto": (7, 5)}
    sizes["importance"] = 8, 1.5 + 0.4 * len(plot.metric.importance.shares)
    sizes["slice"] = max(6, 3 * len(plot.varied) + 1), 4
    sizes["parallel"] = max(8, 2.2 * (len(plot.varied) + 2)), 5
    return sizes[plot.kind]


def _history(plot: Plot) -> "Axes":
    from matplotlib.ticker import MaxNLocator
    from optuna.visualization.matplotlib import plot_optimization_history

    axes = plot_optimization_history(plot.study, target_name=plot.metric.name)
    if plot.metric.baseline_value is not None:
        axes.axhline(plot.metric.baseline_value, color="black", linestyle=":", linewidth=1, label="baseline")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(loc="best")
    return axes


def _importance(plot: Plot) -> "Axes":
    from optuna.visualization.matplotlib import plot_param_importances

    axes = plot_param_importances(plot.study, plot.evaluator, target_name=plot.metric.name)
    axes.set(xlabel="share of the variance", ylabel="")
    axes.legend([]).remove()
    return axes


def _slice(plot: Plot) -> "Axes":
    from optuna.visualization.matplotlib import plot_slice

    drawn: Any = plot_slice(plot.study, plot.varied, target_name=plot.metric.name)  # several axes for several names
    axes: Axes = drawn if len(plot.varied) == 1 else drawn[0]
    return axes


def _parallel(plot: Plot) -> "Axes":
    from optuna.visualization.matplotlib import plot_parallel_coordinate

    axes = plot_parallel_coordinate(plot.study, plot.varied, target_name=plot.metric.name)
    for lines in axes.collections:  # Optuna's palest blue is hardly seen
        lines.set_cmap("viridis" if plot.metric.direction == "maximize" else "viridis_r")
    for each in axes.figure.get_axes():
        each.grid(visible=False)
        for label in each.get_yticklabels(which="both"):  # lines pass below them
            label.set_bbox({"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 1})
    return axes


def _intermediate(plot: Plot) -> "Axes":
    """Every trial's curve; pruned ones are dashed and end in a cross, the best is red."""
    from matplotlib.ticker import MaxNLocator
    from optuna.visualization.matplotlib import plot_intermediate_values

    best = plot.summary.best[0].number if plot.summary.best else None
    rows, labelled = plot.rows, set()
    axes = plot_intermediate_values(plot.study)
    for line in axes.get_lines():
        number = int(str(line.get_label()).removeprefix("Trial"))
        state = rows[number].state
        label = f"best: trial {number}" if number == best else state
        colour, style = CURVES[state]
        line.set(color=colour, linestyle=style, linewidth=1.2, markersize=4)
        if state == "pruned":
            line.set(marker="x", markevery=[-1], markersize=7, zorder=2.5)
        if number == best:
            line.set(color=BEST_COLOUR, linewidth=2.2, alpha=1.0, zorder=3)
        line.set_label(f"_{label}" if label in labelled else label)  # the legend leaves out what starts with _
        labelled.add(label)
    axes.set(xlabel="epoch", ylabel=REPORTED)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(loc="best")
    return axes


def _pareto(plot: Plot) -> "Axes":
    from optuna.visualization.matplotlib import plot_pareto_front

    return plot_pareto_front(plot.study, target_names=[metric.name for metric in plot.summary.metrics])


AXES: Mapping[str, Callable[[Plot], "Axes"]] = {
    "history": _history,
    "importance": _importance,
    "slice": _slice,
    "parallel": _parallel,
    "intermediate": _intermediate,
    "pareto": _pareto,
}
