"""Volumes of NIfTI, made for a test."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

_DIRECTIONS = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}


def affine_of(axes: str, spacing: Sequence[float]) -> NDArray[np.float64]:
    """The affine of an array whose axes lead to these directions (`RAS`), with its first voxel at (10, -20, 30) mm."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, direction in enumerate(axes):
        row, sign = _DIRECTIONS[direction]
        affine[row, axis] = sign * spacing[axis]
    affine[:3, 3] = 10, -20, 30
    return affine


def write_volume(
    path: Path,
    values: NDArray[Any],
    *,
    axes: str = "RAS",
    spacing: Sequence[float] = (1, 1, 1),
    codes: tuple[int, int] = (1, 1),
    scaling: tuple[float, float] | None = None,
) -> None:
    """codes: of qform and sform. scaling: slope and intercept; `values` are what is stored."""
    image = nibabel.Nifti1Image(values, affine_of(axes, spacing))
    image.header.set_qform(image.affine, codes[0])
    image.header.set_sform(image.affine, codes[1])
    image.header.set_xyzt_units("mm", "sec")
    path.parent.mkdir(parents=True, exist_ok=True)
    if scaling is not None:
        image.header.set_slope_inter(*scaling)
        image = nibabel.Nifti1Image(values * scaling[0] + scaling[1], None, image.header)
        image.header.set_data_dtype(values.dtype)
    nibabel.save(image, path)
