"""Reads every validation slice of a run, or of two: a small picture, outlines, and scores.

`page.py` makes the page; nothing is written here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from brainseg.classes import Labels
from brainseg.compare.comparison import RunPair, compare_pair
from brainseg.data.encode import as_webp
from brainseg.drawing.outlines import outline_paths
from brainseg.errors import InputError
from brainseg.runs.select import find_run
from brainseg.runs.stored_predictions import (
    RunImages,
    StoredPredictions,
    images_of,
    panel_as_scored,
    read_predictions,
)
from brainseg.scoring.slice_score import dice_table
from brainseg.tracking.protocol import RunStore, RunSummary


@dataclass(frozen=True, kw_only=True)
class GallerySlice:
    """One slice. What there is of each run is in the order of the gallery's runs, what of each class in theirs."""

    id: str
    patient_id: str  # empty if unknown
    tumor_type: str  # empty if unknown
    height: int  # pixels, as stored
    width: int
    area_px: int  # pixels of the true mask, of any class
    image: bytes  # WebP
    areas_px: tuple[int, ...]  # of each class
    truth: tuple[str, ...]  # of each class an SVG path, as are the predicted ones
    dices: tuple[float, ...]  # of each run
    class_dices: tuple[tuple[float | None, ...], ...]  # of each run and class; None where neither mask has the class
    predicted: tuple[tuple[str, ...], ...]  # of each run and class


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """The slices that every run of the gallery has scored, in the order of ids."""

    runs: tuple[RunSummary, ...]  # one, or two
    pair: RunPair | None  # of two runs
    dice: float  # by which the first one is ranked
    labels: Labels
    slices: tuple[GallerySlice, ...]


def make_gallery(store: RunStore, run: str, other: str | None, *, data: Path | None, folder: Path) -> Gallery:
    """Reads one run or two. run, other: ids or their starts. data: where the slices lie now. folder: for masks.

    Raises InputError for unknown runs, runs without scores, two that can't be paired, and for images that are missing
    or that the runs weren't scored on.
    """
    runs = tuple(find_run(store, name) for name in (run, other) if name is not None)
    pair = None if len(runs) == 1 else _pair(store, *runs)
    images = images_of(store, runs[0], data=data)
    predictions = [read_predictions(store, each, folder=folder) for each in runs]
    ids = predictions[0].scores if pair is None else dict.fromkeys(each.id for each in pair.slices)
    every = [score for of_slice in predictions[0].scores.values() for score in of_slice]
    return Gallery(
        runs=runs,
        pair=pair,
        dice=dice_table(every, score_by=images.data.score_by).score,
        labels=images.source.labels,
        slices=tuple(_slice(predictions, slice_id, images) for slice_id in ids),
    )


def _pair(store: RunStore, first: RunSummary, second: RunSummary) -> RunPair:
    """Raises InputError for one run named twice, for different data, and without a slice in common."""
    if first.run_id == second.run_id:
        raise InputError(f"run {first.run_id} is named twice; name two runs, or one alone")
    return compare_pair(store, first.run_id, second.run_id, split="val")


def _slice(predictions: Sequence[StoredPredictions], slice_id: str, images: RunImages) -> GallerySlice:
    # The true mask has to give the recorded Dice of every run, so that none was scored on another mask.
    panels = [panel_as_scored(each, slice_id, images) for each in predictions]
    panel, scores = panels[0], [each.scores[slice_id] for each in predictions]
    height, width = panel.mask.shape[:2]
    return GallerySlice(
        id=slice_id,
        patient_id=scores[0][0].patient_id,
        tumor_type=panel.tumor_type,
        height=height,
        width=width,
        area_px=int(panel.mask.any(axis=-1).sum()),
        image=as_webp(panel.image),
        areas_px=tuple(int(area) for area in panel.mask.sum(axis=(0, 1))),
        truth=outline_paths(panel.mask),
        dices=tuple(each.dice for each in panels),
        class_dices=tuple(tuple(None if one.is_empty else one.dice for one in of_run) for of_run in scores),
        predicted=tuple(outline_paths(each.predicted) for each in panels),
    )
