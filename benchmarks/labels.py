"""Measures how well labels agree: compares each slice with the most similar slice of the same person.

    python -m benchmarks.labels --root DIR

The other slice's mask is scored as if it were a prediction. Where a tumour changes little from slice to slice and is
outlined by one rule, that scores high; a model that was trained on such masks can't be expected to score much higher
than they agree. Types differ in how alike their neighbouring slices are, so that the last columns take pairs of like
similarity alone.
"""

import argparse
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.figures import print_table
from brainseg.data.load import source_of_folder
from brainseg.data.near_duplicates import thumbnail
from brainseg.data.people import person_of
from brainseg.data.source import PATIENT, TUMOR_TYPE, SliceInfo, Source
from brainseg.scoring.intervals import mean_interval
from brainseg.scoring.overlap import hard_dice

SIDE_PX = 64  # of the thumbnails that are compared
LIKE = (0.90, 0.95)  # correlations of the pairs in the last columns: every type has many there


@dataclass(frozen=True, kw_only=True)
class Neighbour:
    """A slice and the slice of the same person that looks most like it."""

    id: str
    other: str
    person: str
    tumor_type: str
    correlation: float  # of the two thumbnails, in [-1, 1]
    dice: float  # of the two masks, in [0, 1]


def main() -> None:
    """Prints a row for all slices, and one for each type."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.labels", description="How well labels agree.")
    parser.add_argument("--root", type=Path, required=True, help="folder of images and masks, with patient ids")
    found = neighbours(source_of_folder(parser.parse_args().root))
    groups = {"all": found} | {
        kind: [item for item in found if item.tumor_type == kind]
        for kind in sorted({item.tumor_type for item in found})
    }
    alike = "slices alike by {:.2f}-{:.2f}".format(*LIKE)
    header = ["", "slices", "Dice of the most similar slice's mask", alike, "Dice"]
    print_table(header, [_row(name, group) for name, group in groups.items()])


def neighbours(source: Source) -> list[Neighbour]:
    """One for each slice of a person with at least two; of equally similar slices the first by id is taken.

    Slices without a patient id, constant images and pairs of unequal size are passed over. Raises DataError for a file
    that can't be read.
    """
    of_person: dict[str, list[SliceInfo]] = defaultdict(list)
    for item in source.slices():
        if patient := item.columns.get(PATIENT):
            of_person[person_of(patient)].append(item)
    with ThreadPoolExecutor() as pool:
        found = pool.map(lambda entry: _neighbours_of(source, *entry), sorted(of_person.items()))
        return [item for items in found for item in items]


def _neighbours_of(source: Source, person: str, slices: Sequence[SliceInfo]) -> list[Neighbour]:
    views, masks, known = [], [], []
    for item in slices:
        image, mask = source.read(item.id)
        if (view := thumbnail(image, SIDE_PX)) is not None:
            views.append(view)
            masks.append(mask[..., 0] > 0)
            known.append(item)
    if len(known) < 2:
        return []
    matrix = np.stack(views)
    correlations = matrix @ matrix.T
    np.fill_diagonal(correlations, -np.inf)
    return [
        Neighbour(
            id=item.id,
            other=known[nearest].id,
            person=person,
            tumor_type=item.columns.get(TUMOR_TYPE, ""),
            correlation=float(correlations[position, nearest]),
            dice=hard_dice(masks[position], masks[nearest]),
        )
        for position, (item, nearest) in enumerate(zip(known, correlations.argmax(axis=1), strict=True))
        if masks[position].shape == masks[nearest].shape
    ]


def _row(name: str, found: Sequence[Neighbour]) -> list[str]:
    low, high = LIKE
    like = [item for item in found if low <= item.correlation < high]
    return [name, str(len(found)), _mean(found), str(len(like)), _mean(like)]


def _mean(found: Sequence[Neighbour]) -> str:
    return mean_interval([item.dice for item in found], [item.person for item in found]).text if found else ""


if __name__ == "__main__":
    main()
