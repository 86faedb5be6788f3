"""Runs the same trials by the sweep and by Hydra's multirun: undisturbed, and killed half-way and started again."""

import os
import re
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.figures import print_table, spread
from benchmarks.sweep.sweep_process import SMALL, Command, sweep_command, unequal_trials, write_list
from brainseg.config import TrackingConfig
from brainseg.tracking import open_store

TRIALS = 6
EPOCHS = (4, 16)
WORKERS = 2
EPOCH_LINE = re.compile(r"^epoch +\d+/\d+ ", re.MULTILINE)
HEADER = ("", "undisturbed", "killed: in all", "epochs trained twice", "runs beyond one a trial")
WAYS = ("brainseg.sweep, 2 workers", "brainseg.train -m, basic launcher", "brainseg.train -m, joblib, 2 jobs")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The result of one way of running the trials."""

    undisturbed_s: float
    killed_s: float  # until it was killed, and from its second start to the end
    twice: int  # epochs that were trained twice, whole ones
    double: int  # runs beyond one a trial


def measure_multirun(*, repeats: int) -> None:
    """Prints time and losses of each way; they take turns, so that a drift of the machine's speed affects all."""
    trials = unequal_trials(TRIALS, epochs=EPOCHS)
    print(
        f"{TRIALS} trials of {' and '.join(map(str, EPOCHS))} epochs in turn on the phantom; killed with SIGKILL once"
    )
    print("half of the epochs are trained, with all its processes, and started again by the same command\n")
    outcomes: dict[str, list[Outcome]] = {way: [] for way in WAYS}
    for _ in range(repeats):
        for way in WAYS:
            outcomes[way].append(_outcome(way, trials))
            print(f"{way}: {outcomes[way][-1]}", file=sys.stderr, flush=True)  # it is a long wait
    rows = [[way, *_cells(found)] for way, found in outcomes.items()]
    print_table(HEADER, rows)


def _cells(outcomes: Sequence[Outcome]) -> list[str]:
    return [
        spread([each.undisturbed_s for each in outcomes], unit="s"),
        spread([each.killed_s for each in outcomes], unit="s"),
        spread([each.twice for each in outcomes], digits=0),
        spread([each.double for each in outcomes], digits=0),
    ]


def _outcome(way: str, trials: Sequence[dict[str, float]]) -> Outcome:
    epochs = sum(int(trial["train.epochs"]) for trial in trials)
    with tempfile.TemporaryDirectory(prefix="brainseg-") as folder:
        undisturbed_s = _command(way, Path(folder), trials).finish()
    with tempfile.TemporaryDirectory(prefix="brainseg-") as folder:
        command = _command(way, Path(folder), trials)
        # By epochs and not by time, since the time of an epoch varies on a busy machine.
        killed_s = command.kill_when(lambda: _epochs_printed(Path(folder)) >= epochs / 2)
        killed_s += command.finish()
        return Outcome(
            undisturbed_s=undisturbed_s,
            killed_s=killed_s,
            twice=_epochs_printed(Path(folder)) - epochs,
            double=_runs(Path(folder) / "mlruns") - len(trials),
        )


def _command(way: str, folder: Path, trials: Sequence[dict[str, float]]) -> Command:
    root = folder / "mlruns"
    if way == WAYS[0]:
        words = sweep_command(write_list(folder, "six", trials, workers=WORKERS), root)
    else:
        grid = [f"{key}={','.join(dict.fromkeys(str(trial[key]) for trial in trials))}" for key in trials[0]]
        words = [sys.executable, "-m", "brainseg.train", "-m", *SMALL, *grid, f"tracking.root={root}"]
        if way == WAYS[2]:  # each job with its share of the cores, as the sweep's workers have
            words += ["hydra/launcher=joblib", f"hydra.launcher.n_jobs={WORKERS}", "train.threads=1"]
    return Command(words=words, folder=folder, log=folder / "output.log")


def _runs(root: Path) -> int:
    """How many runs MLflow has, without the sweep's parent."""
    store = open_store(TrackingConfig(root=str(root)))
    return sum(store.read(run_id).tags.get("sweep_role") != "parent" for run_id in store.find({}))


def _epochs_printed(folder: Path) -> int:
    """How many epochs all starts together have trained."""
    # os.walk passes over folders that vanish meanwhile; Path.rglob doesn't.
    logs = [Path(where, name) for where, _, names in os.walk(folder) for name in names if name.endswith(".log")]
    return sum(len(EPOCH_LINE.findall(path.read_text(encoding="utf-8"))) for path in logs)
