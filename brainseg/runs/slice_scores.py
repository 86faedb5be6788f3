"""Reads the scores of a run's slices, as the run recorded them."""

from brainseg.errors import InputError
from brainseg.runs.artifacts import optional_text
from brainseg.scoring.slice_score import SliceScore, from_csv
from brainseg.tracking.protocol import RunRecord, RunStore, RunSummary

# Evaluation split -> the artifact with a row for each of its slices.
SCORE_FILES = {"val": "val_scores.csv", "test": "evaluation/test/scores.csv"}


def score_rule(run: RunSummary | RunRecord) -> str:
    """What the run is ranked by: slice or case. Version 0.1 knew the first alone."""
    return run.params.get("data.score_by", "slice")


def read_scores(store: RunStore, run: RunSummary | RunRecord, *, split: str) -> list[SliceScore]:
    """The scores of a run's slices, of each one a class. Raises InputError if they are missing or can't be read."""
    name = SCORE_FILES[split]
    text = optional_text(store, run.run_id, name)
    if text is None:
        state = run.tags.get("state", run.status.lower())
        remedy = "name a run that was trained to its end"
        if split == "test" and state == "finished":
            remedy = f"score it with python -m brainseg.evaluate {run.run_id} --split test"
        raise InputError(f"run {run.run_id} has no {name} (state: {state}); {remedy}")
    try:
        return from_csv(text)
    except ValueError as error:
        raise InputError(
            f"{name} of run {run.run_id} can't be read; restore the artifact that the run recorded"
        ) from error
