"""The formats that a model is exported to."""

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainseg.errors import InputError, how_to_install
from brainseg.export.keras_file import KerasRunner, write_keras
from brainseg.export.litert_file import LitertRunner, write_litert
from brainseg.export.onnx_file import OnnxRunner, write_onnx

# Probabilities (batch, size, size, outputs) of images (batch, size, size, channels), float32.
Runner = Callable[[NDArray[np.float32]], NDArray[np.float32]]


@dataclass(frozen=True, kw_only=True)
class Format:
    """How a file is written and run."""

    ending: str
    packages: Mapping[str, str]  # module -> the package that has it
    write: Callable[[Any, Path, Mapping[str, str]], None]  # a float32 Keras model, the file, its description
    runner: Callable[[Path], Runner]


FORMATS: dict[str, Format] = {
    "onnx": Format(
        ending=".onnx",
        packages={"onnx": "onnx", "onnxruntime": "onnxruntime", "tf2onnx": "tf2onnx"},
        write=write_onnx,
        runner=OnnxRunner,
    ),
    "litert": Format(
        ending=".tflite", packages={"ai_edge_litert": "ai-edge-litert"}, write=write_litert, runner=LitertRunner
    ),
    "keras": Format(ending=".keras", packages={}, write=write_keras, runner=KerasRunner),
}


def check_packages(name: str) -> None:
    """Raises InputError if a package that the format needs isn't installed."""
    packages = FORMATS[name].packages
    missing = [package for module, package in packages.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise InputError(f"--format {name} needs {', '.join(missing)}; install with {how_to_install('export')}")
