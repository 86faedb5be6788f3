"""What `model.weights` names, found and read before a run begins."""

from brainseg.config import IMAGENET, RunConfig
from brainseg.model.encoders.weights import Weights, imagenet_weights


def starting_weights(config: RunConfig) -> Weights | None:
    """The weights that a new run starts from; None: drawn from the seed. A resumed run has its own.

    Raises InputError where they can't be had.
    """
    if config.model.weights != IMAGENET or config.resume is not None:
        return None
    return imagenet_weights(config.model.encoder)
