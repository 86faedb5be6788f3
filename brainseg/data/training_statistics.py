"""What the slices that a model was trained on look like, and in which ways another slice is unlike them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from brainseg.data.cache import SliceSet
from brainseg.errors import DataError
from brainseg.parsing import parse_json

STATISTICS_FILE = "data_statistics.json"  # a run's artifact
STATISTICS_SCHEMA = 1
PERCENTILES = (0, 1, 5, 25, 50, 75, 95, 99, 100)
USUAL = (1, 99)  # the percentiles between which a measure is usual
CONSTANT = "every pixel has the same value"

# How far beyond the usual range a slice is still like the others. Width, height and their ratio: a factor, since
# the model sees all of them at one size. Grey levels: a share of the range.
SIZE_FACTOR = 2.0
ASPECT_FACTOR = 1.1
INTENSITY_MARGIN = 0.25


@dataclass(frozen=True, kw_only=True)
class SliceStatistics:
    """What is compared of a slice."""

    width: float  # pixels, as stored
    height: float
    aspect: float  # width / height
    brightness: float  # mean of the grey levels in [0, 255], at the model's size
    contrast: float  # their standard deviation


def measure_slice(image: NDArray[np.uint8], *, stored: tuple[int, int]) -> SliceStatistics:
    """image: as the model sees it, (height, width, channels). stored: height and width before that."""
    height, width = stored
    levels = image.astype(np.float32)
    return SliceStatistics(
        width=width,
        height=height,
        aspect=width / height,
        brightness=float(levels.mean()),
        contrast=float(levels.std()),
    )


@dataclass(frozen=True, kw_only=True)
class TrainingStatistics:
    """How a set of slices is distributed."""

    slices: int
    measures: Mapping[str, tuple[float, ...]]  # field of SliceStatistics -> its values at PERCENTILES

    def to_json(self) -> str:
        """`data_statistics.json`; `parse_statistics` reads it."""
        content = {"schema_version": STATISTICS_SCHEMA, "slices": self.slices, "percentiles": PERCENTILES}
        return json.dumps(content | dict(self.measures), indent=1) + "\n"

    def differences(self, found: SliceStatistics, *, with_size: bool) -> list[str]:
        """In which ways a slice is unlike these, a phrase each; none for a slice like them.

        with_size: whether width, height and their ratio count.
        """
        unlike = [*self._size_differences(found)] if with_size else []
        for name, value in (("brightness", found.brightness), ("contrast", found.contrast)):
            low_level, high_level = (self._at(name, end) for end in USUAL)
            margin = INTENSITY_MARGIN * (high_level - low_level)
            if not low_level - margin <= value <= high_level + margin:
                unlike.append(f"{name} {value:.0f} ({_range(f'{low_level:.0f}', f'{high_level:.0f}')} in training)")
        return unlike

    def _size_differences(self, found: SliceStatistics) -> Iterator[str]:
        if self._outside("width", found.width, SIZE_FACTOR) or self._outside("height", found.height, SIZE_FACTOR):
            low, high = (f"{self._at('width', end):.0f}x{self._at('height', end):.0f}" for end in USUAL)
            yield f"size {found.width:.0f}x{found.height:.0f} ({_range(low, high)} in training)"
        if self._outside("aspect", found.aspect, ASPECT_FACTOR):
            low, high = (f"{self._at('aspect', end):.2f}" for end in USUAL)
            yield f"width/height {found.aspect:.2f} ({_range(low, high)} in training)"

    def _at(self, name: str, percentile: int) -> float:
        return self.measures[name][PERCENTILES.index(percentile)]

    def _outside(self, name: str, value: float, factor: float) -> bool:
        low, high = (self._at(name, end) for end in USUAL)
        return not low / factor <= value <= high * factor


def statistics_of(slices: SliceSet, ids: Sequence[str]) -> TrainingStatistics:
    """The distribution of these slices, from the cache: no image is decoded."""
    positions = slices.positions(sorted(ids))
    measured = [
        measure_slice(slices.images[position], stored=(int(height), int(width)))
        for position, (height, width) in zip(positions, slices.sizes[positions], strict=True)
    ]
    names = list(SliceStatistics.__dataclass_fields__)
    found = np.percentile([[getattr(item, name) for name in names] for item in measured], PERCENTILES, axis=0)
    return TrainingStatistics(
        slices=len(measured),
        measures={
            name: tuple(round(float(value), 4) for value in found[:, column]) for column, name in enumerate(names)
        },
    )


def parse_statistics(text: str, *, where: str) -> TrainingStatistics:
    """What `to_json` wrote; `where` names it in errors. Raises DataError for anything else."""
    try:
        content = parse_json(text)
        version = content["schema_version"]
        if version == STATISTICS_SCHEMA:
            measures = {name: tuple(map(float, content[name])) for name in SliceStatistics.__dataclass_fields__}
            if any(len(values) != len(PERCENTILES) for values in measures.values()):
                raise ValueError
            return TrainingStatistics(slices=int(content["slices"]), measures=measures)
    except (ValueError, KeyError, TypeError):
        raise DataError(f"{where} can't be read; restore the artifact that the run recorded") from None
    raise DataError(
        f"{where} has schema_version {version}, and this brainseg reads {STATISTICS_SCHEMA}; "
        "use the brainseg version in the run's environment/packages.txt"
    )


def _range(low: str, high: str) -> str:
    return low if low == high else f"{low} to {high}"
