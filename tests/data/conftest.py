"""Tiny data folders on disk."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image


class FolderMaker:
    """Writes a data folder in the images/ and masks/ layout."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("images", "masks"):
            (root / name).mkdir(parents=True)

    def add(
        self, slice_id: str, *, image: NDArray[np.uint8] | None = None, mask: NDArray[np.uint8] | None = None
    ) -> None:
        """A slice; by default noise of its own and a mask of 12 of its 24x20 pixels (height x width)."""
        seed = [int(byte) for byte in slice_id.encode()]
        if image is None:
            image = np.random.default_rng(seed).integers(0, 256, (24, 20), dtype=np.uint8)
        if mask is None:
            mask = np.zeros((24, 20), np.uint8)
            mask[2:6, 3:6] = 255
        Image.fromarray(image).save(self.root / "images" / f"{slice_id}.png")
        Image.fromarray(mask).save(self.root / "masks" / f"{slice_id}.png")

    def metadata(self, patients: Mapping[str, str], *, tumor_type: str = "glioma") -> None:
        """metadata.csv from slice id -> patient id."""
        rows = [f"{slice_id},{patient},{tumor_type}" for slice_id, patient in patients.items()]
        (self.root / "metadata.csv").write_text("\n".join(["id,patient_id,tumor_type", *rows]) + "\n")


@pytest.fixture
def folder(tmp_path: Path) -> FolderMaker:
    """An empty images/ and masks/ folder to fill."""
    return FolderMaker(tmp_path / "set")
