"""What a set holds, from reading each of its slices once: sizes, foreground, objects."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from brainseg.classes import Labels
from brainseg.cli.console import OnProgress
from brainseg.data.masks import NEIGHBOURS, class_masks
from brainseg.data.people import person_of
from brainseg.data.source import PATIENT, Source
from brainseg.data.spread import in_threads

SMALL = 5  # percentile of the objects' sides: a few specks don't decide
ROWS = 16  # of the vertical profile of a picture


@dataclass(frozen=True, kw_only=True)
class Overview:
    """A set, at its stored size."""

    slices: int
    people: int  # 0 where the patients of some slices are unknown
    channels: int  # of an image
    height: int  # median, pixels
    width: int  # median, pixels
    foreground: tuple[float, ...]  # of each class, its mean share of a slice's pixels, in [0, 1]
    empty: float  # share of the slices without foreground, in [0, 1]
    # The square root of an object's area, as a share of that of its slice: of the small objects (the percentile
    # SMALL); None where there is no object.
    small_object: float | None
    # How much the pictures are bright and dark at the same heights: the median correlation of a picture's brightness
    # by row with the set's, in [-1, 1]. Photographs with a sky are.
    upright: float

    @property
    def side(self) -> float:
        """The side of a square with the area of a median slice, pixels."""
        return float((self.height * self.width) ** 0.5)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Slice:
    height: int
    width: int
    channels: int
    foreground: NDArray[np.float64]  # (classes,)
    object_sides: NDArray[np.float64]  # as shares of the slice's
    profile: NDArray[np.float64]  # (ROWS,)


def overview_of(source: Source, *, progress: OnProgress) -> Overview:
    """Reads every slice, on all cores. Raises DataError for the first that can't be read."""
    infos = source.slices()
    found: list[_Slice] = []
    for each in in_threads(lambda info: _looked_at(*source.read(info.id), source.labels), infos):
        found.append(each)
        progress("reading", len(found), len(infos))
    sides = np.concatenate([each.object_sides for each in found])
    patients = [info.columns.get(PATIENT) for info in infos]
    return Overview(
        slices=len(infos),
        people=0 if None in patients else len({person_of(patient) for patient in patients if patient is not None}),
        channels=found[0].channels,
        height=int(np.median([each.height for each in found])),
        width=int(np.median([each.width for each in found])),
        foreground=tuple(float(share) for share in np.mean([each.foreground for each in found], axis=0)),
        empty=float(np.mean([not each.foreground.any() for each in found])),
        small_object=float(np.percentile(sides, SMALL)) if len(sides) else None,
        upright=_upright(np.array([each.profile for each in found])),
    )


def _looked_at(image: NDArray[np.uint8], mask: NDArray[np.uint8], labels: Labels) -> _Slice:
    classes = class_masks(mask, labels)
    height, width = image.shape[:2]
    rows = np.array_split(image.mean(axis=(1, 2)), ROWS)
    return _Slice(
        height=height,
        width=width,
        channels=image.shape[2],
        foreground=classes.mean(axis=(0, 1)),
        object_sides=np.sqrt(np.fromiter(_areas(classes), np.float64) / (height * width)),
        profile=np.array([part.mean() if len(part) else 0.0 for part in rows]),
    )


def _areas(classes: NDArray[np.bool_]) -> Iterator[int]:
    """The pixels of each object. classes: (height, width, classes)."""
    for place in range(classes.shape[-1]):
        labelled, _ = ndimage.label(classes[..., place], structure=NEIGHBOURS)
        yield from np.bincount(labelled.ravel())[1:]


def _upright(profiles: NDArray[np.float64]) -> float:
    """profiles: (slices, ROWS)."""
    centred = profiles - profiles.mean(axis=1, keepdims=True)
    centred /= np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-9)
    mean = centred.mean(axis=0)
    return float(np.median(centred @ mean) / max(float(np.linalg.norm(mean)), 1e-9))
