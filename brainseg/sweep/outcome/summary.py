"""What a study has found: computed from its trials; for the terminal, as a CSV file and as Markdown."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from brainseg.cli.literal import in_markdown
from brainseg.cli.output import csv_text
from brainseg.cli.tables import Console, Section, say
from brainseg.config import short_names
from brainseg.errors import printable
from brainseg.sweep.engine.forecast import Accuracy, accuracy
from brainseg.sweep.engine.foreign import left_out
from brainseg.sweep.engine.keys import settings_of
from brainseg.sweep.engine.trial_row import (
    FINISHED,
    INTERRUPTED,
    TrialRow,
    by_metric,
    shown_epochs,
    shown_metric,
    shown_params,
    shown_value,
    shown_values,
    trial_row,
)
from brainseg.sweep.study.study_file import StudyConfig
from brainseg.tracking.listing import INFEASIBLE

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

COMMAND = "python -m brainseg.train"
TRIALS_FOR_IMPORTANCE = 5  # with fewer, a random forest finds chance
BEST_SHOWN = 10
BAR_WIDTH = 30
# Heading in the CSV file -> field of a TrialRow, for what comes after the parameters.
CSV_COLUMNS = {
    "best_val_dice_image": "best_dice",
    "epochs": "epoch",
    "epochs_asked": "epochs",
    "seconds": "seconds",
    "deaths": "deaths",
    "run_id": "run_id",
    "reason": "reason",
    "line": "line",
}


@dataclass(frozen=True, kw_only=True)
class Importance:
    """How much of a metric's variance over the complete trials each parameter explains by itself.

    By fANOVA: Hutter et al. 2014, "An efficient approach for assessing hyperparameter importance".
    """

    shares: Mapping[
        str, float
    ]  # parameter -> share, the largest first, their sum is 1; empty if they can't be computed
    note: str  # why there are no shares, or which parameters are left out; else empty


@dataclass(frozen=True, kw_only=True)
class MetricSummary:
    """What the study has found for one of its metrics."""

    name: str
    direction: str  # maximize or minimize
    best: TrialRow | None  # None while no trial is complete
    best_value: float | None
    baseline_value: float | None  # None without a baseline, or while it isn't complete
    gain: float | None  # of the best over the baseline; positive is better in either direction
    importance: Importance


@dataclass(frozen=True, kw_only=True)
class StudySummary:
    """What a study has found so far."""

    name: str
    asked: int  # trials asked for; complete and pruned ones count
    counts: Mapping[str, int]  # state -> trials, without the states that no trial is in
    metrics: tuple[MetricSummary, ...]  # in the study's order
    best: tuple[TrialRow, ...]  # complete, the best first; with several metrics the Pareto front, by the first metric
    baseline: TrialRow | None
    infeasible: tuple[TrialRow, ...]  # complete, with values, but a constraint of the study is broken
    failed: tuple[TrialRow, ...]
    left_out: Mapping[int, str]  # number -> why it doesn't count, of each trial that another program holds or told
    epochs_run: int  # of all trials
    epochs_saved: int  # that pruned trials were asked for and didn't run
    forecast: Accuracy | None = None  # how far it was off; None while too few trials have finished

    @property
    def finished(self) -> int:
        """Trials that count towards `asked`."""
        return sum(self.counts.get(state, 0) for state in FINISHED)


def summarize(study: "optuna.Study", config: StudyConfig) -> StudySummary:
    """What the study has found so far, from its trials alone. study: an OwnStudy, where others may have its storage."""
    rows = [trial_row(trial) for trial in study.get_trials(deepcopy=False)]
    baseline = next((row for row in rows if config.baseline and row.params == config.baseline), None)
    best = by_metric(rows, config, next(iter(config.metrics)))
    if len(config.metrics) > 1:
        front = {trial.number for trial in study.best_trials}
        best = [row for row in best if row.number in front]
    return StudySummary(
        name=config.name,
        asked=settings_of(study).trials,
        counts=dict(Counter(row.state for row in rows)),
        metrics=tuple(_metric(study, rows, config, metric, baseline) for metric in config.metrics),
        best=tuple(best),
        baseline=baseline,
        infeasible=tuple(row for row in rows if row.state == INFEASIBLE),
        failed=tuple(row for row in rows if row.state == "failed"),
        left_out=left_out(study),
        epochs_run=sum(row.epoch for row in rows),
        epochs_saved=sum((row.epochs or row.epoch) - row.epoch for row in rows if row.state == "pruned"),
        forecast=accuracy(rows),
    )


def _metric(
    study: "optuna.Study", rows: Sequence[TrialRow], config: StudyConfig, metric: str, baseline: TrialRow | None
) -> MetricSummary:
    position = list(config.metrics).index(metric)
    best = next(iter(by_metric(rows, config, metric)), None)
    best_value = best.values[position] if best is not None else None
    baseline_value = baseline.values[position] if baseline is not None and baseline.state == "complete" else None
    gain = None
    if best_value is not None and baseline_value is not None:
        gain = best_value - baseline_value if config.metrics[metric] == "maximize" else baseline_value - best_value
    return MetricSummary(
        name=metric,
        direction=config.metrics[metric],
        best=best,
        best_value=best_value,
        baseline_value=baseline_value,
        gain=gain,
        importance=_importance(study, rows, position),
    )


def _importance(study: "optuna.Study", rows: Sequence[TrialRow], position: int) -> Importance:
    """Of the study's metric at `position`."""
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    complete = [row for row in rows if row.values]  # infeasible ones as well: so does Optuna
    if len(complete) < TRIALS_FOR_IMPORTANCE:
        return Importance(shares={}, note=f"{len(complete)} of the {TRIALS_FOR_IMPORTANCE} complete trials it takes")
    if len({row.values[position] for row in complete}) == 1:
        return Importance(shares={}, note="every complete trial has the same value")

    def target(trial: "FrozenTrial") -> float:
        return float(trial.values[position])

    nothing = "no parameter that every complete trial has explains the differences"
    shared = set.intersection(*(set(row.params) for row in complete))
    if all(len({row.params[key] for row in complete}) == 1 for key in shared):
        return Importance(shares={}, note=nothing)  # Optuna would give each the same share
    try:
        shares = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0), target=target)
    except RuntimeError:  # no tree of the forest could split the trials
        return Importance(shares={}, note=nothing)
    left_out = sorted({key for row in complete for key in row.params} - shares.keys())
    note = f"left out, since not every complete trial has them: {', '.join(left_out)}" if left_out else ""
    return Importance(shares={key: float(share) for key, share in shares.items()}, note=note)


def headline(summary: StudySummary) -> str:
    """`quick: 12 of 12 trials finished: 9 complete, 3 pruned; 1 failed`."""
    text = f"{summary.name}: {summary.finished} of {summary.asked} trials finished"
    finished = [f"{summary.counts[state]} {state}" for state in FINISHED if state in summary.counts]
    others = [
        f"{summary.counts[state]} {state}"
        for state in ("failed", "running", INTERRUPTED, "waiting")
        if state in summary.counts
    ]
    return text + (f": {', '.join(finished)}" if finished else "") + (f"; {', '.join(others)}" if others else "")


def verdict(summary: StudySummary, metric: MetricSummary) -> str:
    """One line: the best value of a metric, its trial, and the difference from the baseline."""
    if metric.best is None or metric.best_value is None:
        kept = "keeps the constraints" if summary.infeasible else "is complete"
        return f"No trial {kept} yet: no best {metric.name}."
    spread = metric.best.spread.get(metric.name)
    of_runs = "" if spread is None else f" ± {shown_metric(spread)} over {len(metric.best.runs)} runs"
    found = f"Best {metric.name}: {shown_metric(metric.best_value)}{of_runs}"
    if metric.best is summary.baseline:
        return f"{found}, the baseline (trial {metric.best.number}): no trial is better."
    text = f"{found}, trial {metric.best.number}"
    if summary.baseline is None:
        return f"{text}."
    if metric.gain is None or metric.baseline_value is None:
        value = "" if summary.baseline.values else ", without a value"
        return f"{text}; the baseline (trial {summary.baseline.number}) is {summary.baseline.state}{value}."
    return f"{text}: {shown_metric(metric.gain)} better than the baseline ({shown_metric(metric.baseline_value)})."


def forecast_text(summary: StudySummary) -> str:
    """How far the forecast was off, behind another sentence; empty while too few trials have finished."""
    return "" if summary.forecast is None else f" {summary.forecast}"


def epochs_line(summary: StudySummary) -> str:
    """`Pruning saved 31 of 120 epochs.`"""
    if summary.epochs_saved == 0:
        return f"{summary.epochs_run} epochs run."
    return f"Pruning saved {summary.epochs_saved} of {summary.epochs_run + summary.epochs_saved} epochs."


def trials_csv(trials: "Sequence[FrozenTrial]", config: StudyConfig) -> str:
    """Every trial in a line, parameters under their full keys; numbers in full precision; unset values are empty.

    Of a study with `repeat` also the standard deviation of each metric, and the runs of each trial.
    """
    of_runs = [f"{metric}_spread" for metric in config.metrics] + ["runs"] if config.repeat else []
    keys = [parameter.key for parameter in config.space]
    rows = []
    for row in map(trial_row, trials):
        values = row.values or (None,) * len(config.metrics)
        spread = [*map(row.spread.get, config.metrics), " ".join(row.runs)] if config.repeat else []
        ran = (getattr(row, name) for name in CSV_COLUMNS.values())
        rows.append([row.number, row.state, *values, *spread, *map(row.params.get, keys), *ran])
    return csv_text(["trial", "state", *config.metrics, *of_runs, *keys, *CSV_COLUMNS], rows)


def summary_markdown(summary: StudySummary, config: StudyConfig) -> str:
    """The description of the parent run in the MLflow UI: the result, then the trials behind it."""
    parts = [f"**{in_markdown(verdict(summary, metric))}**" for metric in summary.metrics]
    if summary.best and summary.best[0].line:
        parts.append(f"```\n{COMMAND} {printable(summary.best[0].line)}\n```")
    parts.append(in_markdown(f"{headline(summary)}. {epochs_line(summary)}{forecast_text(summary)}"))
    if summary.best:
        parts.append(best_trials(summary, config).markdown(level=3))
    if summary.infeasible:
        parts.append(_infeasible(summary).markdown(level=3))
    for metric in summary.metrics:
        found, note = metric.importance, metric.importance.note
        section = Section(
            title=f"Importance for {metric.name}",
            headings=("parameter", "share of the variance"),
            rows=tuple((key, f"{share:.2f}") for key, share in found.shares.items()),
            lines=(f"{note[0].upper()}{note[1:]}.",) if note else (),
        )
        parts.append(section.markdown(level=3))
    return "\n\n".join(parts) + "\n"


def print_status(summary: StudySummary, config: StudyConfig, console: Console) -> None:
    """Prints the result, the best trials, the importance of parameters, failed trials, and those left out."""
    say(headline(summary), console)
    for metric in summary.metrics:
        say(verdict(summary, metric), console)
    if summary.best and summary.best[0].line:
        say(f"{COMMAND} {summary.best[0].line}", console)
    say(epochs_line(summary), console)
    if summary.forecast is not None:
        say(str(summary.forecast), console)
    if summary.best:
        best_trials(summary, config).show(console)
    block = "█" if console.encoding.startswith("utf") else "#"
    for metric in summary.metrics:
        shares, note = metric.importance.shares, metric.importance.note
        names = short_names(shares)
        rows = tuple((names[key], f"{share:.2f}", block * round(share * BAR_WIDTH)) for key, share in shares.items())
        title = f"Importance for {metric.name}"
        Section(title=title, rows=rows, align="lll", lines=(note,) if note else ()).show(console)
    if summary.infeasible:
        _infeasible(summary).show(console)
    if summary.failed:
        failed = tuple((str(row.number), shown_epochs(row), row.reason) for row in summary.failed)
        Section(title="Failed trials", headings=("trial", "epochs", "reason"), rows=failed, align="lll").show(console)
    for number, why in summary.left_out.items():
        say(f"trial {number} {why}; it is left out", console)


def best_trials(summary: StudySummary, config: StudyConfig) -> Section:
    """The best trials; a line for each if the terminal is too narrow for the table."""
    names = short_names(parameter.key for parameter in config.space)
    rows, lines = [], []
    for row in summary.best[:BEST_SHOWN]:
        is_baseline = row is summary.baseline
        values, epochs = shown_values(row, config.metrics), shown_epochs(row)
        params = [shown_value(row.params[key]) if key in row.params else "" for key in names]
        rows.append(
            (f"baseline {row.number}" if is_baseline else str(row.number), *values, epochs, *params, row.run_id)
        )
        told = " ".join(f"{metric} {value}" for metric, value in zip(config.metrics, values, strict=True))
        lines.append(
            f"trial {row.number}{', the baseline' if is_baseline else ''}: {told}, epochs {epochs}, "
            f"{shown_params(row.params, names)}, run {row.run_id}"
        )
    headings = ("trial", *config.metrics, "epochs", *names.values(), "run")
    return Section(
        title="Best trials" if len(summary.metrics) == 1 else "Pareto front",
        headings=headings,
        rows=tuple(rows),
        align="r" * (len(headings) - 1) + "l",
        narrow_lines=tuple(lines),
    )


def _infeasible(summary: StudySummary) -> Section:
    """What broke a constraint, with the values that it would have had."""
    metrics = [metric.name for metric in summary.metrics]
    return Section(
        title="Infeasible trials",
        headings=("trial", *metrics, "reason"),
        rows=tuple((str(row.number), *shown_values(row, metrics), row.reason) for row in summary.infeasible),
        align="l" + "r" * len(summary.metrics) + "l",
    )
