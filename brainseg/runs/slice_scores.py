"""The scores of a run's slices, as it recorded them."""

import csv
from dataclasses import dataclass

from brainseg.data.people import whose
from brainseg.errors import InputError, TrackingError
from brainseg.tracking.mlflow.connection import UnreachableError
from brainseg.tracking.protocol import RunRecord, RunStore, RunSummary

# Part -> the artifact with a row for each of its slices.
SCORE_FILES = {"val": "val_scores.csv", "test": "evaluation/test/scores.csv"}


@dataclass(frozen=True, kw_only=True)
class SliceDice:
    """How well a run did on one slice."""

    id: str
    patient_id: str  # empty where unknown
    tumor_type: str  # empty where unknown
    dice: float

    @property
    def person(self) -> tuple[str, str]:
        """Whose slice it is; one without a patient id stands for itself."""
        return whose(self.id, self.patient_id)


def read_scores(store: RunStore, run: RunSummary | RunRecord, *, part: str) -> list[SliceDice]:
    """The scores of a run's slices, at least one. Raises InputError where there are none, or they can't be read."""
    name = SCORE_FILES[part]
    try:
        text = store.text(run.run_id, name)
    except UnreachableError:
        raise
    except TrackingError as error:
        state = run.tags.get("state", run.status.lower())
        remedy = "name a run that was trained to its end"
        if part == "test" and state == "finished":
            remedy = f"score it with python -m brainseg.evaluate {run.run_id} --split test"
        raise InputError(f"run {run.run_id} has no {name} (state: {state}); {remedy}") from error
    try:
        scores = [
            SliceDice(id=row["id"], patient_id=row["patient_id"], tumor_type=row["tumor_type"], dice=float(row["dice"]))
            for row in csv.DictReader(text.splitlines())
        ]
    except (KeyError, TypeError, ValueError):
        scores = []
    if not scores:
        raise InputError(f"{name} of run {run.run_id} can't be read; restore the artifact that the run recorded")
    return scores
