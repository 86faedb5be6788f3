"""Crops of slices at their stored size. Where each lies follows from (seed, epoch, number of the crop) alone."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainseg.classes import IGNORED
from brainseg.data.cache import SliceSet
from brainseg.data.masks import foreground_pixels
from brainseg.data.standardize import statistics


def cut(
    picture: NDArray[np.uint8], corner: tuple[int, int], size: tuple[int, int], *, fill: int = 0
) -> NDArray[np.uint8]:
    """The crop (*size, channels) of a picture from this corner (top, left) on, filled where the picture has ended."""
    (top, left), (height, width) = corner, size
    inside = picture[top : top + height, left : left + width]
    if inside.shape[:2] == size:
        return inside
    crop = np.full((height, width, picture.shape[-1]), fill, np.uint8)
    crop[: inside.shape[0], : inside.shape[1]] = inside
    return crop


class Patches:
    """What an epoch of patches consists of: `count` crops of each slice, in an order of its own."""

    def __init__(
        self,
        data: SliceSet,
        positions: NDArray[np.intp],
        *,
        size: tuple[int, int],
        count: int,
        foreground_share: float | None,
        standardize: bool,
        seed: int,
    ) -> None:
        """positions: of the slices in `data`. foreground_share: of the crops that lie near a foreground pixel, where
        their slice has one; None: 0. standardize: whether `read` gives the statistics of the whole slices.
        """
        self._data = data
        self._positions = positions
        self._size = size
        self._count = count
        self._share = foreground_share or 0.0
        self._standardize = standardize
        self._seed = seed
        self._statistics: dict[int, tuple[NDArray[np.float32], NDArray[np.float32]]] = {}

    def __len__(self) -> int:
        return self._count * len(self._positions)

    def order(self, *, epoch: int) -> NDArray[np.intp]:
        """The crops of an epoch in their order, (crops, 2): the number of each, and 1 for one near the foreground.

        Those are spread evenly, so that each batch has its share.
        """
        numbers = np.random.default_rng([self._seed, epoch]).permutation(len(self))
        reached = np.floor(np.arange(len(self) + 1) * self._share + 1e-9)
        return np.stack([numbers, np.diff(reached)], axis=-1).astype(np.intp)

    def read(self, chosen: NDArray[np.intp], *, epoch: int) -> Sequence[NDArray[Any]]:
        """Images and masks of these rows of `order`; mean and deviation of their slices too, (batch, 1, 1, channels).

        Where a slice is smaller than a crop, it is filled with 0, and its mask with the background, or with ignored
        pixels if the set has such.
        """
        images, masks, scales = [], [], []
        outside = IGNORED if self._data.labels.has_ignored else 0
        for number, is_near in chosen.tolist():
            position = int(self._positions[number % len(self._positions)])
            image, mask = self._data.images[position], self._data.masks[position]
            corner = self._corner(mask, epoch=epoch, number=number, is_near=bool(is_near))
            images.append(cut(image, corner, self._size))
            masks.append(cut(mask, corner, self._size, fill=outside))
            if self._standardize:
                if position not in self._statistics:
                    self._statistics[position] = statistics(image)
                scales.append(self._statistics[position])
        rest = [np.stack(each)[:, np.newaxis, np.newaxis] for each in zip(*scales, strict=True)]
        return [np.stack(images), np.stack(masks), *rest]

    def _corner(self, mask: NDArray[np.uint8], *, epoch: int, number: int, is_near: bool) -> tuple[int, int]:
        """Top and left of a crop. One near the foreground has a drawn pixel of it in its middle half, if it can."""
        # From 1: NumPy's generators of (seed, epoch) and (seed, epoch, 0) are the same.
        random = np.random.default_rng([self._seed, epoch, number + 1])
        room = [max(0, length - side) for length, side in zip(mask.shape, self._size, strict=False)]
        pixels = np.flatnonzero(foreground_pixels(mask).any(axis=-1)) if is_near else ()
        if not len(pixels):
            top, left = (int(random.integers(0, most, endpoint=True)) for most in room)
            return top, left
        pixel = divmod(int(random.choice(pixels)), mask.shape[1])
        before = [int(random.integers(side // 4, side - side // 4)) for side in self._size]
        top, left = (min(max(0, at - by), most) for at, by, most in zip(pixel, before, room, strict=True))
        return top, left
