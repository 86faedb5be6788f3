"""Chooses test-time augmentation, threshold and smallest part on validation slices, one after the other."""

import itertools
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from brainseg.config import FLIPS, SHIFTS
from brainseg.data.cache import SliceSet
from brainseg.inference.postprocess import MaskSettings, without_small_parts
from brainseg.inference.prediction import Predictor
from brainseg.scoring.intervals import Estimate, difference_by_group, difference_interval
from brainseg.scoring.overlap import hard_dice

THRESHOLDS = (0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7)
MIN_AREAS_PX = (0, 10, 25, 50, 100, 200)

# Dice of each slice, in the order of sorted ids, under each of the settings.
DiceTable = Mapping[MaskSettings, NDArray[np.float64]]


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """Settings that were tried, compared with those chosen so far."""

    settings: MaskSettings
    against: MaskSettings
    dice: float  # mean over slices
    difference: Estimate  # of the mean Dice, paired
    by_type: Mapping[str, Estimate]  # the same for each tumour type
    is_chosen: bool


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The settings chosen on validation slices, and all that were tried."""

    settings: MaskSettings
    dice: float  # mean over the validation slices
    slices: int
    candidates: tuple[Candidate, ...]


def dice_table(
    predictor: Predictor, slices: SliceSet, ids: Sequence[str], *, on_slice: Callable[[], None] = lambda: None
) -> DiceTable:
    """Predicts each slice once, with every flip and shift, and scores it under all settings that `choose` compares."""
    found: dict[MaskSettings, list[float]] = {settings: [] for settings in all_settings()}
    for item in predictor.predict(slices, ids, flip="all", shift="diagonal"):
        for flip, shift in itertools.product(FLIPS, SHIFTS):
            probability = item.probability(flip=flip, shift=shift)
            for threshold in THRESHOLDS:
                cleaned = without_small_parts(probability[..., 0] >= threshold, MIN_AREAS_PX)
                for min_area, predicted in zip(MIN_AREAS_PX, cleaned, strict=True):
                    settings = MaskSettings(flip=flip, shift=shift, threshold=threshold, min_area_px=min_area)
                    found[settings].append(hard_dice(item.masks[..., 0], predicted))
        on_slice()
    return {settings: np.array(dices) for settings, dices in found.items()}


def all_settings() -> list[MaskSettings]:
    """Every combination of the grids."""
    return [
        MaskSettings(flip=flip, shift=shift, threshold=threshold, min_area_px=min_area)
        for flip, shift, threshold, min_area in itertools.product(FLIPS, SHIFTS, THRESHOLDS, MIN_AREAS_PX)
    ]


def choose(dices: DiceTable, people: Sequence[Hashable], types: Sequence[str]) -> Choice:
    """Chooses flips first, then shifts, the threshold and the smallest part; each step starts from the last choice.

    A candidate is allowed if the mean Dice rises and no tumour type's 95 % interval of the paired difference lies
    wholly below zero; the allowed one with the highest mean is chosen. people, types: of each slice, in the order of
    the table; a type is empty if unknown.
    """
    chosen = MaskSettings()
    tried: list[Candidate] = []
    steps: tuple[Callable[[MaskSettings], list[MaskSettings]], ...] = (
        lambda now: [replace(now, flip=flip) for flip in FLIPS],
        lambda now: [replace(now, shift=shift) for shift in SHIFTS],
        lambda now: [replace(now, threshold=threshold) for threshold in THRESHOLDS],
        lambda now: [replace(now, min_area_px=area) for area in MIN_AREAS_PX],
    )
    for step in steps:
        candidates = [_held_against(chosen, other, dices, people, types) for other in step(chosen) if other != chosen]
        allowed = [candidate for candidate in candidates if _may_be_chosen(candidate)]
        best = max(allowed, key=lambda candidate: candidate.dice, default=None)
        tried += [replace(candidate, is_chosen=candidate is best) for candidate in candidates]
        chosen = chosen if best is None else best.settings
    return Choice(settings=chosen, dice=float(dices[chosen].mean()), slices=len(dices[chosen]), candidates=tuple(tried))


def _held_against(
    current: MaskSettings, settings: MaskSettings, dices: DiceTable, people: Sequence[Hashable], types: Sequence[str]
) -> Candidate:
    before, after = dices[current], dices[settings]
    return Candidate(
        settings=settings,
        against=current,
        dice=float(after.mean()),
        difference=difference_interval(before, after, people),
        by_type=difference_by_group(before, after, people, types),
        is_chosen=False,
    )


def _may_be_chosen(candidate: Candidate) -> bool:
    worse = [name for name, each in candidate.by_type.items() if each.high is not None and each.high < 0]
    return candidate.difference.value > 0 and not worse
