"""Makes masks of probabilities: test-time augmentation, threshold, smallest connected part."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from brainseg.config import FLIPS, SHIFTS, in_range, one_of

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

THRESHOLD = 0.5  # probabilities from here on are tumour
# Pixels that touch at a corner belong to one part.
NEIGHBOURS = np.ones((3, 3), dtype=np.bool_)


@dataclass(frozen=True, kw_only=True)
class MaskSettings:
    """How a mask is made of probabilities; the defaults are those of the final score of a training."""

    flip: str = "none"  # of FLIPS; the probabilities are the mean over these flips
    shift: str = "none"  # of SHIFTS; the mean over these as well
    threshold: float = THRESHOLD  # a probability from here on is tumour
    min_area_px: int = 0  # connected parts with fewer pixels of the stored slice are removed

    def __post_init__(self) -> None:
        """Raises ConfigError, which names the options of the command, for values out of range."""
        one_of("--flip", self.flip, FLIPS)
        one_of("--shift", self.shift, SHIFTS)
        in_range("--threshold", self.threshold, low=0, high=1, exclusive=True)
        in_range("--min-area", self.min_area_px, low=0)

    def mask(self, probability: NDArray[np.float32]) -> NDArray[np.bool_]:
        """The mask of the probabilities (height, width) of one slice, averaged over flips and shifts already."""
        return without_small_parts(probability >= self.threshold, (self.min_area_px,))[0]

    @classmethod
    def stored(cls, content: Mapping[str, Any]) -> "MaskSettings":
        """Settings that were written as JSON. Earlier versions knew all flips or none (a bool), and no shifts."""
        flip = content["flip"]
        if isinstance(flip, bool):
            flip = "all" if flip else "none"
        return cls(**{**content, "flip": flip})

    @property
    def text(self) -> str:
        """`no flips, threshold 0.5, nothing removed`."""
        views = FLIP_TEXTS[self.flip]
        if self.shift != "none":
            views = f"mean over {self.shift} shifts" if self.flip == "none" else f"{views} and {self.shift} shifts"
        removed = f"parts below {self.min_area_px} px removed" if self.min_area_px else "nothing removed"
        return f"{views}, threshold {self.threshold:g}, {removed}"


def without_small_parts(mask: NDArray[np.bool_], min_areas_px: Sequence[int]) -> list[NDArray[np.bool_]]:
    """For each of the areas, the mask (height, width) without its smaller connected parts."""
    if max(min_areas_px) <= 1 or not mask.any():  # a part has a pixel at least
        return [mask for _ in min_areas_px]
    labels, _ = ndimage.label(mask, structure=NEIGHBOURS)
    areas = np.bincount(labels.ravel())
    areas[0] = 0  # the background
    return [areas[labels] >= max(area, 1) for area in min_areas_px]
