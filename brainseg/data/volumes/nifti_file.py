"""The one door for NIfTI files: what their headers say, their values, and masks on the same grid.

Every failure is one line that names the file and the remedy.
"""

import gzip
import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainseg.cli.output import replacing
from brainseg.errors import DataError, InputError, how_to_install

MAX_VOXELS = 2**31  # far above any scan, and far below what the header of a small file may claim
_MM = {"meter": 1000.0, "micron": 0.001}  # of a unit; of millimetres and where none is named: 1
_EQUAL_SIDES = 1.001  # larger by no more than this factor: a header's rounding


@dataclass(frozen=True, kw_only=True, eq=False)
class Grid:
    """Where the voxels of a volume lie, as the header says."""

    shape: tuple[int, ...]  # of three axes
    channels: int  # along a fourth axis; 1 without one
    spacing_mm: tuple[float, ...]  # between the centres of voxels, along each axis
    orientation: str  # where the axes lead to: `RAS` for right, anterior, superior
    affine: NDArray[np.float64]  # (4, 4), from indices to positions in mm

    @property
    def coarsest_axis(self) -> int:
        """That with the largest spacing; of equal ones the last."""
        largest = max(self.spacing_mm)
        return max(axis for axis, side in enumerate(self.spacing_mm) if side * _EQUAL_SIDES >= largest)

    def distance_from(self, other: "Grid") -> float:
        """How far apart the same corner of two grids of one shape lies at most, as a share of the smallest spacing."""
        corners = np.array([[*corner, 1] for corner in itertools.product(*((0, side - 1) for side in self.shape))])
        apart = (corners @ (self.affine - other.affine).T)[:, :3]
        return float(np.linalg.norm(apart, axis=1).max()) / min(self.spacing_mm)


def read_grid(path: Path) -> Grid:
    """Reads the header alone. Raises DataError for what is no volume of one value a voxel."""
    with _explained(path):
        image = _load(path)
        header = image.header
        *shape, channels = image.shape if len(image.shape) == 4 else (*image.shape, 1)
        _check_numbers(path, image)
        if not 0 < math.prod(image.shape) <= MAX_VOXELS:
            raise DataError(f"{path} has {math.prod(image.shape)} voxels, and may have 1 to {MAX_VOXELS}; cut it")
        unit = _MM.get(header.get_xyzt_units()[0], 1.0)
        return Grid(
            shape=tuple(shape),
            channels=channels,
            spacing_mm=tuple(float(side) * unit for side in header.get_zooms()[:3]),
            orientation="".join(axis or "?" for axis in _nibabel().aff2axcodes(image.affine)),
            affine=image.affine,
        )


def read_values(path: Path) -> NDArray[Any]:
    """(x, y, z, channels) as the array is stored, in no other orientation; its header's slope and intercept applied.

    Raises DataError for a file that is damaged or cut off.
    """
    with _explained(path):
        image = _load(path)
        _check_numbers(path, image)
        stored = image.dataobj
        scaled = (stored.slope, stored.inter) != (1.0, 0.0)
        values: NDArray[Any] = np.asarray(stored, np.float32) if scaled else np.asarray(stored)
        return values.reshape((*values.shape[:3], -1))


def write_mask(path: Path, mask: NDArray[np.uint8], *, like: Path) -> None:
    """Writes a compressed NIfTI file with the header of the volume `like`: its affines, codes and units.

    mask: of the shape of that volume's three axes. Raises OSError if it can't be written.
    """
    image = _load(like)
    header = image.header.copy()
    header.set_data_dtype(np.uint8)
    header.set_slope_inter(1, 0)
    header["cal_min"] = header["cal_max"] = 0  # the grey levels that a viewer shows are the image's
    content = gzip.compress(type(image)(mask, image.affine, header).to_bytes(), compresslevel=6, mtime=0)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        partial.write_bytes(content)


def _nibabel() -> Any:
    try:
        import nibabel
    except ImportError:
        raise InputError(f"NIfTI files are read by nibabel; {how_to_install('nifti')}") from None
    return nibabel


def _check_numbers(path: Path, image: Any) -> None:
    """Raises DataError unless each voxel, or each of its channels, is a number: colours are three, in one."""
    if not 3 <= len(image.shape) <= 4 or image.get_data_dtype().kind not in "iuf":
        raise DataError(
            f"{path} must be a volume of numbers with three or four axes, got {image.get_data_dtype()} of "
            f"{image.shape}; export it so"
        )


def _load(path: Path) -> Any:
    image = _nibabel().load(path, mmap=False)
    if not isinstance(image, _nibabel().Nifti1Image):  # of which NIfTI-2 is a kind
        raise DataError(f"{path} is no volume of NIfTI but {type(image).__name__}; export it as one")
    return image


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """What nibabel raises becomes a DataError."""
    try:
        yield
    except (DataError, InputError):
        raise
    except FileNotFoundError:
        raise DataError(f"{path} doesn't exist; restore it, or remove its partner") from None
    except PermissionError:
        raise DataError(f"{path} can't be opened (permission denied); make it readable") from None
    except Exception as error:  # a damaged file can raise nearly anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path} is no NIfTI file, damaged or cut off ({reason}); copy or export it again") from error
