"""Keras: the model in float32 and stock layers, loaded again in Keras's safe mode."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainseg.model.keras_file import read_model, write_model


def write_keras(model: Any, path: Path, description: Mapping[str, str]) -> None:
    """Writes the model without an optimizer. The format has no place for the description."""
    write_model(model, path)


class KerasRunner:
    """Runs the file as Keras loads it."""

    def __init__(self, path: Path) -> None:
        self._model = read_model(path, called=str(path), remedy="export it again")

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probabilities (batch, size, size, outputs) of a batch (batch, size, size, channels)."""
        return np.asarray(self._model(images, training=False), dtype=np.float32)
