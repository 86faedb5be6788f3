"""A trial as a row of a table: the same for the terminal, the CSV file and the MLflow UI."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from brainseg.keys import as_text
from brainseg.sweep.engine import keys
from brainseg.sweep.study.study_file import StudyConfig
from brainseg.tracking.listing import INFEASIBLE

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

REPORTED = "val_dice_image"  # what a trial reports after each epoch
# Optuna's name -> the name shown. A RUNNING trial that no worker holds is shown as interrupted; a COMPLETE one that
# breaks a constraint as infeasible: it has values, and is never the best.
STATES = {"COMPLETE": "complete", "PRUNED": "pruned", "RUNNING": "running", "WAITING": "waiting", "FAIL": "failed"}
INTERRUPTED = "interrupted"
FINISHED = ("complete", INFEASIBLE, "pruned")  # what counts towards the trials asked for
ENDED = (*FINISHED, "failed")
COLOURS = {
    "complete": "green",
    INFEASIBLE: "blue",
    "pruned": "yellow",
    "running": "cyan",
    INTERRUPTED: "magenta",
    "waiting": "dim",
    "failed": "red",
}


@dataclass(frozen=True, kw_only=True)
class TrialRow:
    """What a table shows of a trial."""

    number: int
    state: str  # complete, infeasible, pruned, running, interrupted, waiting or failed
    values: tuple[float, ...]  # of the study's metrics, in their order; empty unless complete or infeasible
    spread: Mapping[str, float]  # metric -> standard deviation over the runs of the trial; empty of a single one
    runs: tuple[str, ...]  # MLflow's runs that have finished, of a trial of several
    best_dice: float | None  # highest val_dice_image of any epoch so far
    params: Mapping[str, Any]
    epoch: int  # epochs finished
    epochs: int | None  # epochs asked for; None before a worker has taken the trial
    reason: str  # why it was pruned or is infeasible, or why it failed last; one line, or empty
    run_id: str  # MLflow's child run, or empty
    line: str  # the overrides that repeat the trial behind `python -m brainseg.train`, or empty
    deaths: int  # workers that died while they trained it
    seconds: float | None  # training time, known at the end
    took_s: float | None  # of a worker's time, from its claim to its end; of training alone if it was interrupted
    claimed_at: float | None  # unix seconds at which the worker that holds it took it
    epochs_at_claim: int  # epochs that were finished then
    ended: datetime | None


def trial_row(trial: "FrozenTrial") -> TrialRow:
    """The row of a trial in any state; an attribute that isn't set yet is None, empty or 0."""
    attrs = trial.user_attrs
    state = STATES[trial.state.name]
    lease = attrs.get(keys.LEASE)
    if state == "running" and keys.LEASE not in attrs:
        state = "waiting"  # a worker is just asking for it
    elif state == "running" and lease is None:
        state = INTERRUPTED
    pruned = attrs.get(keys.PRUNED) if state == "pruned" else None
    reason = attrs.get(keys.FAILURE) or "" if pruned is None else pruned["reason"]
    if state == "complete" and not keys.is_feasible(trial):
        state, reason = INFEASIBLE, broken_constraints(trial.constraints)
    finished_epochs = max(trial.intermediate_values, default=0)
    return TrialRow(
        number=trial.number,
        state=state,
        # Optuna gives a pruned trial its last report as a value, which is none.
        values=tuple(trial.values) if state in ("complete", INFEASIBLE) else (),
        spread=attrs.get(keys.SPREAD, {}),
        runs=tuple(run["run_id"] for run in attrs.get(keys.RUNS, ())),
        best_dice=max(trial.intermediate_values.values(), default=None),
        params=trial.params,
        epoch=finished_epochs if pruned is None else pruned["epoch"],
        epochs=attrs.get(keys.EPOCHS),
        reason=reason,
        run_id=attrs.get(keys.RUN_ID, ""),
        line=attrs.get(keys.LINE, ""),
        deaths=len(attrs.get(keys.DEATHS, ())),
        seconds=attrs.get(keys.SECONDS),
        took_s=_took_s(trial),
        claimed_at=None if lease is None else lease["claimed_at"],
        epochs_at_claim=0 if lease is None else lease["epochs_at_claim"],
        ended=trial.datetime_complete,
    )


def _took_s(trial: "FrozenTrial") -> float | None:
    began, ended = trial.datetime_start, trial.datetime_complete
    if trial.user_attrs.get(keys.CLAIMS) == 1 and began is not None and ended is not None:
        return (ended - began).total_seconds()
    return trial.user_attrs.get(keys.SECONDS)


def broken_constraints(excesses: Mapping[str, float]) -> str:
    """`parameters <= 2e6 is missed by 41200`, of each constraint that is broken; empty if all are kept."""
    missed = ((text, excess) for text, excess in excesses.items() if excess > 0.0)
    return "; ".join(f"{text} is missed by {shown_metric(excess)}" for text, excess in missed)


def by_metric(rows: Iterable[TrialRow], config: StudyConfig, metric: str) -> list[TrialRow]:
    """The complete trials, the best in this metric first; of equal ones the earlier."""
    position = list(config.metrics).index(metric)
    sign = -1 if config.metrics[metric] == "maximize" else 1
    complete = [row for row in rows if row.state == "complete"]
    return sorted(complete, key=lambda row: (sign * row.values[position], row.number))


def shown_value(value: Any) -> str:
    """A parameter's value: numbers to four digits, the rest as on the command line."""
    return f"{value:.4g}" if isinstance(value, float) else as_text(value)


def shown_metric(value: float) -> str:
    """A metric's value: 0.7123 for a score, 0.00123 for seconds, 1940817 for weights."""
    if abs(value) >= 1000:
        return f"{value:.0f}"
    return f"{value:.4f}" if abs(value) >= 0.01 or value == 0 else f"{value:.4g}"


def shown_values(row: TrialRow, metrics: Iterable[str]) -> list[str]:
    """The value of each metric; of a trial of several runs their mean and standard deviation: `0.7123 ± 0.0110`."""
    return [
        shown_metric(value) + (f" ± {shown_metric(row.spread[metric])}" if metric in row.spread else "")
        for metric, value in zip(metrics, row.values, strict=True)
    ]


def shown_params(params: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """`learning_rate=0.001 dropout=0.1`, in the order of `names` (key -> name shown)."""
    return " ".join(f"{name}={shown_value(params[key])}" for key, name in names.items() if key in params)


def trial_name(params: Mapping[str, Any], *, baseline: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """The parameters that differ from the baseline, as `shown_params` writes them, or `baseline`."""
    different = {key: value for key, value in params.items() if key not in baseline or baseline[key] != value}
    return shown_params(different, names) or "baseline"


def shown_epochs(row: TrialRow) -> str:
    """`3/10`, or `3` where the number of epochs isn't known yet."""
    return f"{row.epoch}" if row.epochs is None else f"{row.epoch}/{row.epochs}"
