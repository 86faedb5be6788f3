"""Where slices come from: what a folder and the phantom have in common."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from brainseg.classes import Labels

# The metadata columns that brainseg itself knows; any other column is carried along.
PATIENT = "patient_id"
TUMOR_TYPE = "tumor_type"


@dataclass(frozen=True, kw_only=True)
class SliceInfo:
    """One slice: its id, and what the metadata says of it (column -> value, no empty values)."""

    id: str
    columns: Mapping[str, str] = field(default_factory=dict)
    part: str | None = None  # train, val, test or fold, where a folder says so


class Source(Protocol):
    """A data set at its stored size."""

    name: str  # short, for people: phantom, or the folder's name
    location: str  # where it is read from, for the record
    labels: Labels  # what its masks hold

    def slices(self) -> tuple[SliceInfo, ...]:
        """Every slice, sorted by id; ids are unique. Raises DataError where the set as a whole is unusable."""
        ...

    def read(self, slice_id: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Image in [0, 255], (height, width, channels), and mask, (height, width, mask channels), at their stored size.

        Both are uint8; `Labels` says what the mask holds.

        Raises DataError naming the file, what is wrong with it and the remedy.
        """
        ...

    def holds_colour(self) -> bool:
        """Whether any image has pixels that aren't grey; may read all of them."""
        ...

    def stamp(self) -> str:
        """A digest that changes whenever what `slices` or `read` would give may have changed.

        Cheap: made from paths, sizes and modification times, without reading pixels.
        """
        ...
