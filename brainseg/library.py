"""What `import brainseg` offers: configurations, trainings, and finished runs with their scores and models.

The commands' own stories; TensorFlow and MLflow are imported when they are used.
"""

import dataclasses
import functools
import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from brainseg import compose
from brainseg.cli.output import temporary_folder
from brainseg.config import DataConfig, RunConfig, TrackingConfig
from brainseg.errors import BrainsegError as BrainsegError
from brainseg.errors import ConfigError, DataError
from brainseg.errors import Interrupted as Interrupted
from brainseg.train.single import resolved, train_single

if TYPE_CHECKING:
    import pandas

    from brainseg.runs.models import Segmenter
    from brainseg.scoring.slice_score import SliceScore
    from brainseg.tracking import RunStore
    from brainseg.train.experiment import Result

ROOT = TrackingConfig().root


def configure(*overrides: str) -> RunConfig:
    """The configuration that `python -m brainseg.train` composes of the same words. Raises ConfigError, ResumeError."""
    return resolved(compose.freeze(overrides), overrides)


def fit(config: RunConfig, *, quiet: bool = False) -> "Result":
    """Trains and records one run, and prints what the command prints; with `config.resume`, goes on with that run.

    A run of MLflow's that is open becomes its parent. Raises BrainsegError; Interrupted once a signal was answered
    with a checkpoint.
    """
    overrides = compose.overrides_of(config)
    with _keras_kept():
        return train_single(config, overrides, quiet=quiet)


def find_runs(
    *words: str, experiment: str | None = None, root: str = ROOT, uri: str | None = None
) -> "pandas.DataFrame":
    """The table of `python -m brainseg.compare`, a row a run, the best first.

    words: ids, starts of ids, studies, and conditions such as `model.depth=5`. experiment: if none is named.
    root, uri: `tracking.root` and `tracking.uri`. Raises InputError where no run is found.
    """
    import pandas

    from brainseg.compare.comparison import compare
    from brainseg.compare.files import comparison_csv
    from brainseg.tracking import open_store
    from brainseg.tracking.mlflow.surroundings import with_experiment_of_id
    from brainseg.tracking.paths import experiment_in_effect

    tracking = TrackingConfig(root=root, uri=uri, experiment=experiment)
    named = experiment_in_effect(with_experiment_of_id(tracking))
    found = compare(open_store(tracking), words, experiment=named, top=None)
    return pandas.read_csv(io.StringIO(comparison_csv(found)), dtype={"run_id": str, "name": str, "rank": "Int64"})


def load_run(run_id: str, *, root: str = ROOT, uri: str | None = None) -> "Run":
    """A recorded run, by its id or by an alias of a registered model. root, uri: as for `find_runs`.

    Raises InputError for a name that stands for no run, and for one without a configuration, as a study's parent run.
    """
    from brainseg.runs.models import record_of
    from brainseg.runs.stored_run import stored_config
    from brainseg.tracking import open_store

    store = open_store(TrackingConfig(root=root, uri=uri))
    record = record_of(store, run_id)
    return Run(
        id=record.run_id,
        name=record.name,
        state=record.tags.get("state", record.status.lower()),
        config=stored_config(store, record.run_id, root=root),
        _store=store,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Prediction:
    """What a model sees in one image, at the image's own size."""

    mask: NDArray[np.bool_]  # (height, width); with named classes (height, width, classes), in the order of `classes`
    probability: NDArray[np.float32]  # of the same shape, in [0, 1]
    classes: tuple[str, ...]  # empty for binary masks
    warnings: tuple[str, ...]  # how the image differs from those that the model was trained on


@dataclass(frozen=True, kw_only=True, eq=False)
class Scores:
    """How well a run segments the slices of a split."""

    split: str  # val, test, or data-NAME for another data set
    dice: float  # what ranks runs
    low: float | None  # the 95 % interval over people; None if all slices are of one person
    high: float | None
    masks: str  # how masks were made of probabilities
    slices: "pandas.DataFrame"  # a row for each slice and class


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """A recorded run. Its model is fetched and loaded when it is used for the first time."""

    id: str
    name: str
    state: str  # finished, failed, ...
    config: RunConfig = field(repr=False)
    _store: "RunStore" = field(repr=False)

    @property
    def scores(self) -> "pandas.DataFrame":
        """A row for each validation slice and class, as the training recorded them. Raises InputError for none."""
        from brainseg.runs.slice_scores import read_scores

        return _frame(read_scores(self._store, self._store.read(self.id), split="val"))

    def predict(self, image: NDArray[np.uint8]) -> Prediction:
        """Segments an image of any size as `python -m brainseg.predict` does, with what `evaluate --tune` has chosen.

        image: uint8, (height, width, channels) as in the training, or (height, width) for one channel. Raises DataError
        for another array, and InputError where the run has no model.
        """
        from brainseg.inference.apply import MIN_BATCH, as_seen, masks_of, unlike_training, views_of

        segmenter, predictor, data = self._loaded
        pixels = _checked(image, data)
        seen = as_seen(pixels, predictor, data)
        (views,) = views_of(predictor, [seen], batch=MIN_BATCH, settings=segmenter.settings)
        mask, probability = masks_of(views, (pixels.shape[0], pixels.shape[1]), segmenter.settings, data.labels)
        probability = probability[..., data.labels.first_class :]
        is_named = data.labels.are_named
        return Prediction(
            mask=mask if is_named else mask[..., 0],
            probability=probability if is_named else probability[..., 0],
            classes=data.labels.names if is_named else (),
            warnings=unlike_training(pixels, seen, predictor, segmenter.statistics),
        )

    def evaluate(self, *, split: str | None = None, data: str | Path | None = None, tune: bool = False) -> Scores:
        """Scores the run as `python -m brainseg.evaluate` does, and adds nothing to its record.

        split: val (the default) or test. data: another data set, or where the run's has moved to. tune: choose on the
        validation slices how masks are made. Raises InputError where the run has no model, or no such slices.
        """
        from brainseg.evaluate.evaluation import outcome_of, score, task_of
        from brainseg.inference.postprocess import MaskSettings
        from brainseg.runs.stored_run import read_run

        with temporary_folder() as folder:
            run = read_run(self._store, self.id, root=self.config.tracking.root, folder=folder)
            folder_of_data = None if data is None else Path(data)
            task = task_of(run, split=split, settings=None if tune else MaskSettings(), data=folder_of_data)
            with _tensorflow_on(run.threads):
                scored = score(task, lambda what, done, total: None)
        outcome = outcome_of([scored])
        return Scores(
            split=outcome.split,
            dice=outcome.dice.value,
            low=outcome.dice.low,
            high=outcome.dice.high,
            masks=scored.settings.text,
            slices=_frame(outcome.scores),
        )

    @functools.cached_property
    def _loaded(self) -> "tuple[Segmenter, Any, DataConfig]":
        """How its model is used, the model's Predictor, and how images are read."""
        from brainseg.inference.prediction import Predictor
        from brainseg.runs.models import load, segmenter_of_run

        with temporary_folder() as folder:
            root = self.config.tracking.root
            segmenter = segmenter_of_run(self._store, self.id, root=root, folder=folder, given={})
            with _tensorflow_on(segmenter.threads):
                model, data = load(segmenter)
        return segmenter, Predictor(model), data


def _checked(image: Any, data: DataConfig) -> NDArray[np.uint8]:
    """The image as (height, width, channels). Raises DataError."""
    pixels = np.asarray(image)
    shaped = pixels[..., np.newaxis] if pixels.ndim == 2 else pixels
    if pixels.dtype != np.uint8 or shaped.ndim != 3 or 0 in shaped.shape or shaped.shape[2] != data.channel_count:
        raise DataError(
            f"the image must be uint8 (0 to 255) of shape (height, width, {data.channel_count}), got {pixels.dtype} of "
            f"shape {pixels.shape}; convert it, and give one image at a time"
        )
    return shaped


def _frame(scores: "Iterable[SliceScore]") -> "pandas.DataFrame":
    """A row each, without the columns of what wasn't measured."""
    import pandas

    return pandas.DataFrame(map(dataclasses.asdict, scores)).dropna(axis="columns", how="all")


@contextmanager
def _keras_kept() -> Iterator[None]:
    """What is built after the block has the number format that Keras had before."""
    from brainseg.model.runtime import import_tensorflow

    import_tensorflow()
    import keras

    before = keras.config.dtype_policy()
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


@contextmanager
def _tensorflow_on(threads: int | None) -> Iterator[None]:
    """TensorFlow on as many threads as in the training, unless this process computes on others already."""
    from brainseg.runs.models import start_tensorflow

    with _keras_kept():
        with suppress(ConfigError):  # they decide no more than last digits
            start_tensorflow(threads)
        yield
