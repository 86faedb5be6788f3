"""What stands in the configuration of a `.keras` file, and what older versions of Keras refuse in it."""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Keras 3.14 refuses the first two, 3.13 the next three as well, and 3.12 the last one too.
REFUSED = {"input_axes", "output_axes", "renorm", "renorm_clipping", "renorm_momentum", "quantization_config"}


def keys_of(path: Path) -> set[str]:
    """Every key at every depth of the file's configuration."""
    with zipfile.ZipFile(path) as archive:
        return set(_keys(json.loads(archive.read("config.json"))))


def weights_of(path: Path) -> bytes:
    """The file of weights in the archive."""
    with zipfile.ZipFile(path) as archive:
        return archive.read("model.weights.h5")


def _keys(found: Any) -> Iterator[str]:
    if isinstance(found, dict):
        yield from found
    for inner in found.values() if isinstance(found, dict) else found if isinstance(found, list) else ():
        yield from _keys(inner)
