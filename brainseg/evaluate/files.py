"""Writes the files of an evaluation: tables for people and programs, and pictures."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from brainseg.cli.output import csv_text
from brainseg.drawing.figures import Panel, choose_panels, panel_of, save_dice_by_size, save_panels, save_reliability
from brainseg.evaluate.evaluation import Outcome, RunScores, Scored
from brainseg.evaluate.summary import SIZES, ScoreSummary
from brainseg.evaluate.text import RULES, as_markdown
from brainseg.evaluate.tuning import Choice
from brainseg.evaluate.volume_scores import VOLUME_COLUMNS, volume_means
from brainseg.runs.mask_settings import CHOICE_FILE, CHOICE_SCHEMA
from brainseg.runs.stored_run import StoredRun
from brainseg.scoring import intervals
from brainseg.scoring.calibration import BINS, NEAR_PROBABILITY, Reliability
from brainseg.scoring.slice_score import EVALUATION_COLUMNS, by_slice, slice_dice, to_csv
from brainseg.scoring.surfaces import TOLERANCE_MM, TOLERANCE_PX
from brainseg.tracking.protocol import RunStore

SUMMARY_SCHEMA = 2
GALLERY = 9  # slices: a third each of the worst, the median and the best


def write_files(folder: Path, outcome: Outcome) -> Path:
    """Writes all files of an evaluation into a new folder, and returns that."""
    folder.mkdir()
    further = {
        name: [f"{value:.17g}" for scored in outcome.scored for value in scored.evaluation.further[name]]
        for name in outcome.further
    }
    if len(outcome.scored) > 1:
        further["run_id"] = [scored.id for scored in outcome.scored for _ in scored.evaluation.scores]
    (folder / "scores.csv").write_text(to_csv(outcome.scores, EVALUATION_COLUMNS, further=further), encoding="utf-8")
    if outcome.volumes:
        (folder / "volumes.csv").write_text(_volumes_csv(outcome), encoding="utf-8")
    (folder / "summary.json").write_text(_json(summary_json(outcome)), encoding="utf-8")
    (folder / "summary.md").write_text(as_markdown(outcome), encoding="utf-8")
    choices = {scored.id: _choice_json(scored.choice) for scored in outcome.scored if scored.choice is not None}
    if choices:
        content = {"schema_version": CHOICE_SCHEMA, "runs": choices}
        (folder / CHOICE_FILE).write_text(_json(content), encoding="utf-8")
    save_panels(folder / "gallery.png", _panels(outcome))
    save_dice_by_size(
        folder / "dice_by_size.png",
        sizes=[item.tumor_share for item in outcome.scores],
        dices=[item.dice for item in outcome.scores],
        types=[item.class_name or item.tumor_type for item in outcome.scores],
        classes=tuple(outcome.summaries) if outcome.has_classes else (),
    )
    save_reliability(folder / "reliability.png", _curves(outcome), of_classes=outcome.has_classes)
    return folder


def add_files(store: RunStore, run_id: str, outcome: Outcome, folder: Path) -> None:
    """Adds what `write_files` wrote to the run's artifacts, and the outcome to its tags."""
    store.add(run_id, folder, to=f"evaluation/{outcome.place}", tags=_tags_of(outcome))


def _tags_of(outcome: Outcome) -> dict[str, str]:
    """The tags of the run: its mean Dice, and how masks were made; MLflow's table of runs shows them."""
    settings = dict.fromkeys(scored.settings.text for scored in outcome.scored)
    return {
        f"evaluation_{outcome.place}": outcome.dice.text,
        f"evaluation_{outcome.place}_masks": "; ".join(settings),
    }


def summary_json(outcome: Outcome) -> dict[str, Any]:
    """`summary.json`: every number, with the data, runs and settings behind it."""
    source = outcome.scored[0].split.slices
    further = {name: dataclasses.asdict(each) for name, each in outcome.further.items()}
    summaries = {name: _summary_json(summary) for name, summary in outcome.summaries.items()}
    drawn = next(iter(outcome.summaries.values())).drawn
    calibrations = {
        name: {
            "near_tumor": _reliability_json(each.near_tumor),
            "all_pixels": _reliability_json(each.all_pixels),
        }
        for name, each in outcome.calibrations.items()
    }
    return {
        "schema_version": SUMMARY_SCHEMA,
        "part": outcome.split,
        "data": {
            "name": source.source.name,
            "location": source.source.location,
            "fingerprint": source.fingerprint,
        },
        "runs": [_run_json(scored, run) for scored in outcome.scored for run in scored.runs],
        "rules": {
            "text": list(RULES),
            "surface_tolerance_px": TOLERANCE_PX,
            "size_bounds": {name: bound for name, bound in SIZES.items() if np.isfinite(bound)},
        },
        "intervals": {
            "confidence": intervals.CONFIDENCE,
            "resamples": intervals.RESAMPLES,
            "seed": intervals.SEED,
            "drawn": drawn,
        },
        **(_classes_json(outcome, summaries) if outcome.has_classes else summaries[""]),
        **({"metrics": further} if further else {}),
        **({"volumes": _volumes_json(outcome)} if outcome.volumes else {}),
        "by_run": [_by_run_json(row) for row in outcome.by_run],
        "calibration": {
            "bins": BINS,
            "near_probability": NEAR_PROBABILITY,
            **(calibrations if outcome.has_classes else calibrations[""]),
        },
    }


def _volumes_csv(outcome: Outcome) -> str:
    """A row a volume and class, with the run's id where there are several."""
    with_class, with_run = outcome.has_classes, len(outcome.scored) > 1
    headings = [*VOLUME_COLUMNS, *(["class"] if with_class else []), *(["run_id"] if with_run else [])]
    rows = (
        [
            *(getattr(score, column) for column in VOLUME_COLUMNS),
            *([score.class_name] if with_class else []),
            *([scored.id] if with_run else []),
        ]
        for scored in outcome.scored
        for score in scored.volumes
    )
    return csv_text(headings, rows)


def _volumes_json(outcome: Outcome) -> dict[str, Any]:
    means = {
        name: {key: dataclasses.asdict(mean) for key, mean in of_class.items()}
        for name, of_class in volume_means(outcome.volumes).items()
    }
    return {
        "count": len({score.id for score in outcome.volumes}),
        "surface_tolerance_mm": TOLERANCE_MM,
        **({"classes": means} if outcome.has_classes else means[""]),
    }


def _summary_json(summary: ScoreSummary) -> dict[str, Any]:
    """A class's tables; without what binary masks don't have."""
    content = {key: value for key, value in dataclasses.asdict(summary).items() if key != "drawn"}
    return dict(_without_none("present", content))


def _without_none(name: str, content: Any) -> Any:
    """Nested content without the entries of this name that are None."""
    if isinstance(content, dict):
        own = {key: _without_none(name, value) for key, value in content.items()}
        return {key: value for key, value in own.items() if key != name or value is not None}
    return [_without_none(name, item) for item in content] if isinstance(content, list | tuple) else content


def _classes_json(outcome: Outcome, summaries: dict[str, Any]) -> dict[str, Any]:
    confusion = outcome.confusion
    return {
        "score_by": outcome.scored[0].evaluation.score_by,
        "dice": dataclasses.asdict(outcome.dice),
        "by_type": {name: dataclasses.asdict(dice) for name, dice in outcome.by_type.items()},
        "classes": summaries,
        "confusion": confusion and {"classes": confusion.names, "pixels": confusion.pixels.tolist()},
    }


def _by_run_json(row: RunScores) -> dict[str, Any]:
    if row.group is None:
        return {"name": row.name, "dice": dataclasses.asdict(row.dice)}
    return dict(_without_none("present", dataclasses.asdict(row.group)))


def _choice_json(choice: Choice) -> dict[str, Any]:
    """The choice; its candidates name a class only where there are several."""
    content = dataclasses.asdict(choice)
    for candidate in content["candidates"]:
        if not candidate["class_name"]:
            del candidate["class_name"]
    return content


def _curves(outcome: Outcome) -> dict[str, Reliability]:
    """The reliability curves: near each class; of binary masks near the foreground, and of all pixels."""
    if not outcome.has_classes:
        own = outcome.calibrations[""]
        return {"near the foreground": own.near_tumor, "all pixels": own.all_pixels}
    return {name: each.near_tumor for name, each in outcome.calibrations.items()}


def _run_json(scored: Scored, run: StoredRun) -> dict[str, Any]:
    return {
        "run_id": run.id,
        "averaged_with": [other.id for other in scored.runs if other is not run],
        "name": run.name,
        "folds": run.config.data.folds,
        "fold": run.config.data.fold,
        "slices": len(scored.evaluation.predictions),
        "settings": dataclasses.asdict(scored.settings),
        "tuned": scored.choice is not None,
    }


def _reliability_json(reliability: Reliability) -> dict[str, Any]:
    return {"error": reliability.error} | dataclasses.asdict(reliability)


def _panels(outcome: Outcome) -> list[Panel]:
    scored_of = [(scored, own) for scored in outcome.scored for own in by_slice(scored.evaluation.scores).values()]
    dices = [slice_dice(own) for _, own in scored_of]
    panels = []
    for position in choose_panels(dices, count=GALLERY):
        scored, (item, *_) = scored_of[position]
        predicted = scored.evaluation.predictions[item.id].unpacked()
        source = scored.split.slices.source
        dice = dices[position]
        panels.append(
            panel_of(
                source,
                item.id,
                tumor_type=item.tumor_type,
                dice=dice,
                predicted=predicted,
                channels=scored.runs[0].config.data.channels,
            )
        )
    return panels


def _json(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
