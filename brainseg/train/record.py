"""What is recorded of a run, apart from the metrics of each epoch."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import keras

from brainseg.cli.literal import in_markdown
from brainseg.cli.secrets import mask
from brainseg.cli.tables import Section
from brainseg.config import OPTIONS, RunConfig, chosen_parts, flatten
from brainseg.config_file import to_yaml
from brainseg.data.load import RunData
from brainseg.data.masks import as_file_name
from brainseg.data.split import count_people
from brainseg.data.training_statistics import STATISTICS_FILE, statistics_of
from brainseg.drawing.figures import Panel, choose_panels, panel_of, save_curves, save_panels
from brainseg.errors import Pruned
from brainseg.model.encoders.weights import Weights
from brainseg.model.keras_file import write_model
from brainseg.plugins import is_built_in, origin
from brainseg.scoring.evaluation import Evaluation
from brainseg.scoring.predictions import save_predictions
from brainseg.scoring.slice_score import TRAINING_COLUMNS, by_slice, slice_dice, to_csv
from brainseg.tracking.paths import experiment_in_effect
from brainseg.tracking.protocol import DatasetInfo, Tracker
from brainseg.train.environment import record_environment

RUN_SCHEMA = 1
# Of more classes the table of scores alone keeps a score each: the tracker's pages become slow.
MAX_CLASS_METRICS = 8


def record_start(
    tracker: Tracker, config: RunConfig, data: RunData, *, precision: str, threads: int, weights: Weights | None
) -> None:
    """Everything that is known before the first step. weights: that a new run starts from."""
    slices = data.slices
    told = as_recorded(config)
    tracker.log_params({key: value for key, value in flatten(told).items() if key != "resume"})
    tags = {
        "schema_version": str(RUN_SCHEMA),
        "data": slices.source.name,
        "data_fingerprint": slices.fingerprint,
        "split": config.data.split_by if config.data.split_file is None else "file",
        "split_fingerprint": data.split.fingerprint,
        "patients_on_both_sides": "unknown"
        if data.patients_on_both_sides is None
        else str(data.patients_on_both_sides),
        "precision": precision,
        "threads": str(threads),
    }
    if origins := _origins(config):
        tags["plugins"] = "; ".join(origins)
    if weights is not None:
        tags |= {"weights": weights.about, "weights_sha256": weights.sha256}
    tracker.set_tags(tags)
    tracker.log_dataset(
        DatasetInfo(
            name=slices.source.name,
            fingerprint=slices.fingerprint,
            source=slices.source.location,
            slices=len(slices.slices),
            patients=count_people(slices.slices),
        )
    )
    tracker.log_text(to_yaml(told), "config.yaml")
    tracker.log_text(data.split.to_json(), "split.json")
    tracker.log_text(statistics_of(slices, data.split.train).to_json(), STATISTICS_FILE)
    record_environment(tracker)


def _origins(config: RunConfig) -> list[str]:
    """Where each part of a plugin comes from: `model.name=attention: my_module sha256:DIGEST`."""
    values = flatten(config)
    return [
        f"{key}={name}: {origin(kind, name)}"
        for key, kind in OPTIONS.values()
        for name in chosen_parts(kind, values[key])
        if not is_built_in(kind, name)
    ]


def as_recorded(config: RunConfig) -> RunConfig:
    """The configuration as it may be written down: no password, nothing of a resume, the experiment by its name."""
    uri = None if config.tracking.uri is None else mask(config.tracking.uri)
    tracking = dataclasses.replace(config.tracking, uri=uri, experiment=experiment_in_effect(config.tracking))
    return dataclasses.replace(config, resume=None, tracking=tracking)


def record_result(
    tracker: Tracker,
    config: RunConfig,
    data: RunData,
    *,
    history: Sequence[Mapping[str, float]],
    best_epoch: int,
    evaluation: Evaluation,
    model: keras.Model,
) -> None:
    """Final scores, figures, predictions and the best model, which is in stock Keras layers."""
    best_score = history[best_epoch - 1]["val_dice_image"]
    metrics = {
        "best_val_dice_image": best_score,
        "best_epoch": float(best_epoch),
        "final_dice": evaluation.dice,
        **_class_metrics(evaluation),
        "parameters": float(model.count_params()),
        "seconds_per_image": evaluation.seconds_per_image,
        **{name: value for name, value in evaluation.means().items() if not math.isnan(value)},
    }
    tracker.log_metrics(metrics, epoch=len(history))
    tracker.set_tags({"description": _description(evaluation, data, best_epoch=best_epoch, epochs=len(history))})
    further = {name: [f"{value:.17g}" for value in values] for name, values in evaluation.further.items()}
    tracker.log_text(to_csv(evaluation.scores, TRAINING_COLUMNS, further=further), "val_scores.csv")
    tracker.log_made("val_predictions.npz", lambda path: save_predictions(path, evaluation.predictions))
    tracker.log_made("figures/curves.png", lambda path: save_curves(path, history, best_epoch=best_epoch))
    if config.tracking.predictions:
        panels = _panels(data, evaluation, count=config.tracking.predictions)
        tracker.log_made("figures/predictions.png", lambda path: save_panels(path, panels))
    tracker.log_model(lambda path: write_model(model, path))


def _class_metrics(evaluation: Evaluation) -> dict[str, float]:
    """final_dice of each class, where there are few."""
    by_class = evaluation.dice_by_class()
    if len(by_class) > MAX_CLASS_METRICS:
        return {}
    return {f"final_dice_{as_file_name(name)}": dice for name, dice in by_class.items()}


def record_pruned(tracker: Tracker, *, history: Sequence[Mapping[str, float]], best_epoch: int, pruned: Pruned) -> None:
    """What a run has reached that a sweep ended early: scores and curves, but no model."""
    best_score = history[best_epoch - 1]["val_dice_image"]
    tracker.log_metrics(
        {"best_val_dice_image": best_score, "best_epoch": float(best_epoch)},
        epoch=len(history),
    )
    tracker.set_tags({"pruned_epoch": str(pruned.epoch), "pruned_reason": str(pruned)})
    tracker.log_made("figures/curves.png", lambda path: save_curves(path, history, best_epoch=best_epoch))


def _mean_over(evaluation: Evaluation) -> str:
    classes = len(evaluation.dice_by_class())
    if not classes:
        return "mean over images at 0.5"
    counted = "all images" if evaluation.score_by == "slice" else "images with the class"
    return f"mean over {counted}, then over {classes} classes"


def _panels(data: RunData, evaluation: Evaluation, *, count: int) -> list[Panel]:
    panels = []
    slices = list(by_slice(evaluation.scores).values())
    dices = [slice_dice(own) for own in slices]
    for position in choose_panels(dices, count=count):
        score, *_ = slices[position]
        predicted = evaluation.predictions[score.id].unpacked()
        source, dice = data.slices.source, dices[position]
        panels.append(
            panel_of(
                source,
                score.id,
                tumor_type=score.tumor_type,
                dice=dice,
                predicted=predicted,
                channels=data.config.data.channels,
            )
        )
    return panels


def _description(evaluation: Evaluation, data: RunData, *, best_epoch: int, epochs: int) -> str:
    """What the MLflow UI shows above the run, in Markdown."""
    split = data.split
    lines = [
        f"**Dice {evaluation.dice:.4f}** over {len(split.val)} validation slices "
        f"({_mean_over(evaluation)}, stored size), best epoch {best_epoch} of {epochs}.",
        "",
        f"Trained on {len(split.train)} slices of {in_markdown(data.slices.source.location)}.",
    ]
    if data.patients_on_both_sides:
        lines += ["", f"**{data.patients_on_both_sides} patients have slices on both sides of the split.**"]
    for heading, dices in (("class", evaluation.dice_by_class()), ("tumour type", evaluation.dice_by_type())):
        if dices:
            rows = tuple((name, f"{dice:.4f}") for name, dice in dices.items())
            lines += ["", Section(headings=(heading, "Dice"), rows=rows).markdown()]
    return "\n".join(lines)
