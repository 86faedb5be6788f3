"""A volume, cut into slices along one of its axes, and the values of a mask volume."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from brainseg.config import DataConfig
from brainseg.data.decode import MaskFile, check_finite, grey_range, scale_to_uint8
from brainseg.data.volumes.nifti_file import Grid, read_grid, read_values
from brainseg.errors import DataError

Key = TypeVar("Key")
Value = TypeVar("Value")


@dataclass(frozen=True, kw_only=True)
class Volume:
    """An image of one file, or of one for each named channel."""

    id: str
    paths: tuple[Path, ...]
    grid: Grid
    axis: int  # along which it is cut

    @property
    def slice_ids(self) -> tuple[str, ...]:
        """`ID_slice007` for index 7 along the axis; in their order, which is that of the alphabet."""
        count = self.grid.shape[self.axis]
        digits = max(3, len(str(count - 1)))
        return tuple(f"{self.id}_slice{number:0{digits}}" for number in range(count))

    @property
    def spacing_mm(self) -> tuple[float, ...]:
        """Between slices, then between the rows and the columns of a slice."""
        sides = list(self.grid.spacing_mm)
        return (sides.pop(self.axis), *sides)

    def read(self, data: DataConfig) -> NDArray[np.uint8]:
        """(slices, height, width, channels), in [0, 255]. Raises DataError.

        uint8 keeps its values; others are scaled as `grey_range` of the whole volume says. Of several channels each by
        itself.
        """
        channels: list[NDArray[np.uint8]] = []
        for path in self.paths:
            values = np.moveaxis(read_values(path), self.axis, 0)
            channels += [_levels(path, values[..., place], data) for place in range(values.shape[-1])]
        return np.stack(channels * 3 if data.channels == "rgb" else channels, axis=-1)

    def cut(self, volume: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """An array (x, y, z, ...) as slices, (slices, height, width, ...)."""
        return np.ascontiguousarray(np.moveaxis(volume, self.axis, 0))


def open_volume(volume_id: str, paths: Sequence[Path], data: DataConfig) -> Volume:
    """Reads the headers. data: its axis, and how many channels there have to be.

    Raises DataError for other channels, for channels of different shapes, and as `read_grid`.
    """
    grids = [read_grid(path) for path in paths]
    wanted = 1 if data.channels_are_alike or len(paths) > 1 else data.channel_count
    for path, grid in zip(paths, grids, strict=True):
        if grid.channels != wanted:
            raise DataError(
                f"{path} must have {wanted} channel(s) along a fourth axis, got {grid.channels}; "
                "name them all by data.channels=[NAME,...]"
            )
        if grid.shape != grids[0].shape:
            raise DataError(
                f"{path} must have the size of {paths[0]}, {shape_text(grids[0])}, got {shape_text(grid)}; "
                "resample all channels to one grid"
            )
    axis = grids[0].coarsest_axis if data.axis is None else data.axis
    return Volume(id=volume_id, paths=tuple(paths), grid=grids[0], axis=axis)


def shape_text(grid: Grid) -> str:
    """`256x256x30`."""
    return "x".join(map(str, grid.shape))


def read_mask_volume(path: Path) -> MaskFile:
    """The values of a mask volume (x, y, z) as those of one picture, (x * y, z). Raises DataError.

    Whole numbers below 256 are uint8, whatever type they are stored in.
    """
    values = read_values(path)[..., 0]
    if values.dtype != np.uint8:
        check_finite(path, values)
        if values.min() >= 0 and values.max() <= 255 and (values == np.floor(values)).all():
            values = values.astype(np.uint8)
    return MaskFile(values=values.reshape(-1, values.shape[-1]), colours=None, is_jpeg=False)


class Recent(Generic[Key, Value]):
    """A function of which the last two values are kept; safe to call from several threads.

    Slices are read in the order of volumes by several threads: near the end of a volume the next one is needed, too. A
    volume that can't be read is tried once.
    """

    def __init__(self, compute: Callable[[Key], Value]) -> None:
        self._compute = compute
        self._kept: dict[Key, Value | DataError] = {}
        self._lock = threading.Lock()

    def __call__(self, key: Key) -> Value:
        """Raises DataError as the function does."""
        with self._lock:
            if key not in self._kept:
                while len(self._kept) > 1:
                    del self._kept[next(iter(self._kept))]
                try:
                    self._kept[key] = self._compute(key)
                except DataError as error:
                    self._kept[key] = error
            found = self._kept[key]
        if isinstance(found, DataError):
            raise DataError(str(found))
        return found


def _levels(path: Path, values: NDArray[Any], data: DataConfig) -> NDArray[np.uint8]:
    """values: (slices, height, width)."""
    if values.dtype == np.uint8:
        return values
    check_finite(path, values)
    ends = grey_range(values, data)
    levels = np.empty(values.shape, np.uint8)
    for number, each in enumerate(values):  # the whole of it in 64 bits would be large
        levels[number] = scale_to_uint8(each, ends)
    return levels
