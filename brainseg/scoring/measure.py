"""Scores one slice by its masks: overlap, precision, recall, and distances of the borders."""

import numpy as np
from numpy.typing import NDArray

from brainseg.data.source import PATIENT, TUMOR_TYPE, SliceInfo
from brainseg.scoring.overlap import hard_dice, iou
from brainseg.scoring.slice_score import SliceScore
from brainseg.scoring.surfaces import surface_scores


def measure(
    info: SliceInfo,
    mask: NDArray[np.bool_],
    predicted: NDArray[np.bool_],
    *,
    class_name: str = "",
    borders: bool = True,
) -> SliceScore:
    """Scores a slice by its true and its predicted mask of a class, both (height, width).

    borders: measure their distances, which takes longest. Raises ValueError if the shapes differ or the arrays
    aren't boolean.
    """
    dice, overlap = hard_dice(mask, predicted), iou(mask, predicted)
    area, predicted_area, shared = (int(np.count_nonzero(each)) for each in (mask, predicted, mask & predicted))
    both_empty = float(area == predicted_area == 0)
    surface, distance = surface_scores(mask, predicted) if borders else (None, None)
    return SliceScore(
        id=info.id,
        class_name=class_name,
        patient_id=info.columns.get(PATIENT, ""),
        tumor_type=info.columns.get(TUMOR_TYPE, ""),
        height_px=mask.shape[0],
        width_px=mask.shape[1],
        area_px=area,
        predicted_area_px=predicted_area,
        shared_px=shared,
        dice=dice,
        iou=overlap,
        precision=shared / predicted_area if predicted_area else both_empty,
        recall=shared / area if area else both_empty,
        surface_dice=surface,
        hd95_px=distance,
    )
