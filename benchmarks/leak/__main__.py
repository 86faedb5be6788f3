"""Measures the leak of a split by image: scores the same slices with and without their patients in the training.

    python -m benchmarks.leak splits DIR                                          writes three pairs of splits
    python -m brainseg.sweep run benchmarks/leak/leak.yaml data.root=DIR          trains the six of them
    python -m benchmarks.leak compare                                             scores and compares them

    python -m brainseg.sweep run benchmarks/leak/leak_best.yaml data.root=DIR     trains a pair of another recipe
    python -m benchmarks.leak compare --study leak_best

`splits` writes mlruns/leak/SEED-a.json and SEED-b.json; how they are made stands in splits.py.
"""

import argparse
from pathlib import Path

from benchmarks.figures import print_table
from benchmarks.leak.comparison import PairedSlice, Row, ScoredRun, paired, rows_of
from benchmarks.leak.splits import crossover
from brainseg.config import TrackingConfig
from brainseg.config_file import from_yaml
from brainseg.data.load import source_of, source_of_folder
from brainseg.data.people import person_of
from brainseg.data.source import PATIENT
from brainseg.data.split import parse_split
from brainseg.errors import InputError
from brainseg.evaluate import __main__ as evaluate
from brainseg.runs.select import SCORE, SECONDS
from brainseg.runs.slice_scores import read_scores
from brainseg.tracking import RunFilter, RunStore, RunSummary, open_store

SPLITS = "leak"  # their folder
SEEDS = 3


def main() -> None:
    """Writes the splits, or compares the runs that were trained on them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.leak", description="What a leaking split is worth.")
    parser.add_argument("--root", default=TrackingConfig().root, help="where runs are kept: %(default)s")
    parts = parser.add_subparsers(dest="part", required=True)
    parts.add_parser("splits", help="write the splits").add_argument("data", type=Path, metavar="DIR")
    compared = parts.add_parser("compare", help="score the trainings and compare them in pairs")
    compared.add_argument("--study", default="leak", help="whose trainings: %(default)s")
    options = parser.parse_args()
    if options.part == "splits":
        write_splits(options.data, Path(options.root) / SPLITS)
    else:
        compare(options.root, options.study)


def write_splits(data: Path, folder: Path) -> None:
    """Writes a split file for each training into `folder`; existing files are replaced by the same content."""
    folder.mkdir(parents=True, exist_ok=True)
    slices = source_of_folder(data).slices()
    for seed in range(SEEDS):
        for name, split in crossover(slices, seed=seed).items():
            path = folder / f"{seed}-{name}.json"
            path.write_text(split.to_json())
            print(f"{path}: {len(split.train)} to train on, {len(split.val)} to validate on, {len(split.test)} to test")


def compare(root: str, study: str) -> None:
    """Prints the mean Dice of the test slices under both models, and their paired difference."""
    store = open_store(TrackingConfig(root=root))
    pairs: dict[str, list[ScoredRun]] = {}
    trained = store.overview(RunFilter(tags={"sweep": study}), rank_by=SCORE, total_of=SECONDS, limit=None)
    for run in trained.finished:
        pairs.setdefault(run.params["seed"], []).append(_scored(store, run, root))
    slices: list[PairedSlice] = []
    for seed, runs in sorted(pairs.items()):
        if len(runs) != 2:
            raise SystemExit(f"pair {seed} has {len(runs)} finished runs; let the sweep {study} come to its end")
        first, second = runs
        slices += paired(seed, first, second)
    if not slices:
        raise SystemExit(f"no finished runs of the sweep {study} in {root}; train them first")
    _print(rows_of(slices))


def _scored(store: RunStore, run: RunSummary, root: str) -> ScoredRun:
    where = f"run {run.run_id}"
    try:
        slices = read_scores(store, run, split="test")
    except InputError:  # not evaluated yet
        if evaluate.main([run.run_id, "--split", "test", "--root", root]):
            raise SystemExit(f"{where} can't be evaluated") from None
        slices = read_scores(store, run, split="test")
    source = source_of(from_yaml(store.text(run.run_id, "config.yaml"), where=where))
    split = parse_split(store.text(run.run_id, "split.json"), where=where, remedy="train it again")
    trained = set(split.train)
    trained_on = frozenset(person_of(item.columns[PATIENT]) for item in source.slices() if item.id in trained)
    return ScoredRun(run_id=run.run_id, trained_on=trained_on, slices={item.id: item for item in slices})


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
