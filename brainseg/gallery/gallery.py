"""Reads every validation slice of a run, or of two: a small picture, outlines, and scores.

`page.py` makes the page; nothing is written here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from brainseg.compare.comparison import RunPair, compare_pair
from brainseg.data.encode import as_webp
from brainseg.drawing.outlines import outline_path
from brainseg.errors import InputError
from brainseg.runs.select import find_run
from brainseg.runs.stored_predictions import (
    RunImages,
    StoredPredictions,
    images_of,
    panel_as_scored,
    read_predictions,
)
from brainseg.tracking.protocol import RunStore, RunSummary


@dataclass(frozen=True, kw_only=True)
class GallerySlice:
    """One slice; dices and predicted are in the order of the gallery's runs."""

    id: str
    patient_id: str  # empty if unknown
    tumor_type: str  # empty if unknown
    height: int  # pixels, as stored
    width: int
    area_px: int  # tumour pixels of the true mask
    image: bytes  # WebP
    truth: str  # an SVG path, as are the predicted ones
    dices: tuple[float, ...]
    predicted: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """The slices that every run of the gallery has scored, in the order of ids."""

    runs: tuple[RunSummary, ...]  # one, or two
    pair: RunPair | None  # of two runs
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
    ids = [score.id for score in predictions[0].scores] if pair is None else [each.id for each in pair.slices]
    return Gallery(runs=runs, pair=pair, slices=_slices(predictions, ids, images))


def _pair(store: RunStore, first: RunSummary, second: RunSummary) -> RunPair:
    """Raises InputError for one run named twice, for different data, and without a slice in common."""
    if first.run_id == second.run_id:
        raise InputError(f"run {first.run_id} is named twice; name two runs, or one alone")
    return compare_pair(store, first.run_id, second.run_id, split="val")


def _slices(
    predictions: Sequence[StoredPredictions], ids: Sequence[str], images: RunImages
) -> tuple[GallerySlice, ...]:
    """Reads slice by slice, so that memory holds one at its full size."""
    scores = [{score.id: score for score in each.scores} for each in predictions]
    found = []
    for slice_id in ids:
        # The true mask has to give the recorded Dice of every run, so that none was scored on another mask.
        panels = [panel_as_scored(each, own[slice_id], images) for each, own in zip(predictions, scores, strict=True)]
        score, panel = scores[0][slice_id], panels[0]
        height, width = panel.mask.shape[:2]
        found.append(
            GallerySlice(
                id=slice_id,
                patient_id=score.patient_id,
                tumor_type=score.tumor_type,
                height=height,
                width=width,
                area_px=int(panel.mask.sum()),
                image=as_webp(panel.image),
                truth=outline_path(panel.mask[..., 0]),
                dices=tuple(each.dice for each in panels),
                predicted=tuple(outline_path(each.predicted[..., 0]) for each in panels),
            )
        )
    return tuple(found)
