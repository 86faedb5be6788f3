"""Makes masks of probabilities: test-time augmentation, threshold, smallest connected part."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from brainseg.classes import Labels
from brainseg.config import FLIPS, SHIFTS
from brainseg.data.masks import NEIGHBOURS
from brainseg.keys import in_range, one_of

# For each of FLIPS, the axes of (batch, height, width, channels) that each forward pass flips. The first pass is the
# plain prediction, and each choice begins with the passes of the one before it.
FLIPPED_AXES: Mapping[str, tuple[tuple[int, ...], ...]] = {
    "none": ((),),
    "left-right": ((), (2,)),
    "all": ((), (2,), (1,), (1, 2)),
}
# For each of SHIFTS, how far down and right each forward pass moves the slice, in pixels of the model's size. Pooling
# and a stem see a slice through a grid; moved by less or more than whole cells, it looks different to them.
SHIFTED_PX: Mapping[str, tuple[tuple[int, int], ...]] = {
    "none": ((0, 0),),
    "diagonal": ((0, 0), (3, 5), (-3, -5)),
}
FLIP_TEXTS = {"none": "no flips", "left-right": "mean over left-right flips", "all": "mean over all flips"}

THRESHOLD = 0.5  # probabilities from here on are of the class


@dataclass(frozen=True, kw_only=True)
class MaskSettings:
    """How a mask is made of probabilities; the defaults are those of the final score of a training."""

    flip: str = "none"  # of FLIPS; the probabilities are the mean over these flips
    shift: str = "none"  # of SHIFTS; the mean over these as well
    # A number for all classes, or one for each. A probability from the threshold on is of the class; see `classified`.
    threshold: float | tuple[float, ...] = THRESHOLD
    min_area_px: int | tuple[int, ...] = 0  # connected parts with fewer pixels of the stored slice are removed

    def __post_init__(self) -> None:
        """Raises ConfigError, which names the options of the command, for values out of range."""
        one_of("--flip", self.flip, FLIPS)
        one_of("--shift", self.shift, SHIFTS)
        for threshold in _each(self.threshold):
            in_range("--threshold", threshold, low=0, high=1, exclusive=True)
        for area in _each(self.min_area_px):
            in_range("--min-area", area, low=0)

    def masks(self, probability: NDArray[np.float32], labels: Labels) -> NDArray[np.bool_]:
        """The mask of each class, (height, width, classes).

        probability: (height, width, outputs), of one slice, averaged over flips and shifts already.
        """
        found = classified(probability, labels, self.threshold)
        areas = _for_each(self.min_area_px, labels)
        return np.stack(
            [without_small_parts(found[..., place], (area,))[0] for place, area in enumerate(areas)], axis=-1
        )

    @classmethod
    def stored(cls, content: Mapping[str, Any]) -> "MaskSettings":
        """Settings that were written as JSON. Earlier versions knew all flips or none (a bool), and no shifts."""
        flip = content["flip"]
        if isinstance(flip, bool):
            flip = "all" if flip else "none"
        # JSON has lists for tuples.
        own = {key: tuple(value) if isinstance(value, list) else value for key, value in content.items()}
        return cls(**{**own, "flip": flip})

    @property
    def text(self) -> str:
        """`no flips, threshold 0.5, nothing removed`."""
        views = FLIP_TEXTS[self.flip]
        if self.shift != "none":
            views = f"mean over {self.shift} shifts" if self.flip == "none" else f"{views} and {self.shift} shifts"
        areas, thresholds = _each(self.min_area_px), _each(self.threshold)
        removed = f"parts below {'/'.join(map(str, areas))} px removed" if any(areas) else "nothing removed"
        return f"{views}, threshold {'/'.join(f'{each:g}' for each in thresholds)}, {removed}"


def classified(
    probability: NDArray[np.float32], labels: Labels, threshold: float | tuple[float, ...] = THRESHOLD
) -> NDArray[np.bool_]:
    """The pixels of each class, (..., classes), from probabilities (..., outputs).

    Without `labels.exclusive` those from the class's threshold on. Of exclusive classes a pixel goes to that with the
    highest odds against its threshold, p (1 - t) / t, the background's being its probability: with thresholds of 0.5
    to the highest probability, and with a single class from its threshold on.
    """
    thresholds = np.array(_for_each(threshold, labels), np.float32)
    if not labels.exclusive:
        found: NDArray[np.bool_] = probability >= thresholds
        return found
    classes = probability[..., labels.first_class :]
    if (thresholds != THRESHOLD).any():
        classes = classes * ((1 - thresholds) / thresholds)
    if labels.has_background:
        classes = np.concatenate([probability[..., :1], classes], axis=-1)
    # The last of equal ones: a class before the background, as in resized masks.
    best = classes.shape[-1] - 1 - np.argmax(classes[..., ::-1], axis=-1)
    won: NDArray[np.bool_] = best[..., np.newaxis] == np.arange(labels.first_class, labels.outputs)
    return won


def masks_by_threshold(
    probability: NDArray[np.float32], labels: Labels, place: int, thresholds: Sequence[float]
) -> list[NDArray[np.bool_]]:
    """The mask of one class, (height, width), under each threshold, as `classified` has it with the others' at 0.5.

    probability: (height, width, outputs). place: of the class, from 0.
    """
    own = probability[..., labels.first_class + place]
    if not labels.exclusive:
        return [own >= np.float32(threshold) for threshold in thresholds]
    # Of equal odds the last output wins.
    output = labels.first_class + place
    before, after = (
        part.max(axis=-1, initial=-1.0) for part in (probability[..., :output], probability[..., output + 1 :])
    )
    found = []
    for threshold in thresholds:
        odds = own if threshold == THRESHOLD else own * ((1 - np.float32(threshold)) / np.float32(threshold))
        found.append((odds >= before) & (odds > after))
    return found


def hard_masks(
    targets: NDArray[np.float32], probability: NDArray[np.float32], labels: Labels
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """True and predicted pixels of each class, both (slices, height, width, classes), none of them ignored.

    targets, probability: (slices, height, width, outputs), as for a loss.
    """
    predicted = classified(probability, labels)
    if labels.has_ignored:
        predicted &= targets[..., :1] >= 0
    return targets[..., labels.first_class :] >= THRESHOLD, predicted


def _each(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def _for_each(value: Any, labels: Labels) -> tuple[Any, ...]:
    """A value for each class."""
    return value if isinstance(value, tuple) else (value,) * len(labels.names)


def without_small_parts(mask: NDArray[np.bool_], min_areas_px: Sequence[int]) -> list[NDArray[np.bool_]]:
    """For each of the areas, the mask (height, width) without its smaller connected parts."""
    if max(min_areas_px) <= 1 or not mask.any():  # a part has a pixel at least
        return [mask for _ in min_areas_px]
    labels, _ = ndimage.label(mask, structure=NEIGHBOURS)
    areas = np.bincount(labels.ravel())
    areas[0] = 0  # the background
    return [areas[labels] >= max(area, 1) for area in min_areas_px]
