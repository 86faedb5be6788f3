"""The score of a slice and class: the record, and the table in which a run keeps it."""

import csv
import io
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from brainseg.cli.output import csv_text
from brainseg.data.people import whose
from brainseg.scoring.ranking import DiceTable, counts

# What an evaluation averages over slices: field of SliceScore -> title.
MEASURES: Mapping[str, str] = {
    "dice": "Dice",
    "iou": "IoU",
    "precision": "precision",
    "recall": "recall",
    "surface_dice": "surface Dice",
    "hd95_px": "HD95 (px)",
}
# What a training writes of each validation slice, and what `brainseg.evaluate` writes.
TRAINING_COLUMNS = ("id", "patient_id", "tumor_type", "area_px", "dice", "iou")
EVALUATION_COLUMNS = ("id", "patient_id", "tumor_type", "area_px", "predicted_area_px", *MEASURES)
# Column -> the type of its numbers. A table that is read may lack any of them but dice.
NUMBERS: Mapping[str, Callable[[str], Any]] = {
    column: int if column.endswith("area_px") else float for column in EVALUATION_COLUMNS[3:]
}


@dataclass(frozen=True, kw_only=True)
class SliceScore:
    """How well one class of a slice was segmented, at its stored size.

    Where both masks are empty, every share is 1 and the distance 0; where one is, every share is 0 and the
    distance the slice's diagonal. None stands for what wasn't measured, or isn't in the table that was read.
    """

    id: str
    class_name: str = ""  # of the mask; empty for binary masks
    patient_id: str  # empty where unknown
    tumor_type: str  # empty where unknown
    height_px: int | None = None
    width_px: int | None = None
    area_px: int | None = None  # pixels of the true mask
    predicted_area_px: int | None = None
    shared_px: int | None = None  # pixels of both masks
    dice: float  # in [0, 1]
    iou: float | None = None  # in [0, 1]
    precision: float | None = None  # share of the predicted pixels that are true
    recall: float | None = None  # share of the true pixels that are predicted
    surface_dice: float | None = None  # in [0, 1], within TOLERANCE_PX
    hd95_px: float | None = None

    @property
    def tumor_share(self) -> float:
        """Pixels of the true mask as a share of the slice, in [0, 1]; of a slice that `measure` has scored."""
        assert self.area_px is not None
        assert self.height_px is not None
        assert self.width_px is not None
        return self.area_px / (self.height_px * self.width_px)

    @property
    def person(self) -> tuple[str, str]:
        """Whose slice it is; one without a patient id stands for itself."""
        return whose(self.id, self.patient_id)

    @property
    def is_empty(self) -> bool:
        """Whether neither mask has a pixel, as far as is known."""
        return self.area_px == 0 and self.dice == 1


def by_class(scores: Sequence[SliceScore]) -> dict[str, list[SliceScore]]:
    """Class -> its scores, in the order in which the classes come first; one without a name for binary masks."""
    found: dict[str, list[SliceScore]] = defaultdict(list)
    for score in scores:
        found[score.class_name].append(score)
    return dict(found)


def by_slice(scores: Sequence[SliceScore]) -> dict[str, list[SliceScore]]:
    """Slice -> its scores, one a class, in the order in which they come."""
    found: dict[str, list[SliceScore]] = defaultdict(list)
    for score in scores:
        found[score.id].append(score)
    return dict(found)


def slice_dice(scores: Sequence[SliceScore]) -> float:
    """The mean Dice of a slice over the classes that either mask has, in [0, 1]; 1 if neither has any.

    scores: one a class. Most slices have few of many classes: with the others, which agree on nothing, each slice would
    look good.
    """
    dices = [score.dice for score in scores if not score.is_empty]
    return float(np.mean(dices)) if dices else 1.0


def dice_table(scores: Sequence[SliceScore], *, score_by: str) -> DiceTable:
    """The scores of slices as what ranks runs is computed from. score_by: slice or case.

    scores: of each slice one a class, the classes in one order.
    """
    classes = by_class(scores)
    empty = np.array([[score.is_empty for score in of_class] for of_class in classes.values()]).T
    dices = np.array([[score.dice for score in of_class] for of_class in classes.values()]).T
    slices = next(iter(classes.values()))
    return DiceTable(
        dices=dices,
        counted=counts(empty, score_by),
        people=tuple(score.person for score in slices),
        groups=tuple(score.tumor_type for score in slices),
    )


def metric_table(scores: Sequence[SliceScore], values: Sequence[float]) -> DiceTable:
    """A plugin's metric in place of the Dice; a NaN doesn't count. scores: as `dice_table` takes them."""
    found: dict[str, list[float]] = {name: [] for name in by_class(scores)}
    for score, value in zip(scores, values, strict=True):
        found[score.class_name].append(value)
    table = np.array([*found.values()]).T
    counted = ~np.isnan(table)
    return replace(dice_table(scores, score_by="slice"), dices=np.where(counted, table, 0.0), counted=counted)


def by_type(scores: Sequence[SliceScore]) -> dict[str, list[SliceScore]]:
    """Tumour type -> its slices, in the order of types; without the slices whose type is unknown."""
    found: dict[str, list[SliceScore]] = defaultdict(list)
    for score in scores:
        found[score.tumor_type].append(score)
    return {name: found[name] for name in sorted(found) if name}


def count_people(scores: Sequence[SliceScore]) -> int | None:
    """The number of people in the slices, or None if no patient id is known."""
    return len({score.person for score in scores if score.patient_id}) or None


def to_csv(
    scores: Sequence[SliceScore], columns: Sequence[str], *, further: Mapping[str, Sequence[str]] | None = None
) -> str:
    """A row a slice and class, with these columns and further ones of texts; floats so that they read back exactly."""
    further = further or {}
    if any(score.class_name for score in scores):
        further = {"class": [score.class_name for score in scores], **further}
    texts = zip(*further.values(), strict=True) if further else [()] * len(scores)
    rows = ([*(getattr(score, column) for column in columns), *own] for score, own in zip(scores, texts, strict=True))
    return csv_text([*columns, *further], rows)


def from_csv(text: str) -> list[SliceScore]:
    """Reads what `to_csv` of this or an earlier version wrote.

    Raises ValueError for a table without a row, without the columns id, patient_id, tumor_type and dice, or with a cell
    that isn't a number where one is due.
    """
    try:
        scores = [
            SliceScore(
                id=row["id"],
                class_name=row.get("class") or "",
                patient_id=row["patient_id"],
                tumor_type=row["tumor_type"],
                **{column: number(row[column]) for column, number in NUMBERS.items() if row.get(column)},
            )
            for row in csv.DictReader(io.StringIO(text, newline=""))
        ]
    except (KeyError, TypeError, csv.Error) as error:
        raise ValueError("not a table of slices' scores") from error
    if not scores:
        raise ValueError("a table without slices")
    return scores
