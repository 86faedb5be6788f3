"""Predicts slices and scores each at its stored size: at the end of a training, and by `brainseg.evaluate`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from brainseg.data.cache import SliceSet
from brainseg.inference.postprocess import MaskSettings
from brainseg.inference.prediction import Predictor
from brainseg.scoring.calibration import Calibration
from brainseg.scoring.confusion import Confusion
from brainseg.scoring.measure import measure
from brainseg.scoring.predictions import PackedMask
from brainseg.scoring.slice_score import SliceScore, by_class, by_type, dice_table, metric_table

# A number of one slice and class, from its true and its predicted mask, (height, width); NaN where it has no meaning.
Metric: TypeAlias = Callable[[NDArray[np.bool_], NDArray[np.bool_]], float]
NO_METRICS: Mapping[str, Metric] = {}


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """Scores and predicted masks of some slices, in the order of sorted ids."""

    scores: tuple[SliceScore, ...]  # of each slice one a class, in the order of the classes
    score_by: str  # slice or case: what counts in `dice`
    predictions: Mapping[str, PackedMask]  # slice -> its mask as stored
    calibrations: Mapping[str, Calibration]  # by class; of no pixel unless the evaluation was in full
    confusion: Confusion | None  # of exclusive classes, likewise
    seconds_per_image: float  # the model's prediction alone: median over batches, the first one aside
    further: Mapping[str, Sequence[float]] = field(
        default_factory=dict
    )  # metric of a plugin -> its value of each score

    @property
    def dice(self) -> float:
        """What ranks runs: mean Dice over slices, then over classes."""
        return dice_table(self.scores, score_by=self.score_by).score

    def means(self) -> dict[str, float]:
        """Metric of a plugin -> its mean over slices, then over classes; NaN where it has no value."""
        return {name: metric_table(self.scores, values).known_score for name, values in self.further.items()}

    def dice_by_class(self) -> dict[str, float]:
        """Class -> mean Dice over its slices; empty for binary masks."""
        named = {name: scores for name, scores in by_class(self.scores).items() if name}
        return {name: dice_table(scores, score_by=self.score_by).score for name, scores in named.items()}

    def dice_by_type(self) -> dict[str, float]:
        """Tumour type -> mean Dice over its slices; empty where types are unknown."""
        groups = by_type(self.scores)
        return {name: dice_table(scores, score_by=self.score_by).score for name, scores in groups.items()}


def evaluate(
    predictor: Predictor,
    slices: SliceSet,
    ids: Sequence[str],
    *,
    score_by: str,
    settings: MaskSettings | None = None,
    in_full: bool = False,
    metrics: Mapping[str, Metric] = NO_METRICS,
    on_batch: Callable[[], None] = lambda: None,
    on_slice: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Predicts these slices and scores them against their stored masks.

    Probabilities are resized to the stored mask's size before the mask is made, so that a score doesn't depend on the
    size that the model works at. score_by: see `dice_table`. settings: how masks are made; the defaults give the
    final score of a training. in_full: with the distances of borders, calibration and confusion. metrics: further ones,
    which are given the masks of each slice and class. `on_batch` is called
    before each batch, and may raise to stop; `on_slice` after each slice.
    """
    settings = settings or MaskSettings()
    infos = {item.id: item for item in slices.slices}
    scores: list[SliceScore] = []
    predictions: dict[str, PackedMask] = {}
    further: dict[str, list[float]] = {name: [] for name in metrics}
    labels = slices.labels
    calibrations = {name: Calibration() for name in labels.names}
    confusion = Confusion(labels) if labels.exclusive else None
    for item in predictor.predict(slices, ids, flip=settings.flip, shift=settings.shift, on_batch=on_batch):
        probability = item.probability(flip=settings.flip, shift=settings.shift)
        predicted = settings.masks(probability, labels)
        predictions[item.id] = PackedMask.of(predicted)
        scored = item.without_ignored(predicted)
        if in_full and confusion is not None:
            confusion.add(item.masks, predicted, item.ignored)
        for place, name in enumerate(labels.names):
            truth = item.masks[..., place]
            scores.append(measure(infos[item.id], truth, scored[..., place], class_name=name, borders=in_full))
            for metric, value in metrics.items():
                further[metric].append(float(value(truth, scored[..., place])))
            if in_full:
                calibrations[name].add(*item.counted(probability[..., labels.first_class + place], truth))
        on_slice()
    return Evaluation(
        scores=tuple(scores),
        score_by=score_by,
        predictions=predictions,
        calibrations=calibrations,
        confusion=confusion,
        seconds_per_image=predictor.seconds_per_image,
        further=further,
    )
