"""Measures what an encoder that has seen ImageNet gives, with few training slices and with many.

    python -m benchmarks.encoders --figshare DIR
    python -m benchmarks.encoders --quick

Trains `model=encoder_unet` at 128x128 on 20, 100 and all training slices of each data set, from ImageNet and from
scratch, with three seeds each, which draw the slices as well. The test slices show other people; they are the same for
all trainings of a set, and so are the 100 that choose the epoch.

`--results FILE`, by default benchmarks/encoders.csv, has a row for each training, and one that has its row isn't made
again: the same command goes on where it was stopped, on another day or machine. Without trainings left to do, it prints
the table of what is there. The runs themselves stay in --root.
"""

import argparse
import csv
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.figures import print_table, spread
from brainseg import compose
from brainseg.config import RunConfig, TrackingConfig
from brainseg.data.load import source_of
from brainseg.data.split import Split, make_split
from brainseg.errors import InputError
from brainseg.keys import as_line
from brainseg.runs.slice_scores import read_scores, score_rule
from brainseg.scoring.slice_score import dice_table
from brainseg.tracking import open_store

FIGSHARE = "Figshare"
# Data set -> its overrides; scanners differ in brightness.
SETS: Mapping[str, tuple[str, ...]] = {
    FIGSHARE: ("data=folder", "model.standardize=true"),
    "phantom in colour": ("data.phantom_kind=colour",),
    "phantom with classes": ("data.phantom_kind=classes",),
}
RECIPE = (
    *("model=encoder_unet", "model.foreground_prior=0.02", "model.dropout=0"),
    *("data.image_size=128", "data.batch_size=8", "data.augment=standard"),
    *("train.loss=bce_dice_image", "train.threads=1", "optimizer.weight_decay=0.01"),
)
RESULTS = Path(__file__).with_suffix(".csv")
Training = tuple[str, ...]  # data set, training slices, weights and seed
COLUMNS = ("data", "slices", "weights", "seed", "dice")
WEIGHTS = {"from scratch": "null", "from ImageNet": "imagenet"}
SLICES = (20, 100, None)
SEEDS = (0, 1, 2)
VALIDATED = 100


def main() -> None:
    """Trains what isn't trained yet, and prints a row for each data set and number of slices."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.encoders", description="What ImageNet gives.")
    parser.add_argument("--figshare", metavar="DIR", help="the real data set; without it, the phantoms alone")
    parser.add_argument("--root", default="mlruns/encoders", help="where the trainings are kept: %(default)s")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where their Dice is kept: %(default)s")
    parser.add_argument("--quick", action="store_true", help="20 slices, one seed and two epochs: whether it works")
    options = parser.parse_args()
    slices, seeds = (SLICES[:1], SEEDS[:1]) if options.quick else (SLICES, SEEDS)

    def dice(name: str, overrides: Sequence[str], title: str, part: Split, seed: int) -> float:
        make = partial(dice_of, overrides, WEIGHTS[title], part, seed=seed, root=options.root, is_quick=options.quick)
        training = (name, str(len(part.train)), title, str(seed))
        return make() if options.quick else kept(options.results, training, make)

    rows = []
    for name, overrides in SETS.items():
        if name == FIGSHARE:
            if options.figshare is None:
                continue
            overrides = (*overrides, f"data.root={options.figshare}")
        config = compose.freeze([*overrides, "data.folds=5", "data.fold=0"])
        for count in slices:
            parts = {seed: few(config, count, seed=seed) for seed in seeds}
            dices = [[dice(name, overrides, title, part, seed) for seed, part in parts.items()] for title in WEIGHTS]
            rows.append([name, str(len(parts[0].train)), *cells(*dices)])
    print_table(["data", "training slices", *WEIGHTS, "gain"], rows)


def kept(file: Path, training: Training, make: Callable[[], float]) -> float:
    """The Dice of a training from the file, where it is kept now if it isn't there."""
    if training not in read_results(file):
        add_result(file, training, make())
    return read_results(file)[training]


def read_results(file: Path) -> dict[Training, float]:
    """The Dice of each training that has been made."""
    if not file.exists():
        return {}
    with file.open(newline="") as stored:
        return {tuple(row[name] for name in COLUMNS[:-1]): float(row["dice"]) for row in csv.DictReader(stored)}


def add_result(file: Path, training: Training, dice: float) -> None:
    """Adds a row to the file, which is made with the first one."""
    is_new = not file.exists()
    with file.open("a", newline="") as stored:
        writer = csv.writer(stored, lineterminator="\n")
        writer.writerows([COLUMNS] * is_new + [(*training, f"{dice:.6f}")])


def few(config: RunConfig, count: int | None, *, seed: int) -> Split:
    """The configuration's split with so many slices to train on, drawn by the seed (None: all), and few to validate."""
    split = make_split(source_of(config).slices(), config.data)
    return Split(train=_drawn(split.train, count, seed=seed), val=_drawn(split.val, VALIDATED, seed=0), test=split.test)


def _drawn(ids: Sequence[str], count: int | None, *, seed: int) -> tuple[str, ...]:
    return tuple(sorted(np.random.default_rng(seed).permutation(sorted(ids))[:count].tolist()))


def epochs_for(slices: int) -> int:
    """About 4,000 slices are seen, but each 8 to 100 times."""
    return min(100, max(8, 4000 // slices))


def cells(scratch: Sequence[float], imagenet: Sequence[float]) -> list[str]:
    """The median over the seeds of each network's Dice and of their difference, with the smallest and the largest."""
    return [spread(values, digits=3) for values in (scratch, imagenet, np.subtract(imagenet, scratch).tolist())]


def dice_of(overrides: Sequence[str], weights: str, split: Split, *, seed: int, root: str, is_quick: bool) -> float:
    """The mean Dice of the test slices, of a training that is there or is made now."""
    file = Path(root) / "splits" / f"{split.fingerprint[:16]}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(split.to_json())
    epochs = 2 if is_quick else epochs_for(len(split.train))
    own = (f"data.split_file={file}", f"model.weights={weights}", f"train.epochs={epochs}", f"seed={seed}")
    line = [*overrides, *RECIPE, *own, f"tracking.root={root}"]
    if (run_id := _finished(line, root)) is None:
        _run("brainseg.train", *line)
        run_id = _finished(line, root)
        assert run_id is not None
    store = open_store(TrackingConfig(root=root))
    if "evaluation_test" not in store.read(run_id).tags:
        _run("brainseg.evaluate", run_id, "--split", "test", "--root", root)
    record = store.read(run_id)
    return dice_table(read_scores(store, record, split="test"), score_by=score_rule(record)).interval().value


def _finished(line: Sequence[str], root: str) -> str | None:
    """The id of the run that this command line has made."""
    store = open_store(TrackingConfig(root=root))
    try:
        found = store.find({"overrides": as_line(line), "state": "finished"})
    except InputError:  # nothing is kept there yet
        return None
    return found[-1] if found else None


def _run(module: str, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", module, *arguments], check=True)


if __name__ == "__main__":
    main()
