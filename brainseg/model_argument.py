"""The argument MODEL of commands: a run's id, an alias of the registered model, or a `.keras` file."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brainseg.errors import InputError

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


def averaged(segmenters: "Sequence[Segmenter]", *, given: Mapping[str, Any]) -> "Segmenter":
    """What is told of several models that predict together, and how their masks are made; of one, the one itself.

    The first one's, under the names of all, with the default settings beside those given: what was chosen for each
    model alone isn't for their mean.
    """
    from brainseg.analysis.postprocess import Settings
    from brainseg.analysis.segmenter import settings_source

    first = segmenters[0]
    if len(segmenters) == 1:
        return first
    names = ", ".join(segmenter.name for segmenter in segmenters)
    source = settings_source("the defaults", given)
    return replace(first, name=f"mean of {names}", settings=Settings(**given), settings_from=source)


def loaded_together(segmenters: "Sequence[Segmenter]") -> tuple[Any, int]:
    """As `loaded`; of several, the mean of their probabilities. Raises InputError for models of different sizes."""
    first = segmenters[0]
    model, size = loaded(first)
    from brainseg.analysis.prediction import mean_of
    from brainseg.analysis.segmenter import load

    models = [model]
    for other in segmenters[1:]:
        further, other_size = load(other)
        if other_size != size:
            raise InputError(
                f"{first.name} works at {size} pixels and {other.name} at {other_size}, and only models of one size "
                "can be averaged; leave one out"
            )
        models.append(further)
    return mean_of(models), size
