"""How long a study will take, told by its own trials: how much is left, what fits, and how far that was off."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

from brainseg.sweep.engine.trial_row import ENDED, FINISHED, INTERRUPTED, TrialRow
from brainseg.tracking.listing import INFEASIBLE
from brainseg.train.progress import duration

UNFINISHED = ("running", INTERRUPTED)
WHOLE = ("complete", INFEASIBLE)  # trained to the end
ENOUGH = 10  # finished trials, from which on the forecast's error says something


def whole_s(rows: Sequence[TrialRow]) -> float | None:
    """The mean seconds of the trials that were trained to their end; None if none has been."""
    return _mean_took(rows, WHOLE)


def average_s(rows: Sequence[TrialRow], now: float) -> float | None:
    """The mean seconds of the finished trials, pruned ones included.

    While none has finished, it is the mean of what the running trials will take at their pace; None before the first
    of them has ended an epoch. now: unix seconds.
    """
    paces = [seconds * row.epochs for row in rows if row.epochs and (seconds := _epoch_s(row, now)) is not None]
    return _mean_took(rows, FINISHED) or (mean(paces) if paces else None)


def trial_seconds_left(row: TrialRow, now: float) -> float | None:
    """Seconds that its worker still needs at its pace so far; None before its first epoch, or without a worker."""
    seconds = _epoch_s(row, now)
    return None if seconds is None or row.epochs is None else seconds * (row.epochs - row.epoch)


def sweep_seconds_left(
    rows: Sequence[TrialRow], *, trials: int, workers: int, now: float, each_s: float | None = None
) -> float | None:
    """Until the last of `trials` has ended, if each worker takes the next one as soon as it is free.

    Running trials go on at their pace; the others take `each_s`, or as long as the finished ones on average, pruned
    ones included. None where `average_s` is.
    """
    average = average_s(rows, now) if each_s is None else each_s
    if average is None:
        return None

    def left_s(row: TrialRow) -> float:
        pace = trial_seconds_left(row, now) if row.state == "running" else None
        return average * (1 - row.epoch / row.epochs if row.epochs else 1.0) if pace is None else pace

    running = [left_s(row) for row in rows if row.state == "running"]
    interrupted = [left_s(row) for row in rows if row.state == INTERRUPTED]
    begun = sum(row.state in (*FINISHED, *UNFINISHED) for row in rows)
    ends = running + [0.0] * (workers - len(running))
    heapq.heapify(ends)
    for seconds in (*interrupted, *[average] * (trials - begun)):
        heapq.heapreplace(ends, ends[0] + seconds)
    return max(ends)


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """What trials were to take, each by the mean of those that had finished before it, and what they took."""

    trials: int
    forecast_s: float  # of all of them, added up
    took_s: float

    @property
    def error(self) -> float:
        """Of the forecast, as a share of what they took; below 0 where it was too short."""
        return self.forecast_s / self.took_s - 1

    def __str__(self) -> str:
        much = "too long" if self.error > 0 else "too short"
        return (
            f"Forecast: {self.trials} trials were to take {duration(self.forecast_s)}, each by the mean of those "
            f"before it, and took {duration(self.took_s)}: {abs(self.error):.0%} {much}."
        )


def accuracy(rows: Sequence[TrialRow]) -> Accuracy | None:
    """How far the forecast was off; None with fewer than ENOUGH finished trials."""
    ended = [row for row in rows if row.state in FINISHED and row.ended is not None and row.took_s is not None]
    if len(ended) < ENOUGH:
        return None
    ended.sort(key=lambda row: (row.ended, row.number))
    took = [row.took_s or 0.0 for row in ended]
    forecast_s = sum(mean(took[:place]) for place in range(1, len(took)))
    return Accuracy(trials=len(took) - 1, forecast_s=forecast_s, took_s=sum(took[1:]))


def _epoch_s(row: TrialRow, now: float) -> float | None:
    """Seconds of an epoch since its worker took the trial."""
    if row.claimed_at is None or row.epochs is None or row.epoch <= row.epochs_at_claim or row.state in ENDED:
        return None
    return (now - row.claimed_at) / (row.epoch - row.epochs_at_claim)


def _mean_took(rows: Sequence[TrialRow], states: Sequence[str]) -> float | None:
    took = [row.took_s for row in rows if row.state in states and row.took_s is not None]
    return mean(took) if took else None
