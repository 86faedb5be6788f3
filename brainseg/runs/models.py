"""Which model predicts new images, and how masks are made: from a run, an alias of the registered model, or a file."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from brainseg.config import IMAGE_CHANNELS, MASK_CHANNELS, TrackingConfig
from brainseg.data.likeness import STATISTICS_FILE, Likeness, parse_likeness
from brainseg.errors import InputError, TrackingError
from brainseg.inference.postprocess import CHOICE_SCHEMA, Settings
from brainseg.model.keras_file import read_model
from brainseg.runs.stored_run import StoredRun, read_run
from brainseg.tracking.mlflow.connection import UnreachableError
from brainseg.tracking.protocol import MODEL_FILE, REGISTERED_MODEL, RunStore
from brainseg.tracking.rules import UnknownRunError

KERAS_ENDING = ".keras"
CHOICE_FILE = "choice.json"
# Field of Settings -> the option of the command.
OPTIONS = {"flip": "--flip", "shift": "--shift", "threshold": "--threshold", "min_area_px": "--min-area"}


@dataclass(frozen=True, kw_only=True)
class Segmenter:
    """A model, not loaded yet, with all that is known of how to use it."""

    name: str  # for people
    model_file: Path
    remedy: str  # where the file can't be loaded
    image_size: int | None  # pixels a side; None: the model's input says it
    threads: int | None  # of TensorFlow in the training, where known
    likeness: Likeness | None  # of the slices that it was trained on, where known
    settings: Settings
    settings_from: str  # where these come from
    run: StoredRun | None  # None for a file


def segmenter_of_run(store: RunStore, name: str, *, root: str, folder: Path, given: Mapping[str, Any]) -> Segmenter:
    """The model of a run, by its id or by an alias of the registered model; fetched into `folder`.

    given: fields of `Settings` that go before those that `evaluate --tune` has chosen. Raises InputError for an
    unknown name, a run without a model, or artifacts that can't be read.
    """
    try:
        run, shown = read_run(store, name, root=root, folder=folder), f"run {name}"
    except UnknownRunError:
        run = read_run(store, _aliased(store, name), root=root, folder=folder)
        shown = f"{name}, run {run.id}"
    likeness = _optional(store, run.id, STATISTICS_FILE)
    settings, source = _settings(store, run, given)
    return Segmenter(
        name=shown,
        model_file=run.model_file,
        remedy=f"restore the artifact {MODEL_FILE} of run {run.id}, or train again",
        image_size=run.config.data.image_size,
        threads=run.threads,
        likeness=None if likeness is None else parse_likeness(likeness, where=f"{STATISTICS_FILE} of run {run.id}"),
        settings=settings,
        settings_from=source,
        run=run,
    )


def segmenter_of_file(path: Path, *, given: Mapping[str, Any]) -> Segmenter:
    """The model of a `.keras` file. Raises InputError where there is none."""
    if not path.is_file():
        raise InputError(f"{path} isn't there; name a {KERAS_ENDING} file, or the id of a run")
    return Segmenter(
        name=str(path),
        model_file=path,
        remedy="export it again",
        image_size=None,
        threads=None,
        likeness=None,
        settings=Settings(**given),
        settings_from=settings_source("the defaults", given),
        run=None,
    )


def load(segmenter: Segmenter) -> tuple[Any, int]:
    """The Keras model, and the size that it works at. Raises InputError for one that can't segment slices."""
    model = read_model(segmenter.model_file, called=f"the model of {segmenter.name}", remedy=segmenter.remedy)
    try:
        takes, gives = model.input_shape, model.output_shape
    except AttributeError:  # of layers that were never called
        takes = gives = None
    size = takes[1] if isinstance(takes, tuple) and len(takes) == 4 else None
    expected = (None, size, size, IMAGE_CHANNELS), (None, size, size, MASK_CHANNELS)
    if size is None or (takes, gives) != expected or segmenter.image_size not in (None, size):
        wanted = segmenter.image_size or "size"
        raise InputError(
            f"the model of {segmenter.name} must turn slices of shape ({wanted}, {wanted}, {IMAGE_CHANNELS}) into "
            f"masks of shape ({wanted}, {wanted}, {MASK_CHANNELS}), but turns {takes} into {gives}; "
            "name a model that brainseg has trained"
        )
    return model, size


def _aliased(store: RunStore, name: str) -> str:
    """The run that an alias of the registered model leads to. Raises InputError where none does."""
    aliases = store.aliases()
    if name not in aliases:
        known = f"which has {', '.join(sorted(aliases))}" if aliases else "which has none here"
        raise InputError(
            f"{name!r} is no run and no alias of the registered model {REGISTERED_MODEL} ({known}); "
            f"name a run, an alias or a {KERAS_ENDING} file, or check --root and --uri"
        )
    if not aliases[name]:
        raise InputError(
            f"the alias {name!r} of the registered model {REGISTERED_MODEL} names a version without a run; "
            f"register the model of a run, or name the {KERAS_ENDING} file"
        )
    return aliases[name]


def _settings(store: RunStore, run: StoredRun, given: Mapping[str, Any]) -> tuple[Settings, str]:
    """The settings, and where they come from. Whatever part a choice lies with, it was made on validation slices."""
    for part in sorted(run.evaluated, key=lambda part: (part != "val", part != "test", part)):
        name = f"evaluation/{part}/{CHOICE_FILE}"
        text = _optional(store, run.id, name)
        if text is not None:
            chosen = dataclasses.replace(_chosen(text, where=f"{name} of run {run.id}"), **given)
            return chosen, settings_source(f"chosen on validation slices, {name}", given)
    return Settings(**given), settings_source("the defaults", given)


def _chosen(text: str, *, where: str) -> Settings:
    try:
        content = json.loads(text)
        version = content["schema_version"]
        if version in (1, 2, CHOICE_SCHEMA):  # 2: knew no shifts
            (of_run,) = content["runs"].values()  # in a run's own artifacts its choice stands alone
            settings = of_run["settings"]
            if version == 1:  # knew all flips or none
                settings["flip"] = "all" if settings["flip"] else "none"
            return Settings(**settings)
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    raise InputError(f"{where} can't be read; evaluate the run again with --tune")


def settings_source(otherwise: str, given: Mapping[str, Any]) -> str:
    """Where settings come from, for people. given: fields of `Settings` that were; otherwise: where the rest does."""
    options = [option for field, option in OPTIONS.items() if field in given]
    if len(options) == len(OPTIONS):
        return "as given"
    return f"{', '.join(options)} as given, else {otherwise}" if options else otherwise


def _optional(store: RunStore, run_id: str, name: str) -> str | None:
    """A text artifact, or None where the run has none of this name."""
    try:
        return store.text(run_id, name)
    except UnreachableError:
        raise
    except TrackingError:
        return None


def segmenter_of(name: str, tracking: TrackingConfig, *, folder: Path, given: Mapping[str, Any]) -> Segmenter:
    """What the name means. folder: for what is fetched. given: fields of the settings in place of the run's own.

    Raises InputError for a name that is none of these, or a run without a model.
    """
    from brainseg.tracking import open_store

    if name.endswith(KERAS_ENDING):
        return segmenter_of_file(Path(name), given=given)
    return segmenter_of_run(open_store(tracking), name, root=tracking.root, folder=folder, given=given)


def loaded(segmenter: Segmenter) -> tuple[Any, int]:
    """The model and its size, with TensorFlow on as many threads as in its training: they decide the last digits."""
    from brainseg.model.runtime import import_tensorflow

    import_tensorflow()
    from brainseg.model.runtime import apply, resolve_threads

    available = resolve_threads(None)
    apply("float32", min(segmenter.threads or available, available))  # a stored model has its own number format
    return load(segmenter)


def averaged(segmenters: Sequence[Segmenter], *, given: Mapping[str, Any]) -> Segmenter:
    """What is told of several models that predict together, and how their masks are made; of one, the one itself.

    The first one's, under the names of all, with the default settings beside those given: what was chosen for each
    model alone isn't for their mean.
    """
    from brainseg.inference.postprocess import Settings

    first = segmenters[0]
    if len(segmenters) == 1:
        return first
    names = ", ".join(segmenter.name for segmenter in segmenters)
    source = settings_source("the defaults", given)
    return replace(first, name=f"mean of {names}", settings=Settings(**given), settings_from=source)


def loaded_together(segmenters: Sequence[Segmenter]) -> tuple[Any, int]:
    """As `loaded`; of several, the mean of their probabilities. Raises InputError for models of different sizes."""
    first = segmenters[0]
    model, size = loaded(first)
    from brainseg.inference.prediction import mean_of

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
