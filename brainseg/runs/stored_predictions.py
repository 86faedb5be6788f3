"""Reads a run's predicted masks from the store, and the images that they belong to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from brainseg.config import DataConfig
from brainseg.config_file import from_yaml
from brainseg.data.load import source_of_folder
from brainseg.data.source import Source
from brainseg.drawing.figures import Panel, panel_of
from brainseg.errors import InputError
from brainseg.runs.artifacts import optional_file
from brainseg.runs.slice_scores import read_scores
from brainseg.runs.stored_run import CONFIG_FILE, source_of_run
from brainseg.scoring.overlap import hard_dice
from brainseg.scoring.predictions import load_predictions
from brainseg.scoring.slice_score import SliceScore, by_slice, slice_dice
from brainseg.tracking.protocol import RunStore, RunSummary

PREDICTIONS_FILE = "val_predictions.npz"
NEAR = 1e-6  # allowed difference of a slice's Dice from the recorded one, which isn't rounded


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredPredictions:
    """The validation slices of a run: their scores and predicted masks."""

    run: RunSummary
    scores: Mapping[str, Sequence[SliceScore]]  # slice -> that of each class; in the order of ids
    masks: Mapping[str, NDArray[np.bool_]]  # slice -> (height, width, classes), as stored


def read_predictions(store: RunStore, run: RunSummary, *, folder: Path) -> StoredPredictions:
    """Reads a run's scores, and fetches its masks into `folder`. Raises InputError if it has none."""
    scores = read_scores(store, run, split="val")
    remedy = "restore the artifact that the run recorded"
    file = optional_file(store, run.run_id, PREDICTIONS_FILE, folder / run.run_id)
    if file is None:
        raise InputError(f"run {run.run_id} has no {PREDICTIONS_FILE}; {remedy}")
    try:
        masks = load_predictions(file)
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{PREDICTIONS_FILE} of run {run.run_id} can't be read; {remedy}") from error
    scores_of = by_slice(sorted(scores, key=lambda score: score.id))  # stable: classes keep their order
    lost = next((slice_id for slice_id in scores_of if slice_id not in masks), None)
    if lost is not None:
        raise InputError(f"{PREDICTIONS_FILE} of run {run.run_id} has no mask of slice {lost}; {remedy}")
    return StoredPredictions(run=run, scores=scores_of, masks=masks)


@dataclass(frozen=True, kw_only=True, eq=False)
class RunImages:
    """The data of a run."""

    source: Source
    data: DataConfig  # how the run read it
    ids: frozenset[str]  # of its slices


def images_of(store: RunStore, run: RunSummary, *, data: Path | None) -> RunImages:
    """The data that the run was trained on; no pixel is read yet. data: where it lies now.

    Raises InputError if it isn't there, or can't be used.
    """
    config = from_yaml(store.text(run.run_id, CONFIG_FILE), where=f"{CONFIG_FILE} of run {run.run_id}")
    if data is not None:
        return _images(source_of_folder(data, config.data), config.data)
    return _images(source_of_run(run.run_id, config), config.data)


def _images(source: Source, data: DataConfig) -> RunImages:
    return RunImages(source=source, data=data, ids=frozenset(item.id for item in source.slices()))


def panel_as_scored(predictions: StoredPredictions, slice_id: str, images: RunImages) -> Panel:
    """The panel of a slice. Raises InputError if the data isn't what the run was scored on.

    It compares the Dice of each class with the recorded one: fingerprints would take reading every slice of the data
    set.
    """
    predicted, scores = predictions.masks[slice_id], predictions.scores[slice_id]
    if slice_id in images.ids:
        panel = panel_of(
            images.source,
            slice_id,
            tumor_type=scores[0].tumor_type,
            dice=slice_dice(scores),
            predicted=predicted,
            channels=images.data.channels,
        )
        if _is_as_scored(panel, scores):
            return panel
    raise InputError(
        f"run {predictions.run.run_id}: the data in {images.source.location} isn't what the run was scored on (slice "
        f"{slice_id} doesn't give its recorded Dice); restore it, or name where the run's data lies with --data DIR"
    )


def _is_as_scored(panel: Panel, scores: Sequence[SliceScore]) -> bool:
    if panel.mask.shape != panel.predicted.shape or tuple(score.class_name for score in scores) != panel.labels.names:
        return False
    dices = [hard_dice(panel.mask[..., place], panel.counted[..., place]) for place in range(len(scores))]
    return all(abs(dice - score.dice) < NEAR for dice, score in zip(dices, scores, strict=True))
