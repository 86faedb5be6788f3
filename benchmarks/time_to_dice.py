"""Tells when runs reached a Dice: the first epoch with that score, and the training time until its end.

    python -m benchmarks.time_to_dice RUN_ID [RUN_ID ...] --dice 0.7591
    python -m benchmarks.time_to_dice RUN_ID --dice 0.7591 --seconds-an-epoch 310

The seconds are those of the training steps, as each run recorded them; validation and records aren't in them.
`--seconds-an-epoch` counts every epoch as so long instead: a run in bfloat16 tells how many epochs a recipe needs, and
its time in float32 follows from the speed that `benchmarks.speed` measures.
"""

import argparse

from benchmarks.figures import print_table
from brainseg.config import TrackingConfig
from brainseg.tracking import RunRecord, open_store

METRIC = "val_dice"


def main() -> None:
    """Prints a row for each run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.time_to_dice", description="When runs reached a Dice.")
    parser.add_argument("runs", nargs="+", metavar="RUN_ID")
    parser.add_argument("--dice", type=float, required=True, help=f"of {METRIC}, in [0, 1]")
    parser.add_argument("--seconds-an-epoch", type=float, help="default: as each run recorded them")
    parser.add_argument("--root", default=TrackingConfig().root, help="where runs are kept: %(default)s")
    options = parser.parse_args()
    store = open_store(TrackingConfig(root=options.root))
    rows = []
    for run_id in options.runs:
        record = store.read(run_id)
        epoch = first_epoch(record, options.dice)
        rows.append([record.name, *_cells(record, epoch, options.seconds_an_epoch)])
    print_table(["run", f"{METRIC} of {options.dice:g}", "minutes of training", "highest", "epochs in all"], rows)


def first_epoch(record: RunRecord, dice: float) -> int | None:
    """The first epoch with at least this score, or None."""
    return next((epoch for epoch, value in sorted(record.metrics[METRIC].items()) if value >= dice), None)


def seconds_until(record: RunRecord, epoch: int, seconds_an_epoch: float | None = None) -> float:
    """Seconds of training until the end of this epoch."""
    if seconds_an_epoch is not None:
        return epoch * seconds_an_epoch
    return sum(value for number, value in record.metrics["seconds"].items() if number <= epoch)


def _cells(record: RunRecord, epoch: int | None, seconds_an_epoch: float | None) -> list[str]:
    scores = record.metrics[METRIC]
    told = [f"{max(scores.values()):.4f}", str(len(scores))]
    if epoch is None:
        least = seconds_until(record, len(scores), seconds_an_epoch)
        return ["not reached", f"over {least / 60:.1f}", *told]
    return [f"epoch {epoch}", f"{seconds_until(record, epoch, seconds_an_epoch) / 60:.1f}", *told]


if __name__ == "__main__":
    main()
