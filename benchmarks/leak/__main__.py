"""What the leak of a split by image is worth: the same slices, with and without their patients in the training.

    python -m benchmarks.leak splits DIR                                          writes three pairs of splits
    python -m brainseg.sweep run benchmarks/leak/leak.yaml data.root=DIR          trains the six of them
    python -m benchmarks.leak compare                                             scores and compares them

`splits` writes mlruns/leak/SEED-a.json and SEED-b.json; how they are made stands in splits.py.
"""

import argparse
import json
from pathlib import Path

from benchmarks.figures import print_table
from benchmarks.leak.comparison import PairedSlice, Row, ScoredRun, paired, read_scores, rows_of
from benchmarks.leak.splits import crossover
from brainseg import evaluate
from brainseg.config import TrackingConfig
from brainseg.config_file import from_yaml
from brainseg.data.folder import FolderSource
from brainseg.data.load import source_of
from brainseg.data.people import person_of
from brainseg.data.source import PATIENT
from brainseg.errors import TrackingError
from brainseg.tracking import RunStore, open_store

STUDY = "leak"
SEEDS = 3
SCORES = "evaluation/test/scores.csv"


def main() -> None:
    """Writes the splits, or compares the runs that were trained on them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.leak", description="What a leaking split is worth.")
    parser.add_argument("--root", default=TrackingConfig().root, help="where runs are kept: %(default)s")
    parts = parser.add_subparsers(dest="part", required=True)
    parts.add_parser("splits", help="write the splits").add_argument("data", type=Path, metavar="DIR")
    parts.add_parser("compare", help="score the trainings and compare them in pairs")
    options = parser.parse_args()
    if options.part == "splits":
        write_splits(options.data, Path(options.root) / STUDY)
    else:
        compare(options.root)


def write_splits(data: Path, folder: Path) -> None:
    """A file for each training, in `folder`; the same ones again where they are there."""
    folder.mkdir(parents=True, exist_ok=True)
    slices = FolderSource(data).slices()
    for seed in range(SEEDS):
        for name, split in crossover(slices, seed=seed).items():
            path = folder / f"{seed}-{name}.json"
            path.write_text(split.to_json())
            print(f"{path}: {len(split.train)} to train on, {len(split.val)} to validate on, {len(split.test)} to test")


def compare(root: str) -> None:
    """Prints the mean Dice of the test slices under both models, and their paired difference."""
    config = TrackingConfig(root=root)
    store = open_store(config)
    pairs: dict[str, list[ScoredRun]] = {}
    people: dict[str, tuple[str, str]] = {}
    for run_id in store.find({"sweep": STUDY, "state": "finished"}):
        record = store.read(run_id)
        if "trial" not in record.tags:
            continue  # the study's own run
        tested, known = _tested(store, run_id, root)
        pairs.setdefault(record.params["seed"], []).append(tested)
        people |= known
    slices: list[PairedSlice] = []
    for seed, runs in sorted(pairs.items()):
        if len(runs) != 2:
            raise SystemExit(f"pair {seed} has {len(runs)} finished runs; let the sweep {STUDY} come to its end")
        first, second = runs
        slices += paired(seed, first, second, people)
    if not slices:
        raise SystemExit(f"no finished runs of the sweep {STUDY} in {root}; train them first")
    _print(rows_of(slices))


def _tested(store: RunStore, run_id: str, root: str) -> tuple[ScoredRun, dict[str, tuple[str, str]]]:
    try:
        text = store.text(run_id, SCORES)
    except TrackingError:  # not evaluated yet
        if evaluate.main([run_id, "--split", "test", "--root", root]):
            raise SystemExit(f"run {run_id} can't be evaluated") from None
        text = store.text(run_id, SCORES)
    dice, people = read_scores(text)
    source = source_of(from_yaml(store.text(run_id, "config.yaml"), where=f"run {run_id}"))
    trained = set(json.loads(store.text(run_id, "split.json"))["train"])
    trained_on = frozenset(person_of(item.columns[PATIENT]) for item in source.slices() if item.id in trained)
    return ScoredRun(run_id=run_id, trained_on=trained_on, dice=dice), people


def _print(rows: list[Row]) -> None:
    print_table(
        ["test slices", "slices", "people", "patient seen", "patient not seen", "difference"],
        [
            [row.name, str(row.slices), str(row.people), row.seen.text, row.unseen.text, row.difference.text]
            for row in rows
        ],
    )


if __name__ == "__main__":
    main()
