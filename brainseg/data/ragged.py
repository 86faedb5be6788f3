"""Pictures of different sizes, one after the other in a flat `.npy` file."""

from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray


class Ragged:
    """Pictures of shapes (height, width, channels); `pictures[position]` is one of them, a view of the flat array."""

    def __init__(self, flat: NDArray[np.uint8], sizes: NDArray[np.int32]) -> None:
        """flat: every value of every picture. sizes: (n, 2), height and width of each."""
        self._flat = flat
        self._sizes = sizes
        self._ends = np.cumsum(sizes.prod(axis=1, dtype=np.int64))  # in pixels
        self._channels = len(flat) // int(self._ends[-1])

    def __getitem__(self, position: int | np.intp) -> NDArray[np.uint8]:
        height, width = map(int, self._sizes[position])
        end = int(self._ends[position])
        values = self._flat[(end - height * width) * self._channels : end * self._channels]
        return values.reshape(height, width, self._channels)


class RaggedFile:
    """Writes such a file, picture by picture; a context whose end makes it complete."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._length = 0
        self._write_header()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._file:
            self._file.seek(0)
            self._write_header()

    def add(self, picture: NDArray[np.uint8]) -> None:
        """picture: of any shape. Raises OSError if it can't be written."""
        self._file.write(np.ascontiguousarray(picture).data)
        self._length += picture.size

    def _write_header(self) -> None:
        # NumPy leaves room for a longer first axis: the header is as long for any length.
        shape = {"descr": "|u1", "fortran_order": False, "shape": (self._length,)}
        np.lib.format.write_array_header_1_0(self._file, shape)
