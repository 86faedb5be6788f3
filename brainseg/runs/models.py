"""Finds the model that a name stands for (a run, an alias of a registered model, a file), and loads it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from brainseg.config import DataConfig, TrackingConfig
from brainseg.data.training_statistics import STATISTICS_FILE, TrainingStatistics, parse_statistics
from brainseg.errors import InputError
from brainseg.inference.postprocess import MaskSettings
from brainseg.inference.prediction import ensemble
from brainseg.inference.windows import windows_of
from brainseg.keys import as_text
from brainseg.model.keras_file import read_model
from brainseg.model.runtime import apply, import_tensorflow, resolve_threads
from brainseg.runs.artifacts import optional_text
from brainseg.runs.mask_settings import settings_of, settings_source
from brainseg.runs.stored_run import StoredRun, read_run
from brainseg.tracking.protocol import MODEL_FILE, RunRecord, RunStore
from brainseg.tracking.rules import UnknownRunError

KERAS_ENDING = ".keras"


@dataclass(frozen=True, kw_only=True)
class Segmenter:
    """A model that isn't loaded yet, and how it is used."""

    name: str  # for people
    model_file: Path
    remedy: str  # if the file can't be loaded
    settings: MaskSettings
    settings_from: str  # where these come from
    # None of these is known of a file.
    data: DataConfig | None = None  # how images are read, and what its classes are; None: the model's shapes say it
    threads: int | None = None  # of TensorFlow in the training
    statistics: TrainingStatistics | None = None  # of the slices that it was trained on
    run: StoredRun | None = None


def segmenter_of(name: str, tracking: TrackingConfig, *, folder: Path, given: Mapping[str, Any]) -> Segmenter:
    """Finds the model that the name stands for. folder: for fetched artifacts.

    given: fields of `MaskSettings` that replace the run's own. Raises InputError for a name without a model.
    """
    from brainseg.tracking import open_store

    if name.endswith(KERAS_ENDING):
        return segmenter_of_file(Path(name), given=given)
    return segmenter_of_run(open_store(tracking), name, root=tracking.root, folder=folder, given=given)


def segmenter_of_run(store: RunStore, name: str, *, root: str, folder: Path, given: Mapping[str, Any]) -> Segmenter:
    """The model of a run, by its id or by an alias of a registered model; fetched into `folder`.

    given: fields of `MaskSettings` that replace those that `evaluate --tune` has chosen. Raises InputError for an
    unknown name, a run without a model, or artifacts that can't be read.
    """
    try:
        run, shown = read_run(store, name, root=root, folder=folder), f"run {name}"
    except UnknownRunError:
        alias, run_id = _aliased(store, name)
        run = read_run(store, run_id, root=root, folder=folder)
        shown = f"{alias}, run {run.id}"
    recorded = optional_text(store, run.id, STATISTICS_FILE)
    settings, source = settings_of(store, run.id, evaluated=run.evaluated, given=given)
    return Segmenter(
        name=shown,
        model_file=run.model_file,
        remedy=f"restore the artifact {MODEL_FILE} of run {run.id}, or train again",
        data=run.config.data,
        threads=run.threads,
        statistics=None if recorded is None else parse_statistics(recorded, where=f"{STATISTICS_FILE} of run {run.id}"),
        settings=settings,
        settings_from=source,
        run=run,
    )


def segmenter_of_file(path: Path, *, given: Mapping[str, Any]) -> Segmenter:
    """The model of a `.keras` file. Raises InputError if it isn't there."""
    if not path.is_file():
        raise InputError(f"{path} isn't there; name a {KERAS_ENDING} file, or the id of a run")
    return Segmenter(
        name=str(path),
        model_file=path,
        remedy="export it again",
        settings=MaskSettings(**given),
        settings_from=settings_source("the defaults", given),
    )


def record_of(store: RunStore, name: str) -> RunRecord:
    """The record of a run, by its id or by an alias of a registered model. Raises InputError for neither."""
    try:
        return store.read(name)
    except UnknownRunError:
        return store.read(_aliased(store, name)[1])


def _aliased(store: RunStore, name: str) -> tuple[str, str]:
    """The alias of a registered model that is meant, `MODEL@ALIAS`, and the id of its run.

    name: `MODEL@ALIAS`, or `ALIAS` where but one registered model has it. Raises InputError where none has it, or
    several, or where it names no run.
    """
    known = store.aliases()
    meant = [alias for alias in known if name in (alias, alias.rpartition("@")[2])]
    if not meant:
        has = f"there are {', '.join(known)}" if known else "there is none"
        raise InputError(
            f"{name!r} is no run and no alias of a registered model ({has}); "
            f"name a run, an alias or a {KERAS_ENDING} file, or check --root and --uri"
        )
    if len(meant) > 1:
        raise InputError(f"{name!r} is an alias of several registered models; name one of {', '.join(meant)}")
    run_id = store.run_of_alias(meant[0])
    if not run_id:
        raise InputError(
            f"the alias {meant[0]!r} names a version without a run; "
            f"register the model of a run, or name the {KERAS_ENDING} file"
        )
    return meant[0], run_id


def ensemble_of(segmenters: Sequence[Segmenter], *, given: Mapping[str, Any]) -> Segmenter:
    """Several models as an ensemble; one as it is.

    The first one's facts, under the names of all. Settings that aren't given are the defaults: those
    chosen for each model alone don't suit the ensemble.
    """
    first = segmenters[0]
    if len(segmenters) == 1:
        return first
    return replace(
        first,
        name=f"ensemble of {', '.join(segmenter.name for segmenter in segmenters)}",
        settings=MaskSettings(**given),
        settings_from=settings_source("the defaults", given),
    )


def loaded(segmenters: Sequence[Segmenter]) -> tuple[Any, DataConfig]:
    """The Keras model, or the ensemble of several, and how its images are read, at which size.

    TensorFlow computes on as many threads as in the training of the first one: they decide the last digits. Raises
    InputError for models that can't segment slices, or don't work on the same.
    """
    first, *others = segmenters
    start_tensorflow(first.threads)
    model, data = load(first)
    models = [model]
    for other in others:
        further, other_data = load(other)
        if other_data.image_size != data.image_size:
            raise InputError(
                f"{first.name} works at {as_text(data.image_size)} pixels and {other.name} at "
                f"{as_text(other_data.image_size)}, and only models of one size can be averaged; leave one out"
            )
        for key, value in data.reading_keys.items():
            if other_data.reading_keys[key] != value:
                raise InputError(
                    f"{first.name} has data.{key}={value} and {other.name} {other_data.reading_keys[key]}, and only "
                    "models that read images alike can be averaged; leave one out"
                )
        models.append(further)
    return ensemble(models), data


def start_tensorflow(threads: int | None) -> None:
    """Starts TensorFlow on this many threads, or on all of this machine if it has fewer; None: on all."""
    import_tensorflow()
    available = resolve_threads(None)
    apply("float32", min(threads or available, available))  # a stored model has its own number format


def load(segmenter: Segmenter) -> tuple[Any, DataConfig]:
    """The Keras model, and how its images are read. Raises InputError for one that can't segment slices."""
    model = read_model(segmenter.model_file, called=f"the model of {segmenter.name}", remedy=segmenter.remedy)
    try:
        takes, gives = model.input_shape, model.output_shape
    except AttributeError:  # of layers that were never called
        takes = gives = None
    data = segmenter.data or _data_of_shapes(takes, gives, model)
    if data is not None:
        wanted = (None, *data.size, data.channel_count), (None, *data.size, data.labels.outputs)
        if (takes, gives) == wanted:
            return model, data
    expected = "(height, width, 1) or (height, width, 3)" if data is None else f"{wanted[0][1:]}"
    raise InputError(
        f"the model of {segmenter.name} must turn slices of shape {expected} into masks of "
        f"{'the same size' if data is None else f'shape {wanted[1][1:]}'}, but turns {takes} into {gives}; "
        "name a model that brainseg has trained"
    )


def _data_of_shapes(takes: Any, gives: Any, model: Any) -> DataConfig | None:
    """What the shapes of a model say of its images and classes; None if it takes no grey or coloured images."""
    if not (isinstance(takes, tuple) and isinstance(gives, tuple) and len(takes) == len(gives) == 4):
        return None
    channels = {1: "grey", 3: "rgb"}.get(takes[3])
    if None in takes[1:3] or channels is None:
        return None
    windows = windows_of(model)
    data = DataConfig(image_size=takes[1:3], channels=channels, patches=int(windows is not None))
    if gives[3] == 1:
        return data
    is_softmax = model.layers[-1].get_config().get("activation") == "softmax"
    # A sigmoid each: values that overlap.
    values = {
        f"class {number}": number if is_softmax else [number, 0] for number in range(1, gives[3] + (not is_softmax))
    }
    return replace(data, classes=values)
