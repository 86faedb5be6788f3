"""Predicts slices and scores each at its stored size: at the end of a training, and by `brainseg.evaluate`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from brainseg.data.cache import SliceSet
from brainseg.inference.postprocess import MaskSettings
from brainseg.inference.prediction import Predictor
from brainseg.scoring.calibration import Calibration
from brainseg.scoring.measure import measure
from brainseg.scoring.predictions import PackedMask
from brainseg.scoring.slice_score import SliceScore, by_type


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """Scores and predicted masks of some slices, in the order of sorted ids."""

    scores: tuple[SliceScore, ...]
    predictions: Mapping[str, PackedMask]  # slice -> its mask as stored
    calibration: Calibration  # of no pixel unless the evaluation was in full
    seconds_per_image: float  # the model's prediction alone: median over batches, the first one aside

    @property
    def dice(self) -> float:
        """Mean Dice over slices."""
        return float(np.mean([score.dice for score in self.scores]))

    def dice_by_type(self) -> dict[str, float]:
        """Tumour type -> mean Dice over its slices; empty where types are unknown."""
        return {name: float(np.mean([score.dice for score in scores])) for name, scores in by_type(self.scores).items()}


def evaluate(
    predictor: Predictor,
    slices: SliceSet,
    ids: Sequence[str],
    *,
    settings: MaskSettings | None = None,
    in_full: bool = False,
    on_batch: Callable[[], None] = lambda: None,
    on_slice: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Predicts these slices and scores them against their stored masks.

    Probabilities are resized to the stored mask's size before the mask is made, so that a score doesn't depend on the
    size that the model works at. settings: how masks are made; the defaults give the final score of a training.
    in_full: with the distances of borders and the calibration. `on_batch` is called before each batch, and may raise
    to stop; `on_slice` after each slice.
    """
    settings = settings or MaskSettings()
    infos = {item.id: item for item in slices.slices}
    scores: list[SliceScore] = []
    predictions: dict[str, PackedMask] = {}
    calibration = Calibration()
    for item in predictor.predict(slices, ids, flip=settings.flip, shift=settings.shift, on_batch=on_batch):
        probability = item.probability(flip=settings.flip, shift=settings.shift)
        predicted = settings.mask(probability)
        scores.append(measure(infos[item.id], item.mask, predicted, borders=in_full))
        predictions[item.id] = PackedMask.of(predicted)
        if in_full:
            calibration.add(probability, item.mask)
        on_slice()
    return Evaluation(
        scores=tuple(scores),
        predictions=predictions,
        calibration=calibration,
        seconds_per_image=predictor.seconds_per_image,
    )
