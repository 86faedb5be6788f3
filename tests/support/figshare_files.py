"""Makes slices in the form of the original Figshare files."""

import io
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

# 3 rows and 4 columns, nowhere symmetric: a transpose that is missing or double shows. Range 100 to 355,
# so that each value less 100 is the expected pixel.
IMAGE = np.array([[100, 101, 102, 103], [150, 160, 170, 180], [110, 120, 130, 355]], np.int16)
MASK = np.array([[0, 1, 1, 1], [0, 0, 0, 0], [1, 0, 0, 0]], np.uint8)


def mat_bytes(
    *, image: NDArray[Any] = IMAGE, mask: NDArray[Any] = MASK, label: float = 1, pid: str = "100360", without: str = ""
) -> bytes:
    """A slice as MATLAB's `save -v7.3` writes it: 512 bytes of header, then HDF5 with transposed arrays."""
    buffer = io.BytesIO()
    arrays = {
        "PID": np.array([[ord(letter)] for letter in pid], np.uint16),
        "image": image.T,
        "label": np.array([[label]], np.float64),
        "tumorBorder": np.array([[1.5], [2.5]]),
        "tumorMask": mask.T,
    }
    classes = {"PID": b"char", "image": b"int16", "tumorMask": b"logical"}
    with h5py.File(buffer, "w", userblock_size=512) as file:
        group = file.create_group("cjdata")
        group.attrs["MATLAB_class"] = np.bytes_(b"struct")
        for name, array in arrays.items():
            if name == without:
                continue
            group[name] = array
            group[name].attrs["MATLAB_class"] = np.bytes_(classes.get(name, b"double"))
    content = bytearray(buffer.getvalue())
    content[:128] = b"MATLAB 7.3 MAT-file, Platform: PCWIN64, HDF5 schema 1.00 .".ljust(124) + b"\x00\x02IM"
    return bytes(content)
