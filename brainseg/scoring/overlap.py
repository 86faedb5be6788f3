"""Overlap of hard masks: Dice and IoU, of one image or of many."""

import numpy as np
from numpy.typing import NDArray


def hard_dice(mask: NDArray[np.bool_], predicted: NDArray[np.bool_]) -> float:
    """Dice of two masks of one shape, in [0, 1]; two empty masks score 1, one empty mask scores 0.

    Raises ValueError if the shapes differ or the arrays aren't boolean.
    """
    return float(dice_per_image(mask[np.newaxis], predicted[np.newaxis])[0])


def iou(mask: NDArray[np.bool_], predicted: NDArray[np.bool_]) -> float:
    """Intersection over union of two masks, in [0, 1]; empty masks and errors as for `hard_dice`."""
    dice = hard_dice(mask, predicted)
    return dice / (2.0 - dice)


def dice_per_image(masks: NDArray[np.bool_], predictions: NDArray[np.bool_]) -> NDArray[np.float64]:
    """`hard_dice` of each image, shape (images,). masks, predictions: (images, ...), of one shape.

    Raises ValueError if the shapes differ or the arrays aren't boolean.
    """
    if masks.dtype != np.bool_ or predictions.dtype != np.bool_:
        raise ValueError(
            f"masks and predictions must be boolean, got {masks.dtype} and {predictions.dtype}; compare with 0.5 first"
        )
    if masks.shape != predictions.shape:
        raise ValueError(
            f"masks and predictions must have one shape, got {masks.shape} and {predictions.shape}; "
            "resize the probabilities first"
        )
    axes = tuple(range(1, masks.ndim))
    shared = np.count_nonzero(masks & predictions, axis=axes)
    total = np.count_nonzero(masks, axis=axes) + np.count_nonzero(predictions, axis=axes)
    return np.where(total == 0, 1.0, 2.0 * shared / np.maximum(total, 1))
