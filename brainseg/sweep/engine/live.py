"""The display of a running sweep: a table on a terminal, elsewhere a line for each event of a trial."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from brainseg.config import short_names
from brainseg.sweep.engine.forecast import UNFINISHED, sweep_seconds_left, trial_seconds_left
from brainseg.sweep.engine.trial_row import (
    COLOURS,
    ENDED,
    FINISHED,
    INTERRUPTED,
    REPORTED,
    TrialRow,
    by_metric,
    shown_epochs,
    shown_metric,
    shown_params,
    shown_values,
    trial_row,
)
from brainseg.sweep.study.study_file import StudyConfig
from brainseg.tracking.listing import INFEASIBLE
from brainseg.train.progress import duration

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

HEAD_LINES = 3  # the head line, the columns' names, and the line on which the cursor stands


class LiveTable:
    """Shows a sweep: on a terminal a table that changes in place and disappears at the end; elsewhere lines.

    The first `update` prints one line about all that happened before, so that a second supervisor repeats nothing.
    """

    def __init__(self, config: StudyConfig, console: Console) -> None:
        self._config = config
        self._console = console
        self._names = short_names(parameter.key for parameter in config.space)
        self._live: Live | None = None
        self._seen: Mapping[int, TrialRow] | None = None

    def __enter__(self) -> Self:
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def say(self, text: str) -> None:
        """Prints one line above the table."""
        self._console.print(Text(text), soft_wrap=True)

    def update(self, trials: "Sequence[FrozenTrial]", now: float, *, limit_s: float = float("inf")) -> None:
        """Shows all trials of the study as they are. now: unix seconds. limit_s: seconds until the time limit."""
        rows = [trial_row(trial) for trial in trials]
        if self._live is not None:
            self._live.update(self._picture(rows, now, limit_s), refresh=True)
        elif self._seen is None:
            self.say(self._headline(rows, now, limit_s))
        else:
            for row in rows:
                for line in self._happened(self._seen.get(row.number), row, rows):
                    self.say(line)
        self._seen = {row.number: row for row in rows}

    def _headline(self, rows: Sequence[TrialRow], now: float, limit_s: float) -> str:
        """`quick: 7 of 12 trials finished, about 12:30 left, best val_dice_image 0.7123 (trial 5), 2 running`."""
        config = self._config
        left = sweep_seconds_left(rows, trials=config.trials, workers=config.workers, now=now)
        counts = {state: sum(row.state == state for row in rows) for state in ("failed", *UNFINISHED)}
        parts = [f"{self._config.name}: {self._finished(rows)} trials finished"]
        parts += [f"about {duration(left)} left"] if left else []
        parts += [f"time limit in {duration(max(0.0, limit_s))}"] if limit_s < float("inf") else []
        parts += [f"{counts['failed']} failed"] if counts["failed"] else []
        for position, metric in enumerate(self._config.metrics):
            for best in by_metric(rows, config, metric)[:1]:
                parts.append(f"best {metric} {shown_metric(best.values[position])} (trial {best.number})")
        return ", ".join(parts + [f"{counts[state]} {state}" for state in UNFINISHED if counts[state]])

    def _finished(self, rows: Sequence[TrialRow]) -> str:
        return f"{sum(row.state in FINISHED for row in rows)} of {self._config.trials}"

    def _picture(self, rows: Sequence[TrialRow], now: float, limit_s: float) -> Group:
        others = [metric for metric in self._config.metrics if metric != REPORTED]
        table = Table(box=None, pad_edge=False)
        for heading in ("trial", "state", "epoch", REPORTED, *others, "left"):
            table.add_column(heading, justify="left" if heading == "state" else "right", no_wrap=True)
        table.add_column("parameters")  # cut off if the terminal is too narrow
        for row in self._chosen(rows):
            values = dict(zip(self._config.metrics, row.values, strict=False))
            dice = values.get(REPORTED, row.best_dice)
            left = trial_seconds_left(row, now)
            table.add_row(
                str(row.number),
                Text(row.state, style=COLOURS[row.state]),
                shown_epochs(row),
                "" if dice is None else shown_metric(dice),
                *(shown_metric(values[metric]) if metric in values else "" for metric in others),
                "" if left is None else duration(left),
                Text(shown_params(row.params, self._names), no_wrap=True, overflow="ellipsis"),
            )
        return Group(Text(self._headline(rows, now, limit_s), no_wrap=True, overflow="ellipsis", style="bold"), table)

    def _chosen(self, rows: Sequence[TrialRow]) -> list[TrialRow]:
        """Unfinished trials, then ended ones, the latest first: as many as there are lines for."""
        unfinished = [row for row in rows if row.state in UNFINISHED]
        ended = [row for row in rows if row.state in ENDED]
        ended.sort(key=lambda row: (row.ended or datetime.min, row.number), reverse=True)
        return (unfinished + ended)[: max(1, self._console.height - HEAD_LINES)]

    def _happened(self, before: TrialRow | None, row: TrialRow, rows: Sequence[TrialRow]) -> Iterator[str]:
        """A line for each event of a trial since the last update."""
        was = "waiting" if before is None else before.state
        if was == "waiting" and row.state != "waiting":
            yield f"trial {row.number} started: {shown_params(row.params, self._names)}"
        elif row.state == "running" and before is not None and row.claimed_at != before.claimed_at:
            if was == "running":  # died and was taken up again within a second
                yield f"trial {row.number} interrupted after epoch {row.epochs_at_claim}"
            yield f"trial {row.number} goes on after epoch {row.epochs_at_claim}"
        if row.state == INTERRUPTED != was:
            yield f"trial {row.number} interrupted after epoch {row.epoch}" + (f": {row.reason}" if row.reason else "")
        if row.state in ENDED and was not in ENDED:
            yield f"trial {row.number} {self._ending(row, rows)}"

    def _ending(self, row: TrialRow, rows: Sequence[TrialRow]) -> str:
        if row.state == "failed":
            return f"failed after epoch {shown_epochs(row)}: {row.reason}"
        count = f"({self._finished(rows)} finished)"
        if row.state == "pruned":
            # What a worker gives as the reason says the epoch itself.
            told = (
                row.reason
                if row.reason.startswith("pruned")
                else f"pruned after epoch {shown_epochs(row)}: {row.reason}"
            )
            return f"{told} {count}"
        metrics = self._config.metrics
        values = ", ".join(f"{name} {value}" for name, value in zip(metrics, shown_values(row, metrics), strict=True))
        if row.state == INFEASIBLE:
            return f"infeasible: {values}; {row.reason} {count}"
        is_best = len(metrics) == 1 and by_metric(rows, self._config, next(iter(metrics)))[0] is row
        return f"complete: {values}{', the best so far' if is_best else ''} {count}"
