"""Batches for training and evaluation, from cached slices.

Which slices a training step sees, and how they are augmented, follows from (seed, epoch, step) alone,
so that a resumed run sees what it would have seen.
"""

import contextlib
import functools
import math
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from brainseg.classes import IGNORED, Labels
from brainseg.data.augment import NO_OPTIONS
from brainseg.data.augment import augment as augmented
from brainseg.data.cache import SliceSet
from brainseg.data.masks import foreground_pixels
from brainseg.data.patches import Patches
from brainseg.data.standardize import standardized

# `val_dice` is soft Dice over flattened batches of this size, whatever data.batch_size is.
EVALUATION_BATCH = 16
# How many training batches wait for the step to come.
PREFETCHED = 2


def steps_per_epoch(samples: int, *, batch_size: int) -> int:
    """Training steps in an epoch of so many slices or patches; the last one may be smaller than a batch."""
    return math.ceil(samples / batch_size)


def epoch_order(slices: int, *, seed: int, epoch: int) -> NDArray[np.intp]:
    """The order of the training slices in one epoch, shape (slices,)."""
    return np.random.default_rng([seed, epoch]).permutation(slices)


def foreground_order(has_foreground: NDArray[np.bool_], *, share: float, seed: int, epoch: int) -> NDArray[np.intp]:
    """Which training slices an epoch has, in their order: as many as there are, shape (slices,).

    has_foreground: of each slice, shape (slices,). round(share * slices) are drawn from those that have foreground, the
    rest from the others: each of a kind is drawn as often as any other, or once more. Where one kind doesn't exist, all
    are drawn from the other.
    """
    slices = len(has_foreground)
    kinds = np.flatnonzero(has_foreground), np.flatnonzero(~has_foreground)
    wanted = round(share * slices) if all(map(len, kinds)) else len(kinds[0])
    random = np.random.default_rng([seed, epoch])
    passes = [
        np.concatenate([random.permutation(kind) for _ in range(math.ceil(count / len(kind)))])[:count]
        for kind, count in zip(kinds, (wanted, slices - wanted), strict=True)
        if count
    ]
    return random.permutation(np.concatenate(passes))


def slices_with_foreground(data: SliceSet, positions: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Whether the mask at each position has a pixel of a class, shape (positions,)."""
    masks = (data.masks[position] for position in positions)
    return np.array([foreground_pixels(mask).any() for mask in masks])


class _Slices:
    """What an epoch of whole slices consists of; see `Patches`."""

    def __init__(
        self, data: SliceSet, positions: NDArray[np.intp], *, foreground_share: float | None, seed: int
    ) -> None:
        self._data = data
        self._positions = positions
        self._order: Callable[..., NDArray[np.intp]] = functools.partial(epoch_order, len(positions), seed=seed)
        if foreground_share is not None:
            foreground = slices_with_foreground(data, positions)
            self._order = functools.partial(foreground_order, foreground, share=foreground_share, seed=seed)

    def __len__(self) -> int:
        return len(self._positions)

    def order(self, *, epoch: int) -> NDArray[np.intp]:
        """Positions of the slices."""
        return self._positions[self._order(epoch=epoch)]

    def read(self, chosen: NDArray[np.intp], *, epoch: int) -> Sequence[NDArray[Any]]:
        """Images and masks of these slices."""
        chosen = np.sort(chosen)  # reads the memory map in its order
        return [_stacked(pictures, chosen) for pictures in (self._data.images, self._data.masks)]


class TrainingBatches:
    """Endless training batches from one epoch (from 1) and step (from 0) on, epoch after epoch.

    Each is a pair of float32 tensors: images of shape (batch, height, width, channels) in [0, 1], or above where
    augmentation made them brighter, and `targets` of shape (batch, height, width, outputs).
    foreground_share: see `foreground_order`; None: each slice once an epoch. device: where TensorFlow scales and
    augments them and keeps them, by its name.
    patches: crops of `size` of each slice an epoch, as `Patches` draws them; 0: whole slices. standardize: patches
    come with the mean and variance of their whole slice at 0 and 1, as it is before it is augmented.
    A thread prepares the next ones meanwhile, those of the next epoch included; `close`, or leaving a
    `with` block, ends it. A thread of our own, since tf.data with a Python generator can hang the
    process at its exit.
    """

    def __init__(
        self,
        data: SliceSet,
        ids: Sequence[str],
        *,
        batch_size: int,
        augment: str,
        augment_options: Mapping[str, Any] = NO_OPTIONS,
        foreground_share: float | None,
        seed: int,
        epoch: int,
        step: int,
        device: str,
        patches: int = 0,
        size: tuple[int, int] | None = None,
        standardize: bool = False,
    ) -> None:
        positions = data.positions(sorted(ids))
        self._batch_size = batch_size
        self._samples: _Slices | Patches
        if patches:
            assert size is not None
            self._samples = Patches(
                data,
                positions,
                size=size,
                count=patches,
                foreground_share=foreground_share,
                standardize=standardize,
                seed=seed,
            )
        else:
            self._samples = _Slices(data, positions, foreground_share=foreground_share, seed=seed)
        self._prepare = _preparation(
            data, size, standardize=standardize, augment=augment, options=augment_options, seed=seed, device=device
        )
        self._ready: queue.Queue[tuple[Any, Any] | BaseException] = queue.Queue(maxsize=PREFETCHED)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._fill, args=(epoch, step), name="brainseg-batches", daemon=True)
        self._thread.start()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> tuple[Any, Any]:
        if self._closed.is_set():
            raise StopIteration
        item = self._ready.get()
        if isinstance(item, BaseException):
            self.close()
            raise item
        return item

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the thread, and waits for it."""
        self._closed.set()
        while self._thread.is_alive():
            with contextlib.suppress(queue.Empty):
                self._ready.get_nowait()  # it may be waiting for room
            self._thread.join(0.01)

    def _fill(self, epoch: int, step: int) -> None:
        try:
            for arrays, at_epoch, at_step in self._chosen(epoch, step):
                batch = self._prepare(at_epoch, at_step, *arrays)
                if self._closed.is_set():
                    return
                self._ready.put(batch)
        except BaseException as error:
            self._ready.put(error)

    def _chosen(self, epoch: int, step: int) -> Iterator[tuple[Sequence[NDArray[Any]], int, int]]:
        """The slices or patches of each step as they are stored, with the step's epoch and number."""
        steps = steps_per_epoch(len(self._samples), batch_size=self._batch_size)
        while True:
            order = self._samples.order(epoch=epoch)
            for index in range(step, steps):
                chosen = order[index * self._batch_size : (index + 1) * self._batch_size]
                yield self._samples.read(chosen, epoch=epoch), epoch, index
            epoch, step = epoch + 1, 0


def _stacked(pictures: Any, positions: NDArray[np.intp]) -> NDArray[np.uint8]:
    return np.stack([pictures[position] for position in positions])


def _preparation(
    data: SliceSet,
    size: tuple[int, int] | None,
    *,
    standardize: bool,
    augment: str,
    options: Mapping[str, Any],
    seed: int,
    device: str,
) -> Callable[..., tuple[Any, Any]]:
    """Scaling and augmentation as one compiled function of (epoch, step, images, masks).

    size: height and width of patches; None: those of the slices. standardize: the function takes the mean and the
    deviation of the whole slices, too, behind the masks.
    Slices travel to the device as they are stored, in a quarter of the bytes of float32.
    """
    import tensorflow as tf

    def prepare(epoch: Any, step: Any, images: Any, masks: Any, *scale: Any) -> tuple[Any, Any]:
        images, masks = augmented(
            scaled_images(images),
            tf.cast(masks, tf.float32),
            seed=seed,
            epoch=epoch,
            step=step,
            mode=augment,
            options=options,
            alike=data.channels_are_alike,
        )
        return standardized(images, *scale) if scale else images, targets(masks, data.labels)

    height, width, channels = data.images[0].shape
    height, width = size or (height, width)
    signature = (
        tf.TensorSpec((), tf.int32),
        tf.TensorSpec((), tf.int32),
        tf.TensorSpec((None, height, width, channels), tf.uint8),
        tf.TensorSpec((None, height, width, data.labels.mask_channels), tf.uint8),
        *([tf.TensorSpec((None, 1, 1, channels), tf.float32)] * 2 if standardize else ()),
    )
    compiled = tf.function(prepare, input_signature=signature, autograph=False)

    def prepared(*step: Any) -> tuple[Any, Any]:
        with tf.device(device):
            batch: tuple[Any, Any] = compiled(*step)
        return batch

    # Traced before there is a thread: two threads must not trace one function at once.
    with tf.device(device):
        compiled.get_concrete_function()
    return prepared


def evaluation_batches(data: SliceSet, ids: Sequence[str]) -> Iterator[tuple[Any, Any]]:
    """Batches of `EVALUATION_BATCH` slices in the order of sorted ids, as in `TrainingBatches`, unaugmented."""
    positions = data.positions(sorted(ids))
    for first in range(0, len(positions), EVALUATION_BATCH):
        chosen = positions[first : first + EVALUATION_BATCH]
        yield scaled_images(_stacked(data.images, chosen)), targets(_stacked(data.masks, chosen), data.labels)


def scaled_images(images: Any) -> Any:
    """uint8 images as a model takes them: a float32 tensor in [0, 1] of the same shape."""
    import tensorflow as tf

    return tf.cast(images, tf.float32) / 255.0


def targets(masks: Any, labels: Labels) -> Any:
    """What a network is to give: float32 {0, 1}, (batch, size, size, outputs); -1 where a pixel is ignored.

    masks: as `labels` says, of any type, (batch, size, size, mask channels).
    """
    import tensorflow as tf

    masks = tf.cast(masks, tf.float32)
    found = masks
    if labels.exclusive:
        # Without a background, what an augmentation brings in from outside has no class at all.
        lowest = 0 if labels.has_background else 1
        found = tf.one_hot(tf.cast(masks[..., 0], tf.int32) - lowest, labels.outputs)
    return tf.where(masks == IGNORED, -1.0, found) if labels.has_ignored else found
