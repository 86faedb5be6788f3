"""The plots of a sweep, Optuna's own: a PNG each, and one HTML page with all of them that needs no network."""

import html
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.trial import TrialState

from brainseg.config import short_names
from brainseg.sweep.engine.trial_row import INTERRUPTED, TrialRow, trial_row
from brainseg.sweep.outcome.summary import MetricSummary, Summary, headline, summarize, verdict
from brainseg.sweep.study.study_file import StudyConfig

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from optuna.importance import BaseImportanceEvaluator
    from optuna.trial import FrozenTrial

PAGE = "sweep.html"
DPI = 110
REPORTED = "val_dice_image"  # what a trial reports after every epoch
# State -> colour and matplotlib's and plotly's name of the line style, in the plot of the epochs.
CURVES = {
    "complete": ("#1f77b4", "solid", "solid"),
    "pruned": ("#ff7f0e", "dashed", "dash"),
    "running": ("#2ca02c", "dotted", "dot"),
    INTERRUPTED: ("#9467bd", "dotted", "dot"),
}
BEST_COLOUR = "#d62728"
# No script, style or picture from anywhere but the page itself.
CONTENT_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"


@dataclass(frozen=True, kw_only=True)
class _Plot:
    """One plot, twice: for a PNG and for the page."""

    file: str  # without its ending
    heading: str
    missing: str  # why it can't be drawn; empty where it can
    size_in: tuple[float, float]  # of the PNG: width, height
    axes: "Callable[[], Axes]"
    figure: Callable[[], Any]  # a plotly figure


def write_plots(study: optuna.Study, config: StudyConfig, folder: Path) -> list[Path]:
    """Draws the study into `folder`, which is made: PNG files, and `sweep.html`. Returns what was written.

    A plot for which there are too few trials has no PNG, and its reason on the page.
    """
    folder.mkdir(parents=True, exist_ok=True)
    summary = summarize(study, config)
    written = []
    with _drawing():
        plots = _plots(study, config, summary)
        for plot in plots:
            if not plot.missing:
                written.append(folder / f"{plot.file}.png")
                _save(plot, config.name, written[-1])
        page = _page(summary, plots)
    written.append(folder / PAGE)
    written[-1].write_text(page, encoding="utf-8")
    return written


@contextmanager
def _drawing() -> Iterator[None]:
    """Optuna draws through pyplot and sets a style: here on no display, and with everything put back afterwards."""
    from matplotlib import pyplot

    backend = pyplot.get_backend()
    with pyplot.rc_context({"figure.constrained_layout.use": True}), warnings.catch_warnings(), quiet():
        warnings.simplefilter("ignore", ExperimentalWarning)  # Optuna calls its matplotlib plots so since 2.2
        pyplot.switch_backend("Agg")
        try:
            yield
        finally:
            pyplot.switch_backend(backend)


@contextmanager
def quiet() -> Iterator[None]:
    """Optuna tells of every study that is made: not inside."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(verbosity)


def copy_of(study: optuna.Study, metric: int | None = None) -> optuna.Study:
    """In memory, the parameters under short names; with one of the metrics alone, or with all.

    Optuna draws less of a study of several metrics: no best value so far, and colours the wrong way round.
    """
    trials = study.get_trials(deepcopy=True)
    names = short_names(dict.fromkeys(key for trial in trials for key in trial.params))
    copy = optuna.create_study(directions=study.directions if metric is None else [study.directions[metric]])
    for trial in trials:
        trial.params = {names[key]: value for key, value in trial.params.items()}
        trial.distributions = {names[key]: distribution for key, distribution in trial.distributions.items()}
        if metric is not None and trial.state == TrialState.COMPLETE:
            trial.values = [trial.values[metric]]
        copy.add_trial(trial)
    return copy


def _plots(study: optuna.Study, config: StudyConfig, summary: Summary) -> list[_Plot]:
    """Every plot of this study, whether it can be drawn yet or not."""
    rows = [trial_row(trial) for trial in study.get_trials(deepcopy=False)]
    several = len(config.metrics) > 1
    plots = []
    for position, metric in enumerate(summary.metrics):
        suffix = f"_{metric.name}" if several else ""
        alone = copy_of(study, position)
        plots += [_history(alone, metric, suffix), _importance(alone, metric, suffix)]
        plots += _by_parameter(alone, metric, suffix)
    copy = copy_of(study)
    plots.append(_intermediate(copy, rows, summary))
    if several:
        plots.append(_pareto(copy, summary))
    return plots


def _history(study: optuna.Study, metric: MetricSummary, suffix: str) -> _Plot:
    def axes() -> "Axes":
        from matplotlib.ticker import MaxNLocator
        from optuna.visualization.matplotlib import plot_optimization_history

        axes = plot_optimization_history(study, target_name=metric.name)
        if metric.baseline_value is not None:
            axes.axhline(metric.baseline_value, color="black", linestyle=":", linewidth=1, label="baseline")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(loc="best")
        return axes

    def figure() -> Any:
        figure = optuna.visualization.plot_optimization_history(study, target_name=metric.name)
        if metric.baseline_value is not None:
            figure.add_hline(metric.baseline_value, line_dash="dot", annotation_text="baseline")
        return figure

    heading = f"History of {metric.name}"
    missing = "" if metric.best is not None else "no trial is complete"
    return _Plot(file=f"history{suffix}", heading=heading, missing=missing, size_in=(8, 4.5), axes=axes, figure=figure)


def _importance(study: optuna.Study, metric: MetricSummary, suffix: str) -> _Plot:
    shares = metric.importance.shares
    label = "share of the variance"

    def axes() -> "Axes":
        from optuna.visualization.matplotlib import plot_param_importances

        axes = plot_param_importances(study, shares_evaluator(metric), target_name=metric.name)
        axes.set(xlabel=label, ylabel="")
        axes.legend([]).remove()
        return axes

    def figure() -> Any:
        figure = optuna.visualization.plot_param_importances(study, shares_evaluator(metric), target_name=metric.name)
        return figure.update_layout(xaxis_title=label, yaxis_title="")

    heading = f"Importance for {metric.name}"
    missing = "" if shares else metric.importance.note
    size_in = (8, 1.5 + 0.4 * len(shares))
    return _Plot(
        file=f"importance{suffix}", heading=heading, missing=missing, size_in=size_in, axes=axes, figure=figure
    )


def shares_evaluator(metric: MetricSummary) -> "BaseImportanceEvaluator":
    """Gives Optuna the summary's shares, under short names: a forest over renamed parameters would give others."""
    from optuna.importance import BaseImportanceEvaluator

    names = short_names(metric.importance.shares)
    shares = {names[key]: share for key, share in metric.importance.shares.items()}

    class Known(BaseImportanceEvaluator):
        def evaluate(self, study: optuna.Study, params: object = None, *, target: object = None) -> dict[str, float]:
            return shares

    return Known()


def varied_parameters(trials: Sequence["FrozenTrial"]) -> list[str]:
    """Parameters that have several values among these trials: an axis without a range can't be drawn."""
    names = dict.fromkeys(name for trial in trials for name in trial.params)
    return [name for name in names if len({trial.params[name] for trial in trials if name in trial.params}) > 1]


def _by_parameter(study: optuna.Study, metric: MetricSummary, suffix: str) -> tuple[_Plot, _Plot]:
    """Parallel coordinates and slices, of the parameters that were varied."""
    varied = varied_parameters(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))

    def parallel_axes() -> "Axes":
        from optuna.visualization.matplotlib import plot_parallel_coordinate

        axes = plot_parallel_coordinate(study, varied, target_name=metric.name)
        for lines in axes.collections:  # Optuna's palest blue is hardly seen
            lines.set_cmap("viridis" if metric.direction == "maximize" else "viridis_r")
        for each in axes.figure.get_axes():
            each.grid(visible=False)
            for label in each.get_yticklabels(which="both"):  # lines pass below them
                label.set_bbox({"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 1})
        return axes

    def slice_axes() -> "Axes":
        from optuna.visualization.matplotlib import plot_slice

        drawn: Any = plot_slice(study, varied, target_name=metric.name)  # several axes for several parameters
        axes: Axes = drawn if len(varied) == 1 else drawn[0]
        return axes

    def slice_figure() -> Any:
        figure = optuna.visualization.plot_slice(study, varied, target_name=metric.name)
        return figure.for_each_xaxis(lambda axis: axis.update(exponentformat="e") if axis.type == "log" else None)

    missing = "" if varied else "no parameter differs between complete trials"
    return (
        _Plot(
            file=f"parallel{suffix}",
            heading=f"Parallel coordinates: {metric.name} of each complete trial",
            missing=missing,
            size_in=(max(8, 2.2 * (len(varied) + 2)), 5),
            axes=parallel_axes,
            figure=lambda: optuna.visualization.plot_parallel_coordinate(study, varied, target_name=metric.name),
        ),
        _Plot(
            file=f"slice{suffix}",
            heading=f"Slices: {metric.name} by parameter",
            missing=missing,
            size_in=(max(6, 3 * len(varied) + 1), 4),
            axes=slice_axes,
            figure=slice_figure,
        ),
    )


def _intermediate(study: optuna.Study, rows: Sequence[TrialRow], summary: Summary) -> _Plot:
    """Every trial's curve; pruned ones are dashed and end in a cross, the best is red."""
    states = {row.number: row.state for row in rows}
    best = summary.best[0].number if summary.best else None

    def axes() -> "Axes":
        from matplotlib.ticker import MaxNLocator
        from optuna.visualization.matplotlib import plot_intermediate_values

        axes = plot_intermediate_values(study)
        labelled = set()
        for line in axes.get_lines():
            number = _number(str(line.get_label()))
            colour, style, _ = CURVES[states[number]]
            label = f"best: trial {number}" if number == best else states[number]
            line.set(color=colour, linestyle=style, linewidth=1.2, markersize=4)
            if states[number] == "pruned":
                line.set(marker="x", markevery=[-1], markersize=7, zorder=2.5)
            if number == best:
                line.set(color=BEST_COLOUR, linewidth=2.2, alpha=1.0, zorder=3)
            line.set_label(f"_{label}" if label in labelled else label)  # the legend leaves out what starts with _
            labelled.add(label)
        axes.set(xlabel="epoch", ylabel=REPORTED)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(loc="best")
        return axes

    def figure() -> Any:
        figure = optuna.visualization.plot_intermediate_values(study)
        for trace in figure.data:
            number = _number(trace.name)
            colour, _, dash = CURVES[states[number]]
            colour = BEST_COLOUR if number == best else colour
            trace.update(name=f"trial {number}, {states[number]}", line={"color": colour, "dash": dash})
        return figure.update_layout(xaxis_title="epoch", yaxis_title=REPORTED, showlegend=True)

    drawable = any(row.epoch for row in rows if row.state in ("complete", "pruned", "running", INTERRUPTED))
    missing = "" if drawable else "no trial has finished an epoch"
    heading = f"Intermediate values: {REPORTED} by epoch"
    return _Plot(file="intermediate", heading=heading, missing=missing, size_in=(8, 5), axes=axes, figure=figure)


def _number(label: str) -> int:
    """Of a trial, from Optuna's label of its curve."""
    return int(label.removeprefix("Trial"))


def _pareto(study: optuna.Study, summary: Summary) -> _Plot:
    names = [metric.name for metric in summary.metrics]

    def axes() -> "Axes":
        from optuna.visualization.matplotlib import plot_pareto_front

        return plot_pareto_front(study, target_names=names)

    missing = "" if summary.best else "no trial is complete"
    if len(names) > 3:
        missing = f"it can be drawn for two or three metrics, not for {len(names)}"
    return _Plot(
        file="pareto",
        heading=f"Pareto front of {' and '.join(names)}",
        missing=missing,
        size_in=(7, 5),
        axes=axes,
        figure=lambda: optuna.visualization.plot_pareto_front(study, target_names=names),
    )


def _save(plot: _Plot, study: str, path: Path) -> None:
    from matplotlib import pyplot

    figure = plot.axes().get_figure(root=True)
    if figure is None:
        raise RuntimeError(f"{plot.file}: Optuna drew no figure")
    try:
        for axes in figure.get_axes():
            axes.set_title("")
            axes.set_title("", loc="left")
        figure.suptitle(f"{plot.heading} ({study})", fontsize=11)
        figure.set_size_inches(plot.size_in)
        figure.set_layout_engine("constrained")  # two of Optuna's plots ask for another one
        figure.savefig(path, dpi=DPI)
    finally:
        pyplot.close(figure)


def _page(summary: Summary, plots: Sequence[_Plot]) -> str:
    from plotly.offline import get_plotlyjs

    parts = []
    for plot in plots:
        parts.append(f"<h2>{html.escape(plot.heading)}</h2>")
        if plot.missing:
            parts.append(f"<p>Not drawn: {html.escape(plot.missing)}.</p>")
        else:
            figure = plot.figure().update_layout(title=None, margin_t=30)
            parts.append(figure.to_html(full_html=False, include_plotlyjs=False, div_id=plot.file))
    body = "\n".join(parts)
    verdicts = "".join(f"<p>{html.escape(verdict(summary, metric))}</p>" for metric in summary.metrics)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{CONTENT_POLICY}">
<title>{html.escape(summary.name)}</title>
<style>body {{ font-family: sans-serif; margin: 2em auto; max-width: 1200px; }}</style>
<script>{get_plotlyjs()}</script>
</head>
<body>
<h1>{html.escape(summary.name)}</h1>
<p>{html.escape(headline(summary))}.</p>
{verdicts}
{body}
</body>
</html>
"""
