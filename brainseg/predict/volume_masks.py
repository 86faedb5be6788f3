"""The masks of volumes, put together slice by slice."""

import threading
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from brainseg.data.volumes.nifti_file import write_mask
from brainseg.data.volumes.volume import Volume
from brainseg.predict.inputs import VolumeSlice


class VolumeMasks:
    """Writes each mask once its last slice has come; safe to call from several threads."""

    def __init__(self, folder: Path) -> None:
        """folder: where the masks go."""
        self._folder = folder
        self._lock = threading.Lock()
        self._open: dict[tuple[Volume, str], tuple[NDArray[np.uint8], set[int]]] = {}  # mask, and its slices so far

    def add(self, part: VolumeSlice, class_folder: str, mask: NDArray[np.uint8]) -> None:
        """mask: of one slice, (height, width). Raises OSError if the file can't be written."""
        volume = part.volume
        key = volume, class_folder
        with self._lock:
            whole, there = self._open.setdefault(key, (np.zeros(volume.grid.shape, np.uint8), set()))
            np.moveaxis(whole, volume.axis, 0)[part.number] = mask
            there.add(part.number)
            if len(there) < whole.shape[volume.axis]:
                return
            del self._open[key]
        write_mask(self._folder / class_folder / f"{volume.id}.nii.gz", whole, like=volume.paths[0])
