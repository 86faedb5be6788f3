"""What a set holds, from reading each of its slices once: sizes, foreground, objects."""

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

SMALL = 0.05  # share of the foreground that lies in the small objects: specks, however many, don't decide
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
    # Width of the widest small object, as a share of `side`; None where there is no object. A width is
    # 4 * area / outline: the side of a square, and twice the width of a line.
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
    objects: NDArray[np.float64]  # width and area of each, as shares of the slice's, (objects, 2)
    profile: NDArray[np.float64]  # (ROWS,)


def overview_of(source: Source, *, progress: OnProgress) -> Overview:
    """Reads every slice, on all cores. Raises DataError for the first that can't be read."""
    infos = source.slices()
    found: list[_Slice] = []
    for each in in_threads(lambda info: _looked_at(*source.read(info.id), source.labels), infos):
        found.append(each)
        progress("reading", len(found), len(infos))
    patients = [info.columns.get(PATIENT) for info in infos]
    return Overview(
        slices=len(infos),
        people=0 if None in patients else len({person_of(patient) for patient in patients if patient is not None}),
        channels=found[0].channels,
        height=int(np.median([each.height for each in found])),
        width=int(np.median([each.width for each in found])),
        foreground=tuple(float(share) for share in np.mean([each.foreground for each in found], axis=0)),
        empty=float(np.mean([not each.foreground.any() for each in found])),
        small_object=_small(np.concatenate([each.objects for each in found])),
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
        objects=np.concatenate([_objects(classes[..., place]) for place in range(classes.shape[-1])]),
        profile=np.array([part.mean() if len(part) else 0.0 for part in rows]),
    )


def _objects(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """As in `_Slice`. mask: of one class, (height, width)."""
    labelled, count = ndimage.label(np.pad(mask, 1), structure=NEIGHBOURS)
    areas = np.bincount(labelled.ravel())[1:]
    outlines = sum(  # in sides of pixels
        np.bincount(labelled[labelled != np.roll(labelled, step, axis)], minlength=count + 1)[1:]
        for step in (1, -1)
        for axis in (0, 1)
    )
    return np.stack([4 * areas / outlines / mask.size**0.5, areas / mask.size], axis=-1)


def _small(objects: NDArray[np.float64]) -> float | None:
    """As `Overview.small_object`. objects: as in `_Slice`."""
    if not len(objects):
        return None
    widths, areas = objects[np.argsort(objects[:, 0])].T
    return float(widths[np.searchsorted(areas.cumsum(), SMALL * areas.sum())])


def _upright(profiles: NDArray[np.float64]) -> float:
    """profiles: (slices, ROWS)."""
    centred = profiles - profiles.mean(axis=1, keepdims=True)
    centred /= np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-9)
    mean = centred.mean(axis=0)
    return float(np.median(centred @ mean) / max(float(np.linalg.norm(mean)), 1e-9))
