"""The scores of a slice's classes taken together, for pictures that show whole slices."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from brainseg.scoring.slice_score import SliceScore


def by_slice(scores: Sequence[SliceScore]) -> dict[str, list[SliceScore]]:
    """Slice -> the scores of its classes; both in the order in which they come first."""
    found: dict[str, list[SliceScore]] = defaultdict(list)
    for score in scores:
        found[score.id].append(score)
    return dict(found)


def slice_dice(scores: Sequence[SliceScore]) -> float:
    """The mean Dice of a slice over the classes that either mask has, in [0, 1]; 1 if neither has any.

    Most slices have few of many classes: with the others, which agree on nothing, each slice would look good.
    """
    dices = [score.dice for score in scores if not score.is_empty]
    return float(np.mean(dices)) if dices else 1.0
