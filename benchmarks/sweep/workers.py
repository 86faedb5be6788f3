"""Measures the idle time and the memory of workers over many trials."""

import itertools
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from optuna.trial import FrozenTrial

from benchmarks.figures import print_table, resident_mib, spread, verdict
from benchmarks.sweep.sweep_process import (
    POLL_S,
    Command,
    sweep_command,
    trials_of,
    unequal_trials,
    write_list,
    write_study,
)
from brainseg.sweep.engine.keys import lease_of

IDLE_BAR = 5.0  # percent
GROWTH_BAR = 15.0  # percent
WORKERS = 2
EPOCHS = (2, 12)
SHOWN = (1, 2, 5, 10, 15)  # trials after which the memory is printed; and after the last


@dataclass(frozen=True, kw_only=True)
class Shift:
    """One worker's time, from its first claim to the end of its last trial."""

    trials: int
    seconds: float
    gaps_s: Sequence[float]  # from the end of a trial to the next claim


def measure_idle(*, trials: int) -> None:
    """Prints how long workers wait while trials remain."""
    name = "idle"
    with tempfile.TemporaryDirectory(prefix="brainseg-") as folder:
        root = Path(folder) / "mlruns"
        study = write_list(Path(folder), name, unequal_trials(trials, epochs=EPOCHS), workers=WORKERS)
        Command(words=sweep_command(study, root), folder=Path(folder), log=Path(folder) / "output.log").finish()
        done = trials_of(root, name)
    shifts = _shifts(done)
    rows = [
        [
            f"worker {number}",
            str(shift.trials),
            f"{shift.seconds:.1f} s",
            spread(shift.gaps_s, unit="s", digits=2) if shift.gaps_s else "none",
            f"{100 * sum(shift.gaps_s) / shift.seconds:.2f} %",
        ]
        for number, shift in enumerate(shifts, start=1)
    ]
    print_table(["", "trials", "time", "from a trial's end to the next claim", "idle"], rows)
    idle = 100 * sum(sum(shift.gaps_s) for shift in shifts) / sum(shift.seconds for shift in shifts)
    print(f"idle while trials remain: {verdict(idle, bar=IDLE_BAR, unit='%', digits=2)}\n")


def _shifts(trials: Sequence[FrozenTrial]) -> list[Shift]:
    by_worker: dict[str, list[FrozenTrial]] = {}
    for trial in sorted(trials, key=_claimed_at):
        lease = lease_of(trial)
        assert lease is not None
        by_worker.setdefault(lease.worker, []).append(trial)
    return [
        Shift(
            trials=len(own),
            seconds=_ended_at(own[-1]) - _claimed_at(own[0]),
            gaps_s=[_claimed_at(later) - _ended_at(earlier) for earlier, later in itertools.pairwise(own)],
        )
        for own in by_worker.values()
    ]


def _claimed_at(trial: FrozenTrial) -> float:
    lease = lease_of(trial)
    assert lease is not None
    return lease.claimed_at


def _ended_at(trial: FrozenTrial) -> float:
    assert trial.datetime_complete is not None
    return trial.datetime_complete.timestamp()


def measure_memory(*, trials: int) -> None:
    """Prints the resident memory of one worker, read whenever it claims the next trial."""
    name = "memory"
    with tempfile.TemporaryDirectory(prefix="brainseg-") as folder:
        root = Path(folder) / "mlruns"
        space = {
            "model.dropout": {"type": "float", "low": 0.0, "high": 0.5},
            "optimizer.learning_rate": {"type": "float", "low": 1e-4, "high": 1e-2, "log": True},
        }
        study = write_study(Path(folder), name, workers=1, space=space, trials=trials + 1)
        command = Command(
            words=[*sweep_command(study, root), f"train.epochs={EPOCHS[0]}"],
            folder=Path(folder),
            log=Path(folder) / "output.log",
        )
        resident: dict[int, float] = {}
        with command.started() as process:
            while process.poll() is None and len(resident) <= trials:
                for trial in trials_of(root, name):
                    lease = lease_of(trial)
                    if lease is not None and trial.number not in resident:
                        resident[trial.number] = resident_mib(lease.pid)
                time.sleep(POLL_S)
    if len(resident) <= trials:
        raise RuntimeError(f"the worker has claimed {len(resident)} trials of {trials + 1}")
    shown = [*(number for number in SHOWN if number < trials), trials]
    print_table(
        ["after trial", *map(str, shown)], [["resident memory", *(f"{resident[number]:.0f} MiB" for number in shown)]]
    )
    steps = [resident[number + 1] - resident[number] for number in range(2, trials)]
    print(f"growth a trial: {spread(steps, unit='MiB')}, mean {statistics.mean(steps):.1f} MiB")
    growth = 100 * (resident[trials] / resident[2] - 1)
    print(f"from the 2nd to trial {trials}: {verdict(growth, bar=GROWTH_BAR, unit='%')}\n")
