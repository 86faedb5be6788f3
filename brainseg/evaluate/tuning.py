"""Chooses test-time augmentation, threshold and smallest part on validation slices, one after the other."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from brainseg.config import FLIPS, SHIFTS
from brainseg.data.cache import SliceSet
from brainseg.data.people import whose
from brainseg.data.source import PATIENT, TUMOR_TYPE
from brainseg.inference.postprocess import MaskSettings, masks_by_threshold, without_small_parts
from brainseg.inference.prediction import Prediction, Predictor
from brainseg.scoring.intervals import Estimate
from brainseg.scoring.overlap import hard_dice
from brainseg.scoring.ranking import DiceTable, counts, difference, difference_by_group

THRESHOLDS = (0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7)
MIN_AREAS_PX = (0, 10, 25, 50, 100, 200)

# The Dice of each slice and class under each of the settings, in the order of sorted ids. A threshold and a smallest
# part are those of the one class, while the other classes have the defaults.
Tables = Mapping[MaskSettings, DiceTable]


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """Settings that were tried, compared with those chosen so far."""

    settings: MaskSettings
    class_name: str = ""  # of the only class that they are for; empty for all classes
    against: MaskSettings
    dice: float  # what ranks runs, on these slices: of the class, or of all
    difference: Estimate  # of that, paired
    by_type: Mapping[str, Estimate]  # the same for each tumour type
    is_chosen: bool


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The settings chosen on validation slices, and all that were tried."""

    settings: MaskSettings
    dice: float  # mean over the validation slices, then over the classes
    slices: int
    candidates: tuple[Candidate, ...]


def tables_of(
    predictor: Predictor,
    slices: SliceSet,
    ids: Sequence[str],
    *,
    score_by: str,
    on_slice: Callable[[], None] = lambda: None,
) -> Tables:
    """Predicts each slice once, with every flip and shift, and scores it under all settings that `choose` compares."""
    dices: dict[MaskSettings, list[list[float]]] = {settings: [] for settings in all_settings()}
    empty: dict[MaskSettings, list[list[bool]]] = {settings: [] for settings in dices}
    for item in predictor.predict(slices, ids, flip="all", shift="diagonal"):
        for flip, shift in itertools.product(FLIPS, SHIFTS):
            probability = item.probability(flip=flip, shift=shift)
            by_class = [_scored(item, probability, slices, place) for place in range(len(slices.labels.names))]
            for threshold, area in itertools.product(THRESHOLDS, MIN_AREAS_PX):
                settings = MaskSettings(flip=flip, shift=shift, threshold=threshold, min_area_px=area)
                dices[settings].append([own[threshold, area][0] for own in by_class])
                empty[settings].append([own[threshold, area][1] for own in by_class])
        on_slice()
    columns = {item.id: item.columns for item in slices.slices}
    ordered = sorted(ids)
    return {
        settings: DiceTable(
            dices=np.array(rows),
            counted=counts(np.array(empty[settings]), score_by),
            people=tuple(whose(slice_id, columns[slice_id].get(PATIENT, "")) for slice_id in ordered),
            groups=tuple(columns[slice_id].get(TUMOR_TYPE, "") for slice_id in ordered),
        )
        for settings, rows in dices.items()
    }


def _scored(
    item: Prediction, probability: NDArray[np.float32], slices: SliceSet, place: int
) -> dict[tuple[float, int], tuple[float, bool]]:
    """Threshold and smallest part -> the Dice of one class, and whether both of its masks are empty."""
    found = {}
    truth = item.masks[..., place]
    masks = masks_by_threshold(probability, slices.labels, place, THRESHOLDS)
    for threshold, mask in zip(THRESHOLDS, masks, strict=True):
        for area, cleaned in zip(MIN_AREAS_PX, without_small_parts(mask, MIN_AREAS_PX), strict=True):
            predicted = cleaned if item.ignored is None else cleaned & ~item.ignored
            found[threshold, area] = hard_dice(truth, predicted), not (truth.any() or predicted.any())
    return found


def all_settings() -> list[MaskSettings]:
    """Every combination of the grids."""
    return [
        MaskSettings(flip=flip, shift=shift, threshold=threshold, min_area_px=min_area)
        for flip, shift, threshold, min_area in itertools.product(FLIPS, SHIFTS, THRESHOLDS, MIN_AREAS_PX)
    ]


def choose(tables: Tables, classes: Sequence[str]) -> Choice:
    """Chooses flips first, then shifts, then each class's threshold and smallest part; each step starts from the last.

    A candidate is allowed if the score rises and no tumour type's 95 % interval of the paired difference lies
    wholly below zero; the allowed one with the highest score is chosen. classes: their names, in the tables' order.
    """
    tried: list[Candidate] = []
    views = MaskSettings()
    views = _step(views, [replace(views, flip=flip) for flip in FLIPS], tables, tried)
    views = _step(views, [replace(views, shift=shift) for shift in SHIFTS], tables, tried)
    chosen = [_for_class(views, tables, place, name, tried) for place, name in enumerate(classes)]
    scores = [tables[own].of_class(place).score for place, own in enumerate(chosen)]
    settings = chosen[0]
    if len(chosen) > 1:
        thresholds = tuple(own.threshold for own in chosen if not isinstance(own.threshold, tuple))
        areas = tuple(own.min_area_px for own in chosen if not isinstance(own.min_area_px, tuple))
        settings = replace(settings, threshold=thresholds, min_area_px=areas)
    slices = len(tables[views].people)
    return Choice(settings=settings, dice=float(np.mean(scores)), slices=slices, candidates=tuple(tried))


def _for_class(views: MaskSettings, tables: Tables, place: int, name: str, tried: list[Candidate]) -> MaskSettings:
    """The settings of one class."""
    own = {settings: table.of_class(place) for settings, table in tables.items()}
    chosen = _step(views, [replace(views, threshold=threshold) for threshold in THRESHOLDS], own, tried, name)
    return _step(chosen, [replace(chosen, min_area_px=area) for area in MIN_AREAS_PX], own, tried, name)


def _step(
    now: MaskSettings, others: Sequence[MaskSettings], tables: Tables, tried: list[Candidate], class_name: str = ""
) -> MaskSettings:
    """The best of these settings that may be chosen, or those of now; all are added to `tried`."""
    candidates = [_held_against(now, other, tables, class_name) for other in others if other != now]
    allowed = [candidate for candidate in candidates if _may_be_chosen(candidate)]
    best = max(allowed, key=lambda candidate: candidate.dice, default=None)
    tried += [replace(candidate, is_chosen=candidate is best) for candidate in candidates]
    return now if best is None else best.settings


def _held_against(current: MaskSettings, settings: MaskSettings, tables: Tables, class_name: str) -> Candidate:
    before, after = tables[current], tables[settings]
    return Candidate(
        settings=settings,
        class_name=class_name,
        against=current,
        dice=after.score,
        difference=difference(before, after),
        by_type=difference_by_group(before, after),
        is_chosen=False,
    )


def _may_be_chosen(candidate: Candidate) -> bool:
    worse = [name for name, each in candidate.by_type.items() if each.high is not None and each.high < 0]
    return candidate.difference.value > 0 and not worse
