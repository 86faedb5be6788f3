"""`predictions.csv`: a row an image, written as the predictions come."""

import csv
from pathlib import Path
from types import TracebackType
from typing import Self

from brainseg.predict.images import Outcome, Predicted

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


class PredictionTable:
    """A context that makes the folder and the file; each row is on the disk when `add` returns."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / TABLE_FILE

    def __enter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("x", encoding="utf-8", newline="")
        self._writer = csv.DictWriter(self._file, COLUMNS, restval="", lineterminator="\n")
        self._writer.writeheader()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, outcome: Outcome) -> None:
        """Writes the image's row. Raises OSError if it can't be written."""
        row: dict[str, object] = {"path": outcome.file.path, "id": outcome.file.id}
        if isinstance(outcome, Predicted):
            found = outcome.finding
            row |= vars(found) | {
                "area_fraction": f"{found.area_px / (found.width * found.height):.6f}",
                "confidence": "" if found.confidence is None else f"{found.confidence:.4f}",
                "max_probability": f"{found.max_probability:.4f}",
                "warnings": "; ".join(found.warnings),
            }
        else:
            row["error"] = outcome.error
        self._writer.writerow(row)
        self._file.flush()
