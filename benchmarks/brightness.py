"""Measures what a run loses if a scanner gives other grey levels: darker slices, and slices with less contrast.

    python -m benchmarks.brightness RUN_ID OTHER_ID

Two runs on one split: the last column is the paired difference, the second minus the first. Masks are made at 0.5 and
scored at their stored size, as in the final score of a training.
"""

import argparse
import dataclasses
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.figures import print_table
from brainseg.config import TrackingConfig
from brainseg.errors import InputError
from brainseg.inference.prediction import Predictor
from brainseg.runs.select import find_run
from brainseg.runs.stored_run import StoredRun, model_of, read_run, training_slices
from brainseg.scoring.evaluation import evaluate
from brainseg.scoring.intervals import mean_interval
from brainseg.scoring.slice_score import SliceScore
from brainseg.tracking import open_store

# Name -> (factor of the grey levels, what is added to them).
CHANGES: Mapping[str, tuple[float, float]] = {
    "as they are": (1.0, 0.0),
    "half as bright": (0.5, 0.0),
    "half the contrast, around grey": (0.5, 64.0),
}


def main() -> None:
    """Prints a row for each change."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.brightness", description="Other grey levels.")
    parser.add_argument("runs", nargs=2, metavar="RUN_ID")
    parser.add_argument("--root", default=TrackingConfig().root, help="where runs are kept: %(default)s")
    options = parser.parse_args()
    store = open_store(TrackingConfig(root=options.root))
    with tempfile.TemporaryDirectory(prefix="brainseg-") as folder:
        runs = [
            read_run(store, find_run(store, name).run_id, root=options.root, folder=Path(folder))
            for name in options.runs
        ]
        if sorted(runs[0].split.val) != sorted(runs[1].split.val):
            raise InputError("the two runs have other validation slices; name two runs on the same split")
        first, second = (scores_by_change(run) for run in runs)
    print_table(
        ["slices", *(run.name for run in runs), "difference"],
        [_row(name, first[name], second[name]) for name in CHANGES],
    )


def scores_by_change(run: StoredRun) -> dict[str, Sequence[SliceScore]]:
    """The scores of the run's validation slices under each of `CHANGES`, in the order of sorted ids."""
    predictor, slices = Predictor(model_of(run)), training_slices(run)
    found: dict[str, Sequence[SliceScore]] = {}
    for name, (gain, offset) in CHANGES.items():
        images = changed(slices.images, gain=gain, offset=offset)
        found[name] = evaluate(
            predictor, dataclasses.replace(slices, images=images), run.split.val, score_by="slice"
        ).scores
    return found


def changed(images: NDArray[np.uint8], *, gain: float, offset: float) -> NDArray[np.uint8]:
    """The grey levels times gain plus offset, rounded and cut off at 0 and 255."""
    levels: NDArray[np.float32] = images * np.float32(gain) + np.float32(offset)
    return np.rint(levels).clip(0, 255).astype(np.uint8)


def _row(name: str, first: Sequence[SliceScore], second: Sequence[SliceScore]) -> list[str]:
    people = [score.person for score in first]
    before, after = ([score.dice for score in scores] for scores in (first, second))
    means = (mean_interval(dices, people).text for dices in (before, after))
    return [name, *means, mean_interval(np.subtract(after, before), people).text]


if __name__ == "__main__":
    main()
