"""Distances between the borders of two masks, in pixels: HD95 and the normalised surface Dice.

The border of a mask is the mask without its erosion by the four direct neighbours; beyond the slice is
background, so that a mask that reaches the edge has its border there.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

# How far apart two borders may be and still count as agreeing: the width of a hand-drawn outline.
TOLERANCE_PX = 2.0
PERCENTILE = 95.0


def border_distances(
    mask: NDArray[np.bool_], predicted: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Distance of each border pixel of the mask to the prediction's border, and the other way round.

    Both masks (height, width), neither empty (ValueError). Euclidean, between the centres of pixels.
    """
    if not (mask.any() and predicted.any()):
        raise ValueError("an empty mask has no border; decide first what it scores")
    box = ndimage.find_objects((mask | predicted).astype(np.uint8))[0]
    border, predicted_border = _border(mask[box]), _border(predicted[box])
    to_predicted = ndimage.distance_transform_edt(~predicted_border)[border]
    to_mask = ndimage.distance_transform_edt(~border)[predicted_border]
    return to_predicted, to_mask


def hd95_px(mask: NDArray[np.bool_], predicted: NDArray[np.bool_]) -> float:
    """95th percentile of the border distances of both directions together, at least 0.

    As MedPy's `hd95` with its connectivity of 1. Two empty masks: 0; one empty mask: the slice's diagonal.
    """
    if not (mask.any() and predicted.any()):
        return 0.0 if mask.any() == predicted.any() else math.hypot(*mask.shape)
    return float(np.percentile(np.concatenate(border_distances(mask, predicted)), PERCENTILE))


def surface_dice(mask: NDArray[np.bool_], predicted: NDArray[np.bool_], *, tolerance_px: float = TOLERANCE_PX) -> float:
    """Share of both borders' pixels that lie within the tolerance of the other border, in [0, 1].

    The normalised surface Dice of Nikolov et al. 2018, arXiv:1809.04430, with border pixels in place of
    surface elements. Two empty masks: 1; one empty mask: 0.
    """
    if not (mask.any() and predicted.any()):
        return float(mask.any() == predicted.any())
    return _share_within(border_distances(mask, predicted), tolerance_px)


def surface_scores(mask: NDArray[np.bool_], predicted: NDArray[np.bool_]) -> tuple[float, float]:
    """`surface_dice` and `hd95_px` of one slice, whose distances are computed once."""
    if not (mask.any() and predicted.any()):
        return surface_dice(mask, predicted), hd95_px(mask, predicted)
    distances = border_distances(mask, predicted)
    return _share_within(distances, TOLERANCE_PX), float(np.percentile(np.concatenate(distances), PERCENTILE))


def _share_within(distances: tuple[NDArray[np.float64], NDArray[np.float64]], tolerance_px: float) -> float:
    return float((np.concatenate(distances) <= tolerance_px).mean())


def _border(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    eroded: NDArray[np.bool_] = ndimage.binary_erosion(mask)  # four direct neighbours, background outside
    return mask & ~eroded
