"""What `model.weights` names, found and read before a run begins."""

from pathlib import Path

from brainseg.cli.output import temporary_folder
from brainseg.config import IMAGENET, RunConfig
from brainseg.errors import InputError
from brainseg.model.encoders.weights import Weights, imagenet_weights, weights_of_file, weights_of_model
from brainseg.model.keras_file import read_model
from brainseg.runs.models import KERAS_ENDING, segmenter_of

ENCODERS_ENDINGS = (".pth", ".h5")


def starting_weights(config: RunConfig) -> Weights | None:
    """The weights that a run begins with; None: drawn from the seed. Raises InputError where they can't be had."""
    named = config.model.weights
    if named is None:
        return None
    if named == IMAGENET:
        return imagenet_weights(config.model.encoder)
    if named.endswith(ENCODERS_ENDINGS):
        if not config.model.has_encoder:
            raise InputError(f"model.weights={named} is for an encoder, got model.name={config.model.name}")
        return weights_of_file(Path(named), config.model.encoder)
    return _of_network(named, config)


def _of_network(named: str, config: RunConfig) -> Weights:
    """Those of a run, by its id or an alias of a registered model, or of a `.keras` file."""
    with temporary_folder() as folder:
        found = segmenter_of(named, config.tracking, folder=folder, given={})
        model = read_model(found.model_file, called=f"model.weights={named}", remedy=found.remedy)
    origin = named if named.endswith(KERAS_ENDING) else found.name
    if found.run is not None and found.run.weights:
        origin += f", which started from {found.run.weights}"
    return weights_of_model(model, origin=origin, classes=None if found.data is None else found.data.labels.names)
