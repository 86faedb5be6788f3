"""Scores whole volumes: their slices put together, with distances in millimetres."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from brainseg.data.cache import SliceSet
from brainseg.data.folder import FolderSource
from brainseg.data.masks import class_masks, ignored_pixels
from brainseg.data.people import whose
from brainseg.data.source import PATIENT
from brainseg.scoring.evaluation import Evaluation
from brainseg.scoring.intervals import Estimate, mean_interval
from brainseg.scoring.overlap import hard_dice
from brainseg.scoring.surfaces import TOLERANCE_MM, surface_scores

# What is averaged over volumes: field of VolumeScore -> title.
VOLUME_MEASURES = {"dice": "Dice", "surface_dice": "surface Dice", "hd95_mm": "HD95 (mm)"}
VOLUME_COLUMNS = ("id", "patient_id", "slices", *VOLUME_MEASURES)


@dataclass(frozen=True, kw_only=True)
class VolumeScore:
    """How well one class of a volume was segmented. Two empty masks: 1, 1 and 0; one: 0, 0 and the diagonal."""

    id: str
    class_name: str  # empty for binary masks
    patient_id: str
    slices: int
    dice: float  # in [0, 1], of all voxels together
    surface_dice: float  # in [0, 1], within TOLERANCE_MM
    hd95_mm: float


def volume_scores(slices: SliceSet, evaluation: Evaluation) -> tuple[VolumeScore, ...]:
    """Of each volume whose slices were all predicted, one score a class; none for a set that isn't of volumes."""
    source, labels = slices.source, slices.labels
    if not isinstance(source, FolderSource) or source.volumes is None:
        return ()
    patients = {info.id: info.columns[PATIENT] for info in slices.slices}
    scores = []
    for volume in source.volumes.of_id.values():
        ids = volume.slice_ids
        if not evaluation.predictions.keys() >= {*ids}:
            continue
        mask = source.volume_mask(volume.id)
        truth, ignored = class_masks(mask, labels), ignored_pixels(mask, labels)
        predicted: NDArray[np.bool_] = np.stack([evaluation.predictions[slice_id].unpacked() for slice_id in ids])
        if ignored is not None:
            predicted &= ~ignored[..., np.newaxis]
        for place, name in enumerate(labels.names):
            own = truth[..., place], predicted[..., place]
            surface, distance = surface_scores(*own, tolerance=TOLERANCE_MM, spacing_mm=volume.spacing_mm)
            scores.append(
                VolumeScore(
                    id=volume.id,
                    class_name=name,
                    patient_id=patients[ids[0]],
                    slices=len(ids),
                    dice=hard_dice(*own),
                    surface_dice=surface,
                    hd95_mm=distance,
                )
            )
    return tuple(scores)


def volume_means(scores: Sequence[VolumeScore]) -> dict[str, dict[str, Estimate]]:
    """Class -> key of VOLUME_MEASURES -> the mean over volumes; the interval is over people."""
    of_class: dict[str, list[VolumeScore]] = {}
    for score in scores:
        of_class.setdefault(score.class_name, []).append(score)
    return {
        name: {
            key: mean_interval(
                [getattr(score, key) for score in own], [whose(each.id, each.patient_id) for each in own]
            )
            for key in VOLUME_MEASURES
        }
        for name, own in of_class.items()
    }
