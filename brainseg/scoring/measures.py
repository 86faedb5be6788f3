"""The scores of one slice: overlap, precision, recall, and distances of the borders."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from brainseg.data.source import PATIENT, TUMOR_TYPE, SliceInfo
from brainseg.scoring.overlap import hard_dice, iou
from brainseg.scoring.surfaces import surface_scores

CSV_COLUMNS = (
    "id",
    "patient_id",
    "tumor_type",
    "area_px",
    "predicted_area_px",
    "dice",
    "iou",
    "precision",
    "recall",
    "surface_dice",
    "hd95_px",
)


@dataclass(frozen=True, kw_only=True)
class SliceMeasures:
    """How well one slice was segmented, at its stored size.

    Where both masks are empty, every share is 1 and the distance 0; where one is, every share is 0 and the
    distance the slice's diagonal.
    """

    id: str
    patient_id: str  # empty where unknown
    tumor_type: str  # empty where unknown
    height_px: int
    width_px: int
    area_px: int  # tumour pixels of the true mask
    predicted_area_px: int
    shared_px: int  # tumour pixels of both
    dice: float  # in [0, 1]
    iou: float  # in [0, 1]
    precision: float  # share of the predicted pixels that are tumour
    recall: float  # share of the tumour's pixels that are predicted
    surface_dice: float  # in [0, 1], within TOLERANCE_PX
    hd95_px: float

    @property
    def tumor_share(self) -> float:
        """Tumour pixels of the true mask as a share of the slice, in [0, 1]."""
        return self.area_px / (self.height_px * self.width_px)


def measure(info: SliceInfo, mask: NDArray[np.bool_], predicted: NDArray[np.bool_]) -> SliceMeasures:
    """The scores of a slice from its true and its predicted mask, both (height, width).

    Raises ValueError if the shapes differ or the arrays aren't boolean.
    """
    dice, overlap = hard_dice(mask, predicted), iou(mask, predicted)
    area, predicted_area, shared = (int(np.count_nonzero(each)) for each in (mask, predicted, mask & predicted))
    both_empty = float(area == predicted_area == 0)
    surface, distance = surface_scores(mask, predicted)
    return SliceMeasures(
        id=info.id,
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


def to_csv(measures: Sequence[SliceMeasures], *, further: Mapping[str, Sequence[str]] | None = None) -> str:
    """One row a slice, with `CSV_COLUMNS` and further columns of texts; floats so that they read back exactly."""
    further = further or {}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*CSV_COLUMNS, *further])
    for position, item in enumerate(measures):
        values = [getattr(item, column) for column in CSV_COLUMNS]
        writer.writerow([*values, *(texts[position] for texts in further.values())])
    return text.getvalue()
