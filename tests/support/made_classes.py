"""A run of slices in colour with two classes, made by hand: what a report and a gallery read, without a training."""

from pathlib import Path

import numpy as np
from made_runs import HEIGHT, NASTY, WIDTH, add_run, square
from numpy.typing import NDArray
from PIL import Image

from brainseg.data.source import SliceInfo
from brainseg.scoring.calibration import Calibration
from brainseg.scoring.evaluation import Evaluation
from brainseg.scoring.measure import measure
from brainseg.scoring.predictions import PackedMask
from brainseg.tracking import MemoryStore

CLASSES = {"car": 1, NASTY: 4}
# Slice -> how far the car's prediction is shifted, and whether it has a road, which is predicted as it is.
SLICES = {"c1": (2, True), "c2": (4, False)}


def masks(shift: int, has_road: bool) -> NDArray[np.bool_]:
    """(height, width, classes): a car of 8 by 8 pixels, and a road of 16 by 2."""
    road = np.zeros((HEIGHT, WIDTH), np.bool_)
    road[20:22, :16] = has_road
    return np.stack([square(shift), road], axis=-1)


def add_class_run(store: MemoryStore, folder: Path, *, name: str, nearer: int = 0) -> str:
    """The run, and its slices in the folder: Dice 0.75 and 1, and 0.5 where there is no road.

    nearer: by how many pixels its cars are shifted less.
    """
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    scores, predictions = [], {}
    for slice_id, (shift, has_road) in SLICES.items():
        truth, predicted = masks(0, has_road), masks(shift - nearer, has_road)
        picture = np.where(truth[..., :1], (200, 40, 40), (30, 60, 90)).astype(np.uint8)
        Image.fromarray(picture).save(folder / "images" / f"{slice_id}.png")
        values = (truth * np.array([*CLASSES.values()])).sum(axis=-1)
        Image.fromarray(values.astype(np.uint8)).save(folder / "masks" / f"{slice_id}.png")
        predictions[slice_id] = PackedMask.of(predicted)
        for place, class_name in enumerate(CLASSES):
            pair = truth[..., place], predicted[..., place]
            scores.append(measure(SliceInfo(id=slice_id), *pair, class_name=class_name, borders=False))
    scored = Evaluation(
        scores=tuple(scores),
        score_by="case",
        predictions=predictions,
        calibrations={class_name: Calibration() for class_name in CLASSES},
        confusion=None,
        seconds_per_image=0.0,
    )
    keys = {"data__classes": CLASSES, "data__channels": "rgb", "data__score_by": "case"}
    return add_run(store, folder, name=name, scored=scored, slices={}, **keys)
