"""Pools the folds of `experiment=best`: the Dice of each Figshare slice by the model that has never seen its person.

    python -m benchmarks.encoder_folds --root DIR

`benchmarks/encoder_folds.csv` has a row for each test slice, from the `scores.csv` that `evaluate RUN_ID --split test
--tune` wrote for each fold; the folds were trained on different days.
"""

import argparse
import csv
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.figures import print_table
from brainseg.data.load import source_of_folder
from brainseg.data.people import person_of
from brainseg.data.source import PATIENT, TUMOR_TYPE
from brainseg.scoring.intervals import mean_interval, per_person

TABLE = Path(__file__).with_suffix(".csv")


@dataclass(frozen=True, kw_only=True)
class Row:
    """A test slice, and its Dice by the model of the fold in which it is tested."""

    fold: str
    person: str
    tumor_type: str
    dice: float


def main() -> None:
    """Prints a row for all slices, each type, and each fold; then the mean over people."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.encoder_folds", description="The pooled folds.")
    parser.add_argument("--root", type=Path, required=True, help="the Figshare set, as `data import figshare` makes it")
    rows = read_rows(TABLE, root=parser.parse_args().root)
    print_table(
        ["", "slices", "people", "Dice", "median", "at 0"],
        [cells(name, group) for name, group in groups(rows)],
    )
    means = per_person([row.dice for row in rows], [row.person for row in rows])
    print(f"over people: {mean_interval(means, range(len(means))).text}")


def read_rows(table: Path, *, root: Path) -> list[Row]:
    """The rows of the table. Raises SystemExit if a slice isn't in the set or is tested twice."""
    columns = {item.id: item.columns for item in source_of_folder(root).slices()}
    with table.open(newline="") as file:
        records = list(csv.DictReader(file))
    times = Counter(record["id"] for record in records)
    for slice_id, count in times.items():
        if count > 1 or slice_id not in columns:
            raise SystemExit(f"error: {table}: slice {slice_id} is there {count} times, or isn't in {root}")
    return [
        Row(
            fold=record["fold"],
            person=person_of(columns[record["id"]][PATIENT]),
            tumor_type=columns[record["id"]][TUMOR_TYPE],
            dice=float(record["dice"]),
        )
        for record in records
    ]


def groups(rows: Sequence[Row]) -> Iterable[tuple[str, list[Row]]]:
    """The lines of the table: all slices, those of each type, those of each fold."""
    yield "all", list(rows)
    for kind in sorted({row.tumor_type for row in rows}):
        yield kind, [row for row in rows if row.tumor_type == kind]
    for fold in sorted({row.fold for row in rows}):
        yield f"fold {fold}", [row for row in rows if row.fold == fold]


def cells(name: str, rows: Sequence[Row]) -> list[str]:
    """A line of the table."""
    dices, people = [row.dice for row in rows], [row.person for row in rows]
    return [
        name,
        f"{len(rows):,}",
        str(len(set(people))),
        mean_interval(dices, people).text,
        f"{np.median(dices):.4f}",
        f"{100 * np.mean([dice == 0 for dice in dices]):.1f} %",
    ]


if __name__ == "__main__":
    main()
