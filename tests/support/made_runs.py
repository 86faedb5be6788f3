"""Runs whose slices, masks and scores are made by hand: what a report and a gallery read, without a training.

Every slice holds a square of 8 by 8 pixels. A prediction is the same square, so many pixels further to the right: of
a shift by k, 8 - k of 8 columns are shared, and Dice is 1 - k / 8.
"""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial
from PIL import Image

from brainseg.config import RunConfig, flatten, from_flat
from brainseg.config_file import to_yaml
from brainseg.errors import Pruned
from brainseg.scoring.calibration import Calibration
from brainseg.scoring.evaluation import Evaluation
from brainseg.scoring.overlap import hard_dice, iou
from brainseg.scoring.predictions import PackedMask, save_predictions
from brainseg.scoring.slice_score import TRAINING_COLUMNS, SliceScore, to_csv
from brainseg.sweep.engine import keys
from brainseg.sweep.engine.storage import open_storage
from brainseg.sweep.study.definition import definition_of
from brainseg.sweep.study.parameter import Parameter
from brainseg.sweep.study.study_file import StudyConfig
from brainseg.tracking import MemoryStore

HEIGHT, WIDTH = 24, 32
SIDE, TOP, LEFT = 8, 4, 5
# Slice -> patient and type. Three people with two slices each.
SLICES = {
    "s1": ("P1", "glioma"),
    "s2": ("P1", "glioma"),
    "s3": ("P2", "meningioma"),
    "s4": ("P2", "meningioma"),
    "s5": ("P3", "pituitary"),
    "s6": ("P3", "pituitary"),
}
EPOCHS = 4
NASTY = "<script>alert(1)</script>"  # the name of a run
SPACE = (
    Parameter(key="optimizer.learning_rate", type="float", low=1e-5, high=1e-1, log=True),
    Parameter(key="model.depth", type="int", low=2, high=5),
    Parameter(key="model.norm", type="categorical", choices=("none", "batch")),
)
DISTRIBUTIONS = {
    "optimizer.learning_rate": FloatDistribution(1e-5, 1e-1, log=True),
    "model.depth": IntDistribution(2, 5),
    "model.norm": CategoricalDistribution(("none", "batch")),
}
BASELINE = {"optimizer.learning_rate": 1e-3, "model.depth": 3, "model.norm": "none"}


def square(shift: int = 0) -> NDArray[np.bool_]:
    mask = np.zeros((HEIGHT, WIDTH), np.bool_)
    mask[TOP : TOP + SIDE, LEFT + shift : LEFT + shift + SIDE] = True
    return mask


def write_slices(folder: Path, slices: Mapping[str, tuple[str, str]] = SLICES) -> Path:
    """The slices as a data folder: a bright square on noise."""
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for number, name in enumerate(slices):
        noise = np.random.default_rng(number).integers(0, 90, (HEIGHT, WIDTH), dtype=np.uint8)
        Image.fromarray(np.where(square(), np.uint8(200), noise)).save(folder / "images" / f"{name}.png")
        Image.fromarray(square().astype(np.uint8) * np.uint8(255)).save(folder / "masks" / f"{name}.png")
    rows = "".join(f"{name},{patient},{kind}\n" for name, (patient, kind) in slices.items())
    (folder / "metadata.csv").write_text(f"id,patient_id,tumor_type\n{rows}")
    return folder


def evaluation(shifts: Sequence[int], slices: Mapping[str, tuple[str, str]] = SLICES) -> Evaluation:
    """The scores of predictions that are shifted so far, a shift for each slice; 24 predicts nothing."""
    predictions = [square(shift) if shift < HEIGHT else np.zeros((HEIGHT, WIDTH), np.bool_) for shift in shifts]
    scores = [
        SliceScore(
            id=name,
            patient_id=patient,
            tumor_type=kind,
            area_px=SIDE**2,
            dice=hard_dice(square(), predicted),
            iou=iou(square(), predicted),
        )
        for (name, (patient, kind)), predicted in zip(slices.items(), predictions, strict=True)
    ]
    packed = {name: PackedMask.of(predicted[..., None]) for name, predicted in zip(slices, predictions, strict=True)}
    return Evaluation(
        scores=tuple(scores),
        score_by="slice",
        predictions=packed,
        calibrations={"": Calibration()},
        confusion=None,
        seconds_per_image=0.0,
    )


def add_run(
    store: MemoryStore,
    folder: Path,
    *,
    name: str,
    shifts: Sequence[int] | None = None,
    scored: Evaluation | None = None,
    slices: Mapping[str, tuple[str, str]] = SLICES,
    split: str = "f" * 64,
    pruned_after: int | None = None,
    tags: dict[str, str] | None = None,
    **changes: object,
) -> str:
    """A run on the slices in `folder`, of half a minute an epoch: its id. shifts: None for one that isn't scored.

    scored: other scores than those of shifts.

    changes: configuration keys, with two underscores for the dot.
    """
    flat = {"data.name": "folder", "data.root": str(folder), "train.epochs": EPOCHS, "run_name": name}
    config = from_flat(flatten(RunConfig()) | flat | {key.replace("__", "."): item for key, item in changes.items()})
    tracker = store.open_tracker(run_name=name, tags=tags)
    with contextlib.suppress(Pruned), tracker:
        tracker.log_params(flatten(config))
        tracker.set_tags(
            {
                "data": "slices",
                "data_fingerprint": "d" * 64,
                "split": "patient",
                "split_fingerprint": split,
                "patients_on_both_sides": "0",
                "precision": "float32",
                "threads": "2",
                "git_commit": "c" * 40,
                "code_changed": "no",
                "source": f"python -m brainseg.train run_name={name}",
            }
        )
        tracker.log_text(to_yaml(config), "config.yaml")
        tracker.log_text('{"host": "here", "memory_gib": 8.0}\n', "environment/machine.json")
        tracker.log_text("numpy==2.0\n", "environment/packages.txt")
        for epoch in range(1, 1 + (pruned_after or EPOCHS)):
            dice = 0.1 * epoch - (0.05 if shifts is None else 0.01 * shifts[0])
            metrics = {"val_dice_image": dice, "val_loss": 1 - dice, "train_loss": 0.9 - dice, "seconds": 30.0}
            tracker.log_metrics(metrics, epoch=epoch)
        if pruned_after is not None:
            raise Pruned(f"pruned after epoch {pruned_after}", epoch=pruned_after)
        made = evaluation(shifts, slices) if shifts is not None else scored
        if made is not None:
            tracker.log_metrics({"final_dice": made.dice}, epoch=EPOCHS)
            tracker.log_text(to_csv(made.scores, TRAINING_COLUMNS), "val_scores.csv")
            file = folder / "val_predictions.npz"
            save_predictions(file, made.predictions)
            tracker.log_file(file)
            file.unlink()
    return tracker.run_id


def add_study(store: MemoryStore, folder: Path, root: Path) -> None:
    """The study `quick`: memory-1 its parent, memory-2 its baseline, memory-7 its best, memory-8 pruned.

    Its journal lies in root/studies.
    """
    tags = {"sweep": "quick", "sweep_id": "1" * 32}
    command = {"source": "python -m brainseg.sweep run quick"}
    with store.open_tracker(run_name="quick", tags=tags | command | {"sweep_role": "parent"}):
        pass
    trials = []
    for number in range(6):
        params = {
            "optimizer.learning_rate": 10.0 ** (number - 6),
            "model.depth": 2 + number % 4,
            "model.norm": ("none", "batch")[number % 2],
        }
        params = params if number else BASELINE
        run_id = add_run(
            store,
            folder,
            name=NASTY if number == 5 else f"quick {number:03d}",
            shifts=[5 - number] * 6 if number else [4] * 6,
            tags=tags | {"trial": str(number)},
            **{key.replace(".", "__"): value for key, value in params.items()},
        )
        trials.append(_trial(params, run_id, value=1 - (5 - number) / 8 if number else 0.5))
    params = BASELINE | {"model.depth": 5}
    run_id = add_run(store, folder, name="quick 006", pruned_after=1, tags=tags | {"trial": "6"}, model__depth=5)
    trials.append(_trial(params, run_id, value=None))
    _write_journal(root, trials)


def _trial(params: dict[str, object], run_id: str, *, value: float | None) -> FrozenTrial:
    attributes: dict[str, object] = {keys.RUN_ID: run_id, keys.LINE: "", keys.EPOCHS: EPOCHS, keys.LEASE: None}
    if value is None:
        attributes[keys.PRUNED] = {"epoch": 1, "reason": "pruned after epoch 1"}
    return create_trial(
        state=TrialState.PRUNED if value is None else TrialState.COMPLETE,
        value=0.1 if value is None else value,
        params=params,
        distributions=DISTRIBUTIONS,
        user_attrs=attributes,
        intermediate_values={1: 0.1} if value is None else dict.fromkeys(range(1, EPOCHS + 1), value),
    )


def _write_journal(root: Path, trials: Sequence[FrozenTrial]) -> None:
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        storage = open_storage(None, root=root, name="quick")
        config = StudyConfig(
            name="quick", metrics={"val_dice_image": "maximize"}, trials=7, space=SPACE, baseline=BASELINE
        )
        study = optuna.create_study(study_name="quick", storage=storage.optuna, direction="maximize")
        study.set_user_attr(keys.STUDY_ID, "1" * 32)
        study.set_user_attr(keys.SETTINGS, {"trials": 7, "failures": 3, "retries": 1})
        study.set_user_attr(keys.TRACKING, [])
        study.set_user_attr(keys.DEFINITION, definition_of(config, data_fingerprint="d" * 64))
        study.add_trials(trials)
    finally:
        optuna.logging.set_verbosity(verbosity)
