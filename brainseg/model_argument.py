"""The argument MODEL of commands: a run's id, an alias of the registered model, or a `.keras` file."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from brainseg.analysis.segmenter import Segmenter
    from brainseg.config import TrackingConfig


def segmenter_of(name: str, tracking: "TrackingConfig", *, folder: Path, given: Mapping[str, Any]) -> "Segmenter":
    """What the name means. folder: for what is fetched. given: fields of the settings in place of the run's own.

    Raises InputError for a name that is none of these, or a run without a model.
    """
    from brainseg.analysis.segmenter import KERAS_ENDING, segmenter_of_file, segmenter_of_run
    from brainseg.tracking import open_store

    if name.endswith(KERAS_ENDING):
        return segmenter_of_file(Path(name), given=given)
    return segmenter_of_run(open_store(tracking), name, root=tracking.root, folder=folder, given=given)


def loaded(segmenter: "Segmenter") -> tuple[Any, int]:
    """The model and its size, with TensorFlow on as many threads as in its training: they decide the last digits."""
    from brainseg.training.start_up import import_tensorflow

    import_tensorflow()
    from brainseg.analysis.segmenter import load
    from brainseg.training.precision import apply, resolve_threads

    available = resolve_threads(None)
    apply("float32", min(segmenter.threads or available, available))  # a stored model has its own number format
    return load(segmenter)
