"""Writes the files of an evaluation: tables for people and programs, and pictures."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from brainseg.drawing.figures import Panel, choose_panels, panel_of, save_dice_by_size, save_panels, save_reliability
from brainseg.evaluate.evaluation import Outcome, Scored
from brainseg.evaluate.summary import SIZES
from brainseg.evaluate.text import RULES, as_markdown
from brainseg.runs.mask_settings import CHOICE_FILE, CHOICE_SCHEMA
from brainseg.runs.stored_run import StoredRun
from brainseg.scoring import intervals
from brainseg.scoring.calibration import BINS, NEAR_PROBABILITY, Reliability
from brainseg.scoring.slice_score import EVALUATION_COLUMNS, to_csv
from brainseg.scoring.surfaces import TOLERANCE_PX

SUMMARY_SCHEMA = 2
GALLERY = 9  # slices: a third each of the worst, the median and the best


def write_files(folder: Path, outcome: Outcome) -> None:
    """Writes all files of an evaluation into an existing folder."""
    further = {}
    if len(outcome.scored) > 1:
        further["run_id"] = [scored.id for scored in outcome.scored for _ in scored.evaluation.scores]
    (folder / "scores.csv").write_text(to_csv(outcome.scores, EVALUATION_COLUMNS, further=further), encoding="utf-8")
    (folder / "summary.json").write_text(_json(summary_json(outcome)), encoding="utf-8")
    (folder / "summary.md").write_text(as_markdown(outcome), encoding="utf-8")
    choices = {scored.id: dataclasses.asdict(scored.choice) for scored in outcome.scored if scored.choice is not None}
    if choices:
        content = {"schema_version": CHOICE_SCHEMA, "runs": choices}
        (folder / CHOICE_FILE).write_text(_json(content), encoding="utf-8")
    save_panels(folder / "gallery.png", _panels(outcome))
    save_dice_by_size(
        folder / "dice_by_size.png",
        sizes=[item.tumor_share for item in outcome.scores],
        dices=[item.dice for item in outcome.scores],
        types=[item.tumor_type for item in outcome.scores],
    )
    save_reliability(
        folder / "reliability.png",
        {"near a tumour": outcome.calibrations[""].near_tumor, "all pixels": outcome.calibrations[""].all_pixels},
    )


def tags_of(outcome: Outcome) -> dict[str, str]:
    """The tags of the run: its mean Dice, and how masks were made; MLflow's table of runs shows them."""
    settings = dict.fromkeys(scored.settings.text for scored in outcome.scored)
    return {
        f"evaluation_{outcome.place}": outcome.summary.overall.measures["dice"].mean.text,
        f"evaluation_{outcome.place}_masks": "; ".join(settings),
    }


def summary_json(outcome: Outcome) -> dict[str, Any]:
    """`summary.json`: every number, with the data, runs and settings behind it."""
    summary = outcome.summary
    source = outcome.scored[0].split.slices
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
            "drawn": summary.drawn,
        },
        **{key: value for key, value in dataclasses.asdict(summary).items() if key != "drawn"},
        "by_run": [dataclasses.asdict(group) for group in outcome.by_run],
        "calibration": {
            "bins": BINS,
            "near_probability": NEAR_PROBABILITY,
            "near_tumor": _reliability_json(outcome.calibrations[""].near_tumor),
            "all_pixels": _reliability_json(outcome.calibrations[""].all_pixels),
        },
    }


def _run_json(scored: Scored, run: StoredRun) -> dict[str, Any]:
    return {
        "run_id": run.id,
        "averaged_with": [other.id for other in scored.runs if other is not run],
        "name": run.name,
        "folds": run.config.data.folds,
        "fold": run.config.data.fold,
        "slices": len(scored.evaluation.scores),
        "settings": dataclasses.asdict(scored.settings),
        "tuned": scored.choice is not None,
    }


def _reliability_json(reliability: Reliability) -> dict[str, Any]:
    return {"error": reliability.error} | dataclasses.asdict(reliability)


def _panels(outcome: Outcome) -> list[Panel]:
    scored_of = [(scored, item) for scored in outcome.scored for item in scored.evaluation.scores]
    panels = []
    for position in choose_panels([item.dice for _, item in scored_of], count=GALLERY):
        scored, item = scored_of[position]
        predicted = scored.evaluation.predictions[item.id].unpacked()
        source = scored.split.slices.source
        panels.append(panel_of(source, item.id, tumor_type=item.tumor_type, dice=item.dice, predicted=predicted))
    return panels


def _json(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
