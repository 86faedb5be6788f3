"""Batches for training and evaluation, from cached slices.

Which slices a training step sees, and how they are augmented, follows from (seed, epoch, step) alone,
so that a resumed run sees what it would have seen.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainseg.data.cache import SliceSet

# `val_dice` is soft Dice over flattened batches of this size, whatever data.batch_size is.
EVALUATION_BATCH = 16


def steps_per_epoch(slices: int, *, batch_size: int) -> int:
    """Training steps in an epoch; the last one may be smaller than a batch."""
    return math.ceil(slices / batch_size)


def epoch_order(slices: int, *, seed: int, epoch: int) -> NDArray[np.intp]:
    """The order of the training slices in one epoch, shape (slices,)."""
    return np.random.default_rng([seed, epoch]).permutation(slices)


def training_batches(
    data: SliceSet, ids: Sequence[str], *, batch_size: int, augment: str, seed: int, epoch: int, step: int
) -> Iterator[tuple[Any, Any]]:
    """Endless training batches from this epoch (from 1) and step (from 0) on, epoch after epoch.

    Each is a pair of float32 tensors of shape (batch, size, size, 1): images in [0, 1], masks in {0, 1}.
    One pipeline serves all epochs, so that the next epoch's first batches are ready when it starts.
    """
    import tensorflow as tf

    from brainseg.data.augment import augment as augmented

    positions = data.positions(sorted(ids))
    steps = steps_per_epoch(len(positions), batch_size=batch_size)

    def generate() -> Iterator[tuple[Any, Any, int, int]]:
        current, first = epoch, step
        while True:
            order = positions[epoch_order(len(positions), seed=seed, epoch=current)]
            for index in range(first, steps):
                # Sorted within the batch: reads the memory map in its order.
                chosen = np.sort(order[index * batch_size : (index + 1) * batch_size])
                yield data.images[chosen], data.masks[chosen], current, index
            current, first = current + 1, 0

    def prepare(images: Any, masks: Any, epoch: Any, step: Any) -> tuple[Any, Any]:
        return augmented(*_scaled(images, masks), seed=seed, epoch=epoch, step=step, mode=augment)

    shape = (None, *data.images.shape[1:])
    dataset = tf.data.Dataset.from_generator(
        generate,
        output_signature=(
            tf.TensorSpec(shape, tf.uint8),
            tf.TensorSpec((None, *data.masks.shape[1:]), tf.uint8),
            tf.TensorSpec((), tf.int64),
            tf.TensorSpec((), tf.int64),
        ),
    )
    return iter(dataset.map(prepare, num_parallel_calls=2, deterministic=True).prefetch(2))


def evaluation_batches(data: SliceSet, ids: Sequence[str]) -> Iterator[tuple[Any, Any]]:
    """Batches of `EVALUATION_BATCH` slices in the order of sorted ids, as in `training_batches`, unaugmented."""
    positions = data.positions(sorted(ids))
    for first in range(0, len(positions), EVALUATION_BATCH):
        chosen = positions[first : first + EVALUATION_BATCH]
        yield _scaled(data.images[chosen], data.masks[chosen])


def _scaled(images: Any, masks: Any) -> tuple[Any, Any]:
    import tensorflow as tf

    return tf.cast(images, tf.float32) / 255.0, tf.cast(masks, tf.float32)
