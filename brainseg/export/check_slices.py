"""Chooses the slices to check an exported file on: the run's own if they are at hand, else the phantom's."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from brainseg.config import DataConfig
from brainseg.data.cache import resize_image
from brainseg.data.load import source_of_folder
from brainseg.data.patches import cut
from brainseg.data.phantom.source import PhantomSource
from brainseg.data.source import Source
from brainseg.errors import InputError
from brainseg.evaluate.evaluation import EvaluationSplit, split_of
from brainseg.inference.windows import Windows
from brainseg.runs.stored_run import StoredRun

SPLIT_NAMES = {"val": "validation", "test": "test"}


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class CheckSlices:
    """Slices as the model sees them; of each the window in its middle, if it sees windows."""

    text: str  # which, for people
    note: str | None  # why they are the phantom's
    ids: tuple[str, ...]
    images: NDArray[np.float32]  # (slices, height, width, channels), as the model takes them
    shapes: tuple[tuple[int, int], ...]  # height and width as stored; of windows, their own


def choose_slices(
    run: StoredRun | None, reading: DataConfig, *, windows: Windows | None = None, data: Path | None, count: int
) -> CheckSlices:
    """At most `count` slices, evenly over the sorted ids.

    reading, windows: how the model takes images. The slices are the run's validation slices, or those in `data` if that
    is another data set; without a run, those in `data`; else the phantom's. Raises DataError if `data` can't be used.
    """
    if run is None:
        if data is not None:
            return _of_source(source_of_folder(data, reading), reading, windows, count=count)
        return _phantom(reading, windows, count, why="of a file alone no slices are known; name some with --data DIR")
    try:
        return _of_split(run, split_of(run, split=None, data=data), windows, count)
    except InputError as error:
        if data is not None:
            raise
        return _phantom(reading, windows, count, why=str(error))


def _phantom(reading: DataConfig, windows: Windows | None, count: int, *, why: str) -> CheckSlices:
    return dataclasses.replace(_of_source(PhantomSource(patients=8, seed=0), reading, windows, count=count), note=why)


def _of_split(run: StoredRun, split: EvaluationSplit, windows: Windows | None, count: int) -> CheckSlices:
    ids = _spread(split.ids, count)
    positions = split.slices.positions(ids)
    own = split.name in SPLIT_NAMES
    which = f"{SPLIT_NAMES[split.name]} slices of run {run.id}" if own else f"slices of {split.slices.source.name}"
    return CheckSlices(
        text=f"{len(ids)} of {len(split.ids)} {which}",
        note=None,
        ids=ids,
        images=np.stack([_as_taken(split.slices.images[position], windows) for position in positions]),
        shapes=tuple(_shape(size, windows) for size in split.slices.sizes[positions].tolist()),
    )


def _of_source(source: Source, reading: DataConfig, windows: Windows | None, *, count: int) -> CheckSlices:
    """Reads these slices alone, without decoding the others."""
    known = sorted(item.id for item in source.slices())
    ids = _spread(known, count)
    images = [_with_channels(source.read(slice_id)[0], reading.channel_count) for slice_id in ids]
    return CheckSlices(
        text=f"{len(ids)} of {len(known)} slices of {source.name}",
        note=None,
        ids=ids,
        images=np.stack(
            [_as_taken(image if windows else resize_image(image, reading.size), windows) for image in images]
        ),
        shapes=tuple(_shape(image.shape, windows) for image in images),
    )


def _as_taken(image: NDArray[np.uint8], windows: Windows | None) -> NDArray[np.float32]:
    """image: resized without windows, else at its own size."""
    if windows is None:
        return image.astype(np.float32) / np.float32(255)
    corner = [max(0, length - side) // 2 for length, side in zip(image.shape, windows.size, strict=False)]
    window = cut(image, (corner[0], corner[1]), windows.size)
    return np.asarray(windows.of(image)(window))


def _shape(stored: Sequence[int], windows: Windows | None) -> tuple[int, int]:
    return (stored[0], stored[1]) if windows is None else windows.size


def _with_channels(image: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    """An image with so many channels: the phantom's only one stands for all."""
    return image if image.shape[-1] == count else np.repeat(image[..., :1], count, axis=-1)


def _spread(ids: Sequence[str], count: int) -> tuple[str, ...]:
    places = np.unique(np.linspace(0, len(ids) - 1, min(count, len(ids))).round().astype(int))
    return tuple(ids[place] for place in places)
