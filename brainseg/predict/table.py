"""`predictions.csv`: a row an image, or with named classes a row an image and class, as the predictions come."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from brainseg.classes import Labels
from brainseg.cli.output import csv_row
from brainseg.inference.apply import TumorFinding
from brainseg.predict.images import Failed, Outcome

TABLE_FILE = "predictions.csv"
COLUMNS = (
    "path",
    "id",
    "width",
    "height",
    "area_px",
    "area_fraction",
    "confidence",
    "max_probability",
    "warnings",
    "error",
)


def with_class(columns: Sequence[str]) -> tuple[str, ...]:
    """The columns of a table whose rows are of a class each."""
    place = columns.index("id") + 1
    return (*columns[:place], "class", *columns[place:])


class PredictionTable:
    """A context that makes the folder and the file; each row is on the disk when `add` returns."""

    def __init__(self, folder: Path, labels: Labels) -> None:
        self._path = folder / TABLE_FILE
        self._columns = with_class(COLUMNS) if labels.are_named else COLUMNS

    def __enter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("x", encoding="utf-8", newline="")
        self._file.write(csv_row(self._columns))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, outcome: Outcome) -> None:
        """Writes the image's rows: one, or one for each class. Raises OSError if they can't be written."""
        row = {"path": outcome.image.files, "id": outcome.image.id}
        if isinstance(outcome, Failed):
            self._write(row | {"error": outcome.error})
        else:
            for name, found in outcome.findings.items():
                of_class = {"class": name} if name else {}
                self._write(row | of_class | _cells(found))
        self._file.flush()

    def _write(self, row: Mapping[str, object]) -> None:
        self._file.write(csv_row([row.get(column, "") for column in self._columns]))


def _cells(found: TumorFinding) -> dict[str, object]:
    return vars(found) | {
        "area_fraction": f"{found.area_px / (found.width * found.height):.6f}",
        "confidence": "" if found.confidence is None else f"{found.confidence:.4f}",
        "max_probability": f"{found.max_probability:.4f}",
        "warnings": "; ".join(found.warnings),
    }
