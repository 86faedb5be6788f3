"""Applies a model to images that aren't in a data set: batches, masks at the image's size, warnings."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from brainseg.classes import Labels
from brainseg.config import DataConfig
from brainseg.data.batches import EVALUATION_BATCH, scaled_images
from brainseg.data.cache import resize_image
from brainseg.data.training_statistics import CONSTANT, TrainingStatistics, measure_slice
from brainseg.inference.postprocess import MaskSettings
from brainseg.inference.prediction import Predictor
from brainseg.inference.resize import resize_probability

# A single slice may get other last digits than a slice in a batch: other kernels.
MIN_BATCH = 2
MAX_BATCH = EVALUATION_BATCH


def batch_size(files: int) -> int:
    """The number of slices that the model takes at once, so that the last batch is nearly full."""
    batches = max(1, math.ceil(files / MAX_BATCH))
    return max(MIN_BATCH, math.ceil(files / batches))


def as_seen(image: NDArray[np.uint8], predictor: Predictor, data: DataConfig) -> NDArray[np.uint8]:
    """What the model sees of an image, (height, width, channels): all of it, in windows, or the image resized."""
    return image if predictor.windows is not None else resize_image(image, data.size)


def views_of(
    predictor: Predictor, seen: Sequence[NDArray[np.uint8]], *, batch: int, settings: MaskSettings
) -> Sequence[NDArray[np.float32]]:
    """Predicts at most `batch` images, `as_seen`; each gives (shifts, flips, height, width, outputs).

    The batch is padded, since another shape would build another graph. From windows, the mean over shifts and flips
    alone comes, with one of each.
    """
    if not seen:
        return ()
    if predictor.windows is not None:
        return [predictor.windowed(image, flip=settings.flip, shift=settings.shift, average=True) for image in seen]
    filled = np.pad(np.stack(seen), [(0, batch - len(seen)), (0, 0), (0, 0), (0, 0)])
    return list(predictor.views(scaled_images(filled), flip=settings.flip, shift=settings.shift)[: len(seen)])


def masks_of(
    views: NDArray[np.float32], shape: tuple[int, int], settings: MaskSettings, labels: Labels
) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """Masks (height, width, classes) and probabilities (height, width, outputs) of an image at its own size, `shape`.

    views: as `views_of` gives them.
    """
    averaged = views[0, 0] if views.shape[:2] == (1, 1) else views.mean(axis=(0, 1))  # a large one isn't copied
    probability = resize_probability(averaged, shape)
    return settings.masks(probability, labels), probability


@dataclass(frozen=True, kw_only=True)
class TumorFinding:
    """What was found on one image, at its own size."""

    width: int
    height: int
    area_px: int
    confidence: float | None  # mean probability of the mask's pixels; None for an empty mask
    max_probability: float
    warnings: tuple[str, ...]  # how the image differs from the training slices


def finding_of(mask: NDArray[np.bool_], probability: NDArray[np.float32], *, warnings: Sequence[str]) -> TumorFinding:
    """mask, probability: as `mask_of` gives them. warnings: as `unlike_training` gives them."""
    height, width = mask.shape
    return TumorFinding(
        width=width,
        height=height,
        area_px=int(mask.sum()),
        confidence=float(probability[mask].mean()) if mask.any() else None,
        max_probability=float(probability.max()),
        warnings=tuple(warnings),
    )


def findings_of(
    masks: NDArray[np.bool_], probability: NDArray[np.float32], labels: Labels, *, warnings: Sequence[str]
) -> dict[str, TumorFinding]:
    """Class -> `finding_of` it, in the order of the classes. masks, probability: as `masks_of` gives them."""
    return {
        name: finding_of(masks[..., place], probability[..., labels.first_class + place], warnings=warnings)
        for place, name in enumerate(labels.names)
    }


def unlike_training(
    image: NDArray[np.uint8], seen: NDArray[np.uint8], predictor: Predictor, statistics: TrainingStatistics | None
) -> tuple[str, ...]:
    """How an image differs from the training slices, a phrase each. seen: the image `as_seen` by the predictor.

    To a model that sees windows, images of all sizes are alike.
    """
    if image.min() == image.max():
        return (CONSTANT,)
    if statistics is None:
        return ()
    found = measure_slice(seen, stored=(image.shape[0], image.shape[1]))
    return tuple(statistics.differences(found, with_size=predictor.windows is None))
