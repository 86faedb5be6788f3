"""Predicts slices a batch at a time, with test-time augmentation; gives probabilities at the stored size."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainseg.data.batches import evaluation_batches
from brainseg.data.cache import SliceSet
from brainseg.data.masks import class_masks, ignored_pixels
from brainseg.errors import InputError
from brainseg.inference.postprocess import FLIPPED_AXES, SHIFTED_PX
from brainseg.inference.resize import resize_probability
from brainseg.inference.windows import in_windows, windows_of


@dataclass(frozen=True, kw_only=True, eq=False)
class Prediction:
    """A slice's predicted probabilities, with its stored mask."""

    id: str
    masks: NDArray[np.bool_]  # (height, width, classes), as stored
    ignored: NDArray[np.bool_] | None  # (height, width): left out of scores
    # (shifts, flips, height, width, outputs), in [0, 1]: at the model's size, or at the stored one from windows.
    views: NDArray[np.float32]

    def probability(self, *, flip: str = "none", shift: str = "none") -> NDArray[np.float32]:
        """(height, width, outputs), in [0, 1]: the mean over flips and shifts, of `FLIPS` and `SHIFTS`, then resized.

        Raises ValueError for flips or shifts that were not predicted.
        """
        shifts, flips = len(SHIFTED_PX[shift]), len(FLIPPED_AXES[flip])
        if self.views.shape[0] < shifts or self.views.shape[1] < flips:
            raise ValueError(f"slice {self.id} was predicted otherwise; predict it with {flip=} and {shift=}")
        averaged = self.views[:shifts, :flips].mean(axis=(0, 1))
        return resize_probability(averaged, (self.masks.shape[0], self.masks.shape[1]))

    def counted(
        self, probability: NDArray[np.float32], mask: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """The values of both arrays (height, width) where no pixel is ignored."""
        return (probability, mask) if self.ignored is None else (probability[~self.ignored], mask[~self.ignored])

    def without_ignored(self, predicted: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Predicted masks (height, width, classes) without the pixels that are left out of scores."""
        return predicted if self.ignored is None else predicted & ~self.ignored[..., np.newaxis]


class _Ensemble:
    """Called like a model, it gives the mean of the probabilities of several."""

    def __init__(self, models: Sequence[Any]) -> None:
        self._models = models
        self.name, self.input_shape = models[0].name, models[0].input_shape  # for `windows_of`

    def __call__(self, images: Any, *, training: bool) -> Any:
        return sum(model(images, training=training) for model in self._models) / len(self._models)


def ensemble(models: Sequence[Any]) -> Any:
    """One model as it is; several as one that gives the mean of their probabilities.

    All must take images of one size. Raises InputError if some see windows and others whole images, or some
    standardised ones.
    """
    if len(models) == 1:
        return models[0]
    if len({windows_of(model) for model in models}) > 1:
        raise InputError(
            "only models that see images alike can be averaged, and of these some differ in data.patches or "
            "model.standardize; leave some out"
        )
    return _Ensemble(models)


class Predictor:
    """Predicts slices with a Keras model or an `ensemble`. The first batch builds its graph.

    A model that was trained on patches sees the whole of an image in `windows`; another one sees it resized.
    """

    def __init__(self, model: Any) -> None:
        import tensorflow as tf

        self._predict = tf.function(
            lambda images: model(images, training=False), reduce_retracing=True, autograph=False
        )
        self.windows = windows_of(model)
        self._seconds: list[float] = []

    def predict(
        self,
        slices: SliceSet,
        ids: Sequence[str],
        *,
        flip: str = "none",
        shift: str = "none",
        on_batch: Callable[[], None] = lambda: None,
    ) -> Iterator[Prediction]:
        """Predicts slices in the order of sorted ids. flip: one of `FLIPS`; shift: one of `SHIFTS`.

        `on_batch` is called before each batch, and may raise to stop.
        """
        ordered = iter(sorted(ids))
        whole = ((slices.images[position],) for position in slices.positions(sorted(ids)))
        for images, *_ in evaluation_batches(slices, ids) if self.windows is None else whole:
            on_batch()
            begun = time.perf_counter()
            if self.windows is None:
                views = self.views(images, flip=flip, shift=shift)
            else:
                views = self.windowed(images, flip=flip, shift=shift)[np.newaxis]
            self._seconds.append((time.perf_counter() - begun) / len(views))
            # The ids last: zip takes from its first argument before it sees that the second has ended.
            for of_slice, slice_id in zip(views, ordered, strict=False):
                mask = slices.source.read(slice_id)[1]
                yield Prediction(
                    id=slice_id,
                    masks=class_masks(mask, slices.labels),
                    ignored=ignored_pixels(mask, slices.labels),
                    views=of_slice,
                )

    def views(self, images: Any, *, flip: str, shift: str) -> NDArray[np.float32]:
        """(batch, shifts, flips, size, size, outputs) in [0, 1]: of SHIFTED_PX[shift] and FLIPPED_AXES[flip], undone.

        images: a float32 tensor in [0, 1], (batch, size, size, channels). Pixels that a shift
        moves out on one side come in on the other, so that every view covers every pixel.
        """
        return np.stack(
            [
                np.stack([self._view(images, moved, axes) for axes in FLIPPED_AXES[flip]], axis=1)
                for moved in SHIFTED_PX[shift]
            ],
            axis=1,
        )

    def windowed(
        self, image: NDArray[np.uint8], *, flip: str, shift: str, average: bool = False
    ) -> NDArray[np.float32]:
        """(shifts, flips, height, width, outputs) of an image at its own size, (height, width, channels).

        Each window is flipped and shifted. average: over both, which gives one of each.
        """
        assert self.windows is not None

        def predict(images: Any) -> NDArray[np.float32]:
            views = self.views(images, flip=flip, shift=shift)
            return views.mean(axis=(1, 2), keepdims=True) if average else views

        return in_windows(image, self.windows, predict)

    @property
    def seconds_per_image(self) -> float:
        """The model's forward passes alone: median over batches, the first one aside, which builds the graph."""
        return float(np.median(self._seconds[1:] or self._seconds))

    def _view(self, images: Any, moved: tuple[int, int], axes: tuple[int, ...]) -> NDArray[np.float32]:
        """Probabilities (batch, size, size, outputs) of images moved (down, right) and then flipped, both undone."""
        import tensorflow as tf

        down, right = moved
        shown = tf.roll(images, (down, right), axis=(1, 2))
        predicted = self._predict(tf.reverse(shown, axes) if axes else shown).numpy()
        undone = np.roll(np.flip(predicted, axes), (-down, -right), axis=(1, 2))
        return np.asarray(undone, dtype=np.float32)
