"""Measures what the sweep engine costs, and what it saves compared with Hydra's multirun.

    python -m benchmarks.sweep                                     every part, half an hour on 2 idle cores
    python -m benchmarks.sweep --part between --storage postgresql
    python -m benchmarks.sweep --part multirun --repeats 3
    python -m benchmarks.sweep --part pruning data.root=DIR data.limit=400 train.epochs=10

between   what a worker spends between two trials, with 0, 100 and 500 finished ones in the study
epoch     what recording, reporting and the pruner add to an epoch, with four workers at once
multirun  the same trials by the sweep and by Hydra's multirun, undisturbed and killed half-way
idle      how long workers wait while trials remain, with trials of very unequal length
memory    the memory of one worker after each of 20 trials
pruning   one list of trials with and without the pruner; what stands behind the options goes to every trial

Figures are medians, with the smallest and the largest behind. Everything lies in a temporary folder.
`multirun` needs hydra-joblib-launcher and `--storage postgresql` a server: pip install '.[benchmark]'.
"""

import argparse
from collections.abc import Callable

import optuna

from benchmarks.figures import load
from benchmarks.sweep.made_study import STORAGES
from benchmarks.sweep.multirun import measure_multirun
from benchmarks.sweep.overhead import measure_between, measure_epoch
from benchmarks.sweep.pruning import measure_pruning
from benchmarks.sweep.workers import measure_idle, measure_memory

PARTS = ("between", "epoch", "multirun", "idle", "memory", "pruning")


def main() -> None:
    """Measures the parts that are asked for, one after the other."""
    options = _options()
    parts: dict[str, Callable[[], None]] = {
        "between": lambda: measure_between(options.storage, rounds=options.rounds),
        "epoch": lambda: measure_epoch(options.storage, epochs=options.epochs),
        "multirun": lambda: measure_multirun(repeats=options.repeats),
        "idle": lambda: measure_idle(trials=options.idle_trials),
        "memory": lambda: measure_memory(trials=options.memory_trials),
        "pruning": lambda: measure_pruning(trials=options.pruning_trials, overrides=options.overrides),
    }
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    for part in [options.part] if options.part else parts:
        print(f"## {part}\n\n{load()}\n", flush=True)
        parts[part]()
        print(f"afterwards: {load()}\n", flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sweep", description="What the sweep engine costs, and what it saves."
    )
    parser.add_argument("--part", choices=PARTS, help="default: all")
    parser.add_argument("--storage", choices=STORAGES, default="journal", help="of `between` and `epoch`")
    parser.add_argument("--rounds", type=int, default=15, help="of `between` (default 15)")
    parser.add_argument("--epochs", type=int, default=200, help="of each worker of `epoch` (default 200)")
    parser.add_argument("--repeats", type=int, default=1, help="of `multirun` (default 1)")
    parser.add_argument("--idle-trials", type=int, default=12, help="of `idle` (default 12)")
    parser.add_argument("--memory-trials", type=int, default=20, help="of `memory` (default 20)")
    parser.add_argument("--pruning-trials", type=int, default=12, help="of `pruning` (default 12)")
    parser.add_argument("overrides", nargs="*", help="of `pruning`: keys for every trial")
    return parser.parse_args()


if __name__ == "__main__":
    main()
