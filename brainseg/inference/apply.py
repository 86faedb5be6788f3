"""From the slices of a batch to masks at each image's own size, with how sure and how familiar they are."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from brainseg.data.batches import EVALUATION_BATCH, scaled_images
from brainseg.data.training_statistics import CONSTANT, TrainingStatistics, measure_slice
from brainseg.inference.postprocess import MaskSettings
from brainseg.inference.prediction import Predictor
from brainseg.inference.resize import resize_probability

# A single slice may get other last digits than a slice in a batch: other kernels.
MIN_BATCH = 2
MAX_BATCH = EVALUATION_BATCH


def batch_size(files: int) -> int:
    """How many slices the model takes at once: as few places as possible stay empty in the last batch."""
    batches = max(1, math.ceil(files / MAX_BATCH))
    return max(MIN_BATCH, math.ceil(files / batches))


def views_of(
    predictor: Predictor, resized: Sequence[NDArray[np.uint8]], *, batch: int, settings: MaskSettings
) -> Sequence[NDArray[np.float32]]:
    """(shifts, flips, size, size) of each of at most `batch` images.

    The batch is filled up, since another shape would build another graph.
    """
    if not resized:
        return ()
    images = np.stack(resized)[..., np.newaxis]
    filled = np.pad(images, [(0, batch - len(resized)), (0, 0), (0, 0), (0, 0)])
    return list(predictor.views(scaled_images(filled), flip=settings.flip, shift=settings.shift)[: len(resized)])


def mask_of(
    views: NDArray[np.float32], shape: tuple[int, int], settings: MaskSettings
) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """Mask and probabilities of an image at its own size, `shape`. views: (shifts, flips, size, size)."""
    probability = resize_probability(views.mean(axis=(0, 1)), shape)
    return settings.mask(probability), probability


def confidence_of(mask: NDArray[np.bool_], probability: NDArray[np.float32]) -> float | None:
    """Mean probability of the mask's pixels; None for an empty mask."""
    return float(probability[mask].mean()) if mask.any() else None


def unlike_training(
    image: NDArray[np.uint8], resized: NDArray[np.uint8], statistics: TrainingStatistics | None
) -> tuple[str, ...]:
    """In which ways an image is unlike the training slices, a phrase each. resized: the same at the model's size."""
    if image.min() == image.max():
        return (CONSTANT,)
    if statistics is None:
        return ()
    return tuple(statistics.differences(measure_slice(resized, stored=(image.shape[0], image.shape[1]))))
