"""The final scores: each validation slice at its stored size, and the predicted masks, packed."""

import csv
import io
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainseg.data.cache import SliceSet
from brainseg.data.source import PATIENT, TUMOR_TYPE
from brainseg.inference.postprocess import THRESHOLD
from brainseg.inference.prediction import Predictor
from brainseg.scoring.overlap import hard_dice, iou

PREDICTIONS_SCHEMA = 1
CSV_COLUMNS = ("id", "patient_id", "tumor_type", "area_px", "dice", "iou")


@dataclass(frozen=True, kw_only=True)
class SliceScore:
    """How well one slice was segmented, at its stored size."""

    id: str
    patient_id: str  # empty where unknown
    tumor_type: str  # empty where unknown
    area_px: int  # tumour pixels of the true mask
    dice: float  # in [0, 1]; two empty masks score 1
    iou: float  # in [0, 1]; two empty masks score 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """Scores and predicted masks of some slices, in the order of sorted ids."""

    scores: tuple[SliceScore, ...]
    predictions: tuple[NDArray[np.bool_], ...]  # each (height, width) as stored
    seconds_per_image: float  # the model's prediction alone: median over batches, the first one aside

    @property
    def dice(self) -> float:
        """Mean Dice over slices."""
        return float(np.mean([score.dice for score in self.scores]))

    def dice_by_type(self) -> dict[str, float]:
        """Tumour type -> mean Dice over its slices; empty where types are unknown."""
        by_type: dict[str, list[float]] = defaultdict(list)
        for score in self.scores:
            if score.tumor_type:
                by_type[score.tumor_type].append(score.dice)
        return {name: float(np.mean(by_type[name])) for name in sorted(by_type)}

    def to_csv(self) -> str:
        """One row a slice, with the columns `CSV_COLUMNS`; floats so that they read back exactly."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(CSV_COLUMNS)
        for score in self.scores:
            writer.writerow([getattr(score, column) for column in CSV_COLUMNS])
        return text.getvalue()


def evaluate(
    model: Any, slices: SliceSet, ids: Sequence[str], *, on_batch: Callable[[], None] = lambda: None
) -> Evaluation:
    """Predicts these slices with a Keras model and scores them against their stored masks.

    Probabilities are resized to the stored mask's size, then cut at 0.5: the final score, which doesn't
    depend on the size that the model works at. `on_batch` is called between batches, and may raise to stop.
    """
    predictor = Predictor(model)
    columns = {item.id: item.columns for item in slices.slices}
    scores: list[SliceScore] = []
    predictions: list[NDArray[np.bool_]] = []
    for item in predictor.predict(slices, ids, on_batch=on_batch):
        predicted = item.probability() >= THRESHOLD
        predictions.append(predicted)
        scores.append(
            SliceScore(
                id=item.id,
                patient_id=columns[item.id].get(PATIENT, ""),
                tumor_type=columns[item.id].get(TUMOR_TYPE, ""),
                area_px=int(item.mask.sum()),
                dice=hard_dice(item.mask, predicted),
                iou=iou(item.mask, predicted),
            )
        )
    return Evaluation(
        scores=tuple(scores), predictions=tuple(predictions), seconds_per_image=predictor.seconds_per_image
    )


def save_predictions(path: Path, evaluation: Evaluation) -> None:
    """Writes the predicted masks as an `.npz` of one bit a pixel, which `load_predictions` reads."""
    np.savez_compressed(
        path,
        schema_version=np.array(PREDICTIONS_SCHEMA),
        ids=np.array([score.id for score in evaluation.scores]),
        shapes=np.array([predicted.shape for predicted in evaluation.predictions], dtype=np.int32),
        bits=np.concatenate([np.packbits(predicted) for predicted in evaluation.predictions]),
    )


def load_predictions(path: Path) -> dict[str, NDArray[np.bool_]]:
    """Id -> predicted mask (height, width). Raises ValueError for a schema that this brainseg can't read."""
    with np.load(path, allow_pickle=False) as stored:
        if int(stored["schema_version"]) != PREDICTIONS_SCHEMA:
            raise ValueError(f"{path} has schema_version {stored['schema_version']}, not {PREDICTIONS_SCHEMA}")
        ids, shapes, bits = stored["ids"], stored["shapes"], stored["bits"]
    masks: dict[str, NDArray[np.bool_]] = {}
    first = 0
    for slice_id, (height, width) in zip(ids, shapes, strict=True):
        size = -(-height * width // 8)  # each mask starts at a whole byte
        unpacked = np.unpackbits(bits[first : first + size], count=height * width)
        masks[str(slice_id)] = unpacked.reshape(height, width).astype(np.bool_)
        first += size
    return masks
