"""Distances between the borders of two masks, in pixels or of volumes in millimetres: HD95 and the surface Dice.

The border of a mask is the mask without its erosion by the direct neighbours, four or of a volume six; beyond the slice
is background, so that a mask that reaches the edge has its border there.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import KDTree

# How far apart two borders may be and still count as agreeing: the width of a hand-drawn outline.
TOLERANCE_PX = 2.0
TOLERANCE_MM = 2.0
PERCENTILE = 95.0


def border_distances(
    mask: NDArray[np.bool_], predicted: NDArray[np.bool_], *, spacing_mm: Sequence[float] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Distance of each border pixel of the mask to the prediction's border, and the other way round.

    Both masks (height, width), or of volumes (slices, height, width) with the spacing of voxels along these axes;
    neither empty (ValueError). Euclidean, between the centres of pixels.
    """
    if not (mask.any() and predicted.any()):
        raise ValueError("an empty mask has no border; decide first what it scores")
    box = ndimage.find_objects((mask | predicted).astype(np.uint8))[0]
    border, predicted_border = _border(mask[box]), _border(predicted[box])
    if spacing_mm is not None:  # the distance of every voxel would take some fifty bytes each
        points, others = (np.argwhere(each) * np.asarray(spacing_mm) for each in (border, predicted_border))
        return KDTree(others).query(points)[0], KDTree(points).query(others)[0]
    to_predicted = ndimage.distance_transform_edt(~predicted_border)[border]
    to_mask = ndimage.distance_transform_edt(~border)[predicted_border]
    return to_predicted, to_mask


def surface_scores(
    mask: NDArray[np.bool_],
    predicted: NDArray[np.bool_],
    *,
    tolerance: float = TOLERANCE_PX,
    spacing_mm: Sequence[float] | None = None,
) -> tuple[float, float]:
    """Surface Dice, in [0, 1], and HD95 of one slice, in pixels; or of a volume, in mm. Masks as `border_distances`.

    The surface Dice is the share of both borders' pixels that lie within the tolerance of the other border: that of
    Nikolov et al. 2018, arXiv:1809.04430, with border pixels in place of surface elements. HD95 is the 95th percentile
    of the border distances of both directions together, as MedPy's `hd95` with its connectivity of 1. Two empty masks:
    1 and 0; one empty mask: 0 and the slice's or the volume's diagonal.
    """
    if not (mask.any() and predicted.any()):
        sides = np.multiply(mask.shape, spacing_mm or 1)
        return (1.0, 0.0) if mask.any() == predicted.any() else (0.0, math.hypot(*sides))
    distances = np.concatenate(border_distances(mask, predicted, spacing_mm=spacing_mm))
    return float((distances <= tolerance).mean()), float(np.percentile(distances, PERCENTILE))


def _border(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    eroded: NDArray[np.bool_] = ndimage.binary_erosion(mask)  # by direct neighbours, background outside
    return mask & ~eroded
