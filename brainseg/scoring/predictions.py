"""Predicted masks, one bit a pixel: in memory, and in the file `val_predictions.npz` of a run."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from brainseg.parsing import read_npz

PREDICTIONS_SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class PackedMask:
    """The masks of a slice's classes, which start at a whole byte."""

    shape: tuple[int, ...]  # height and width, and with several classes their number
    bits: bytes

    @classmethod
    def of(cls, mask: NDArray[np.bool_]) -> "PackedMask":
        """mask: (height, width, classes)."""
        shape = mask.shape[:2] if mask.shape[-1] == 1 else mask.shape
        return cls(shape=shape, bits=np.packbits(mask).tobytes())

    def unpacked(self) -> NDArray[np.bool_]:
        """The mask, (height, width, classes)."""
        bits = np.unpackbits(np.frombuffer(self.bits, dtype=np.uint8), count=math.prod(self.shape))
        return bits.reshape(*self.shape[:2], -1).astype(np.bool_)


def save_predictions(path: Path, masks: Mapping[str, PackedMask]) -> None:
    """Writes the masks of slices as an `.npz`, which `load_predictions` reads. masks: by the slices' ids."""
    np.savez_compressed(
        path,
        schema_version=np.array(PREDICTIONS_SCHEMA),
        ids=np.array(list(masks)),
        shapes=np.array([mask.shape for mask in masks.values()], dtype=np.int32),
        bits=np.frombuffer(b"".join(mask.bits for mask in masks.values()), dtype=np.uint8),
    )


def load_predictions(path: Path) -> dict[str, NDArray[np.bool_]]:
    """Id -> predicted mask (height, width, classes).

    Raises ValueError, KeyError or TypeError for what `save_predictions` didn't write, or another version of it.
    """
    stored = read_npz(path)
    if int(stored["schema_version"]) != PREDICTIONS_SCHEMA:
        raise ValueError(f"{path} has schema_version {stored['schema_version']}, not {PREDICTIONS_SCHEMA}")
    ids, shapes, bits = stored["ids"], stored["shapes"], stored["bits"].tobytes()
    if sum(-(-math.prod(shape) // 8) for shape in shapes.tolist()) != len(bits):  # else they would be filled up
        raise ValueError(f"{path} has {len(bits)} bytes of masks, which aren't of these shapes")
    masks: dict[str, NDArray[np.bool_]] = {}
    first = 0
    for slice_id, shape in zip(ids, shapes.tolist(), strict=True):
        end = first + -(-math.prod(shape) // 8)
        masks[str(slice_id)] = PackedMask(shape=tuple(shape), bits=bits[first:end]).unpacked()
        first = end
    return masks
