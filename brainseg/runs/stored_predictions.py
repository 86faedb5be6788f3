"""Reads a run's predicted masks from the store, and the images that they belong to."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

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
from brainseg.scoring.slice_score import SliceScore
from brainseg.tracking.protocol import RunStore, RunSummary

PREDICTIONS_FILE = "val_predictions.npz"
NEAR = 1e-6  # allowed difference of a slice's Dice from the recorded one, which isn't rounded


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredPredictions:
    """The validation slices of a run: their scores and predicted masks."""

    run: RunSummary
    scores: tuple[SliceScore, ...]  # in the order of ids
    masks: Mapping[str, NDArray[np.bool_]]  # slice -> (height, width), as stored


def read_predictions(store: RunStore, run: RunSummary, *, folder: Path) -> StoredPredictions:
    """Reads a run's scores, and fetches its masks into `folder`. Raises InputError if it has none."""
    scores = read_scores(store, run, split="val")
    remedy = "restore the artifact that the run recorded"
    file = optional_file(store, run.run_id, PREDICTIONS_FILE, folder / run.run_id)
    if file is None:
        raise InputError(f"run {run.run_id} has no {PREDICTIONS_FILE}; {remedy}")
    try:
        masks = load_predictions(file)
    except (OSError, ValueError, KeyError) as error:  # what NumPy raises for a file that is cut off
        raise InputError(f"{PREDICTIONS_FILE} of run {run.run_id} can't be read; {remedy}") from error
    lost = next((score.id for score in scores if score.id not in masks), None)
    if lost is not None:
        raise InputError(f"{PREDICTIONS_FILE} of run {run.run_id} has no mask of slice {lost}; {remedy}")
    return StoredPredictions(run=run, scores=tuple(sorted(scores, key=lambda score: score.id)), masks=masks)


@dataclass(frozen=True, kw_only=True, eq=False)
class RunImages:
    """The data of a run."""

    source: Source
    ids: frozenset[str]  # of its slices


def images_of(store: RunStore, run: RunSummary, *, data: Path | None) -> RunImages:
    """The data that the run was trained on; no pixel is read yet. data: where it lies now.

    Raises InputError if it isn't there, or can't be used.
    """
    config = from_yaml(store.text(run.run_id, CONFIG_FILE), where=f"{CONFIG_FILE} of run {run.run_id}")
    if data is not None:
        return _images(source_of_folder(data, config.data))
    return _images(source_of_run(run.run_id, config))


def _images(source: Source) -> RunImages:
    return RunImages(source=source, ids=frozenset(item.id for item in source.slices()))


def panel_as_scored(predictions: StoredPredictions, score: SliceScore, images: RunImages) -> Panel:
    """The panel of a slice. Raises InputError if the data isn't what the run was scored on.

    It compares the slice's Dice with the recorded one: fingerprints would take reading every slice of the data set.
    """
    predicted = predictions.masks[score.id]
    if score.id in images.ids:
        panel = panel_of(images.source, score.id, tumor_type=score.tumor_type, dice=score.dice, predicted=predicted)
        if panel.mask.shape == predicted.shape and abs(hard_dice(panel.mask, predicted) - score.dice) < NEAR:
            return panel
    raise InputError(
        f"run {predictions.run.run_id}: the data in {images.source.location} isn't what the run was scored on (slice "
        f"{score.id} doesn't give its recorded Dice); restore it, or name where the run's data lies with --data DIR"
    )
