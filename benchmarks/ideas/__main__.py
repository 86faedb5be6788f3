"""Which ideas beside the recipe are worth anything, and what several networks a fold come to.

    python -m benchmarks.ideas --root DIR --part search     # each idea on the validation part of fold 0
    python -m benchmarks.ideas --root DIR --part folds      # some on all five folds, alone and averaged
    python -m benchmarks.ideas --root DIR --part image      # split by image

The recipe of `experiment=best` and each idea in PyTorch, many trainings at once on one GPU (`pip install
'brainseg[benchmark]'`). Nothing here is part of brainseg: what is worth something is built there.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.figures import print_table
from benchmarks.ideas.idea import BY_IMAGE, FOLDS, IDEAS, RECIPE
from benchmarks.ideas.slices import Part, Slices, load
from benchmarks.ideas.training import Job, Trained, dice, train_all
from brainseg.evaluate.tuning import THRESHOLDS
from brainseg.scoring.intervals import difference_interval, mean_interval

GLIOMA = "glioma"
RECIPE_SEEDS = 4  # so that each difference is one from a steady value
IDEA_SEEDS = 2

# Trains the jobs and gives what they came to, in their order.
Train = Callable[[Sequence[Job]], list[Trained]]


def main() -> None:
    """Prints a line for each training, then a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ideas", description="What ideas are worth.")
    parser.add_argument(
        "--root", type=Path, required=True, help="folder of images and masks, with patient ids and types"
    )
    parser.add_argument("--part", choices=sorted(PARTS), required=True)
    parser.add_argument("--at-once", type=int, default=10, help="trainings side by side")
    parser.add_argument("--cache", type=Path, default=Path("mlruns/cache"), help="where decoded slices are kept")
    options = parser.parse_args()
    slices = load(options.root, cache_dir=options.cache, device="cuda" if torch.cuda.is_available() else "cpu")

    def train(jobs: Sequence[Job]) -> list[Trained]:
        found: dict[str, Trained] = {}

        def report(trained: Trained) -> None:
            print(_line(trained), flush=True)
            found[trained.job.name] = trained

        train_all(slices, jobs, at_once=options.at_once, report=report)
        return [found[job.name] for job in jobs]

    PARTS[options.part](slices, train)


def search(slices: Slices, train: Train) -> None:
    """Each idea beside the recipe, paired on the same slices: means over seeds, intervals over people."""
    part = slices.folds[0]
    asked = [
        (name, seed)
        for seed in range(max(RECIPE_SEEDS, IDEA_SEEDS))
        for name in IDEAS
        if seed < (RECIPE_SEEDS if name == RECIPE else IDEA_SEEDS)
    ]
    jobs = [Job(name=f"{name}, seed {seed}", idea=IDEAS[name], part=part, seed=seed) for name, seed in asked]
    scores: dict[str, list[NDArray[np.float64]]] = {name: [] for name in IDEAS}
    for (name, _), trained in zip(asked, train(jobs), strict=True):
        scores[name].append(trained.val)
    means = {name: np.mean(each, axis=0) for name, each in scores.items()}
    gliomas = _is_type(slices, part.val, GLIOMA)
    rows = []
    for name, mean in sorted(means.items(), key=lambda entry: -float(entry[1].mean())):
        differences = [
            difference_interval(means[RECIPE][chosen], mean[chosen], slices.person_of[part.val][chosen].tolist()).text
            for chosen in (np.full(len(mean), True), gliomas)
        ]
        rows.append(
            [name, str(len(scores[name])), f"{mean.mean():.4f}", *(differences if name != RECIPE else ["", ""])]
        )
    print_table(["changed", "seeds", "Dice", "difference", "gliomas alone"], rows)


def folds(slices: Slices, train: Train) -> None:
    """All slices, each by networks that didn't see its patient: of each recipe, then of the first so many together."""
    jobs = [
        Job(name=f"{name}, fold {fold}", idea=idea, part=part, seed=len(slices.folds) * number + fold)
        for number, (name, idea) in enumerate(FOLDS.items())
        for fold, part in enumerate(slices.folds)
    ]
    found = train(jobs)
    of_recipe = [found[start : start + len(slices.folds)] for start in range(0, len(found), len(slices.folds))]
    groups = {name: [trained] for name, trained in zip(FOLDS, of_recipe, strict=True)}
    together = list(accumulate(([trained] for trained in of_recipe), lambda some, more: some + more))
    groups |= {f"the mean of the first {len(group)}": group for group in together[1:]}
    positions = np.concatenate([part.test for part in slices.folds])
    rows = []
    for name, group in groups.items():
        scores = np.concatenate(
            [_tuned(slices, part, [trained[fold] for trained in group]) for fold, part in enumerate(slices.folds)]
        )
        rows.append([name, *_cells(slices, positions, scores)])
    print_table(["", "Dice, mean over slices", *slices.types, "at 0"], rows)


def by_image(slices: Slices, train: Train) -> None:
    """The validation part of a split by image, whose patients have been seen."""
    part = slices.by_image
    found = train([Job(name=name, idea=idea, part=part, seed=0) for name, idea in BY_IMAGE.items()])
    rows = [[trained.job.name, *_cells(slices, part.val, trained.val)] for trained in found]
    print_table(["", "Dice, mean over slices", *slices.types, "at 0"], rows)


PARTS: Mapping[str, Callable[[Slices, Train], None]] = {"search": search, "folds": folds, "image": by_image}


def _tuned(slices: Slices, part: Part, members: Sequence[Trained]) -> NDArray[np.float64]:
    """Dice of the test part by the members' mean, at the threshold that is best on the validation part."""
    val = _mean([each.val_probability for each in members])
    test = _mean([each.test_probability for each in members])
    best = max(THRESHOLDS, key=lambda threshold: dice(slices, part.val, val, threshold=threshold).mean())
    return dice(slices, part.test, test, threshold=best)


def _mean(probabilities: Sequence[torch.Tensor]) -> torch.Tensor:
    return torch.stack(list(probabilities)).float().mean(0)


def _cells(slices: Slices, positions: NDArray[np.intp], scores: NDArray[np.float64]) -> list[str]:
    chosen = [np.full(len(scores), True), *(_is_type(slices, positions, name) for name in slices.types)]
    intervals = [mean_interval(scores[these], slices.person_of[positions][these].tolist()).text for these in chosen]
    return [*intervals, f"{100 * np.mean(scores == 0):.1f} %"]


def _is_type(slices: Slices, positions: NDArray[np.intp], name: str) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = slices.type_of.cpu().numpy()[positions] == slices.types.index(name)
    return found


def _line(trained: Trained) -> str:
    scores = f"training Dice {trained.train_dice:.4f}, validation {trained.val.mean():.4f}"
    return f"{trained.job.name}: {scores}, {trained.seconds:.0f} s"


if __name__ == "__main__":
    main()
