"""Breaks trainings and sweeps on one machine, or a study on four hosts, and counts what has come of it.

    python -m benchmarks.faults --machine                        100 kills of trainings and of sweeps, 5 of all else
    python -m benchmarks.faults --machine --only kill sweep --cases 5
    python -m benchmarks.faults --table                          the table of what has been run so far
    python -m benchmarks.faults --hosts                          100 faults, 60 trials, about 25 minutes on 2 cores
    python -m benchmarks.faults --hosts --faults 6 --trials 8    each kind once

The machine's faults stand in `broken_machine.py`, and what is compared in `machine.py`; disks need root. A case is a
line of `--results FILE`, and one that has its line isn't run again: the same command goes on with a campaign that was
stopped. What an undisturbed training leaves is in the file as well, so that another version, or another machine, needs
another file.

The hosts are Linux namespaces on this machine; PostgreSQL and an MLflow server are in one more. The faults are drawn
from the seed: a worker killed; a host cut off, for up to a minute or for good; a worker told to end (SIGTERM) and
started again; a server stopped; `sweep run` killed. The time limits of leases, turns and patience are a fifth of the
real ones, so that a host counts as dead after 36 seconds.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import optuna
import yaml

from benchmarks.faults.broken_machine import FAULTS
from benchmarks.faults.campaign import Results, run
from benchmarks.faults.count import Row, counted
from benchmarks.faults.faults import HOSTS, STUDY, Campaign, draw
from benchmarks.faults.hosts import Server
from benchmarks.figures import load, print_table

EPOCHS = 6


def main() -> int:
    """Runs the campaign; 1 where something isn't as expected."""
    options = _options()
    if options.table:
        Results(options.results).print()
        return 0
    return _break_machine(options) if options.machine else _break_hosts(options)


def _break_machine(options: argparse.Namespace) -> int:
    results, folder = Results(options.results), Path(tempfile.mkdtemp(prefix="brainseg-faults-"))
    print(f"seed {options.seed}; {load()}; everything is in {folder}\n", flush=True)
    for line in run(results, folder, kinds=options.only, cases=options.cases, seed=options.seed):
        print(line, flush=True)
    print()
    results.print()
    if any(result.wrong for result in results.cases):
        return 1
    shutil.rmtree(folder)
    return 0


def _break_hosts(options: argparse.Namespace) -> int:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder = Path(tempfile.mkdtemp(prefix="brainseg-faults-"))
    folder.chmod(0o755)  # PostgreSQL runs as another user
    _write_study(folder, trials=options.trials)
    faults = draw(options.faults, seed=options.seed)
    print(f"seed {options.seed}; {load()}; everything is in {folder}\n", flush=True)
    server = Server(folder)
    campaign = Campaign(server, epochs=options.trials * EPOCHS)
    try:
        campaign.run(faults)
        done = counted(server, [slot.host for slot in campaign.slots], study=STUDY, asked=options.trials)
    finally:
        for host in (*(slot.host for slot in campaign.slots), server):
            host.lose()
    print(f"\n{campaign.seconds / 60:.0f} minutes; {load()}\n")
    return _told([*campaign.rows(), *done], folder)


def _told(rows: Sequence[Row], folder: Path) -> int:
    """Prints the table; the exit code."""
    print_table(["", "counted", "expected"], [[row.what, str(row.count), _expected(row)] for row in rows])
    wrong = [row for row in rows if not row.is_as_expected]
    for row in wrong:
        print(f"{row.what}: {row.found}")
    if not wrong:
        shutil.rmtree(folder)
    return 1 if wrong else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.faults", description="Breaks what runs in every way of its failure model."
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--machine", action="store_true", help="trainings and sweeps, one after another")
    what.add_argument("--hosts", action="store_true", help=f"a study on {HOSTS} hosts, made of namespaces")
    what.add_argument("--table", action="store_true", help="prints what --machine has come to so far")
    parser.add_argument(
        "--only", nargs="+", choices=FAULTS, default=[*FAULTS], metavar="KIND", help=f"of {', '.join(FAULTS)}"
    )
    parser.add_argument("--cases", type=int, help="of each kind (by default 100 kills, 34 sweeps, 5 of all else)")
    parser.add_argument("--results", type=Path, default=Path("faults.jsonl"), metavar="FILE", help="of --machine")
    parser.add_argument("--faults", type=int, default=100, help="default 100")
    parser.add_argument("--trials", type=int, default=60, help="default 60")
    parser.add_argument("--seed", type=int, default=0, help="of the faults (default 0)")
    return parser.parse_args()


def _write_study(folder: Path, *, trials: int) -> None:
    study = {
        "metric": "val_dice_image",
        "direction": "maximize",
        "trials": trials,
        "workers": 1,
        "failures": trials,  # they are counted in the end
        "overrides": [
            "data.phantom_patients=12",
            "data.image_size=32",
            "data.batch_size=2",
            "data.augment=none",
            "model.depth=2",
            "model.base_filters=4",
            f"train.epochs={EPOCHS}",
            "train.precision=float32",
            "train.threads=1",
            "tracking.predictions=0",
        ],
        "space": {
            "optimizer.learning_rate": {"type": "float", "low": 1e-4, "high": 1e-2, "log": True},
            "model.dropout": {"type": "float", "low": 0.0, "high": 0.5},
        },
        "sampler": {"name": "random", "seed": 0},
        "pruner": {"name": "none"},
    }
    path = folder / "sweeps" / f"{STUDY}.yaml"
    path.parent.mkdir()
    path.write_text(yaml.safe_dump(study, sort_keys=False), encoding="utf-8")


def _expected(row: Row) -> str:
    return "" if row.expected is None else str(row.expected)


if __name__ == "__main__":
    sys.exit(main())
