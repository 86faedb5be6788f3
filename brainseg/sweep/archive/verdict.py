"""Whether a run that was trained again gives the scores that an archive has of it."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from brainseg.runs.archive import Archive
from brainseg.runs.select import SCORE
from brainseg.runs.slice_scores import read_scores, score_rule
from brainseg.scoring.ranking import difference
from brainseg.scoring.slice_score import SliceScore, dice_table
from brainseg.sweep.engine.trial_row import REPORTED, TrialRow
from brainseg.tracking import RunStore

EQUAL, WITHIN, NOT = "equal", "within", "not"
# Metric of a study -> that of its runs, where it has another name.
NAME_IN_RUN = {REPORTED: f"best_{REPORTED}"}
ROUNDING = 1e-9  # of a mean, which may be added up in another order


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What a run has reached."""

    dice: float  # SCORE
    curve: Mapping[int, float]  # epoch -> REPORTED
    scores: Sequence[SliceScore]  # of the validation slices
    score_by: str


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Of a part of the check."""

    part: str
    outcome: str  # EQUAL, WITHIN or NOT
    text: str

    @property
    def line(self) -> str:
        """For people."""
        return f"{self.part}: {self.text}"


def scored(store: RunStore, run_id: str) -> Scored:
    """Reads a finished run. Raises InputError where its scores can't be read."""
    record = store.read(run_id)
    last = {key: values[max(values)] for key, values in record.metrics.items()}
    scores = read_scores(store, record, split="val")
    return Scored(
        dice=last.get(SCORE, float("nan")),
        curve=record.metrics.get(REPORTED, {}),
        scores=scores,
        score_by=score_rule(record),
    )


def contradictions(archive: Archive, row: TrialRow, metrics: Sequence[str]) -> list[str]:
    """Where the archive's scores of a complete trial don't agree with each other; metrics: of the study.

    Raises InputError where the scores can't be read.
    """
    of_run = scored(archive.store, row.run_id)
    mean = dice_table(of_run.scores, score_by=of_run.score_by).score
    found = []
    if not abs(mean - of_run.dice) <= ROUNDING:
        found.append(f"its {SCORE} is {of_run.dice:.4f}, and its slices have {mean:.4f}")
    recorded = archive.store.read(row.run_id).metrics
    for metric, value in zip(metrics, row.values, strict=True):
        values = recorded.get(NAME_IN_RUN.get(metric, metric))
        if values is not None and not abs(values[max(values)] - value) <= ROUNDING:
            found.append(f"trial {row.number} has {metric} {value:.4f}, and its run {values[max(values)]:.4f}")
    return found


def verdict(part: str, before: Scored, again: Scored, *, ids: Mapping[str, str]) -> Verdict:
    """Compares a run with its repetition. ids: of slices, in `before` -> in `again`."""
    found = {(score.id, score.class_name): score for score in again.scores}
    paired = [
        dataclasses.replace(found[ids[score.id], score.class_name], id=score.id, patient_id=score.patient_id)
        for score in before.scores
    ]
    is_same = (
        again.dice == before.dice
        and dict(again.curve) == dict(before.curve)
        and [score.dice for score in paired] == [score.dice for score in before.scores]
    )
    if is_same:
        return Verdict(part=part, outcome=EQUAL, text=f"equal to the digit: Dice {again.dice:.4f}")
    first, second = (dice_table(scores, score_by=before.score_by) for scores in (before.scores, paired))
    known = dataclasses.replace(first.interval(), value=before.dice)
    told = (
        f"Dice {again.dice:.4f} now, {known.text} in the file; difference slice by slice "
        f"{difference(first, second).text}"
    )
    if known.low is not None and known.high is not None and known.low <= again.dice <= known.high:
        return Verdict(part=part, outcome=WITHIN, text=f"within the interval: {told}")
    return Verdict(part=part, outcome=NOT, text=f"not reproduced: {told}")
