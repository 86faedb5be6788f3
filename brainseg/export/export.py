"""The story of an export: writes the model in float32 under a temporary name, runs it, compares, and then keeps it."""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from brainseg.cli.output import check_new_file, writing
from brainseg.config import DataConfig
from brainseg.export.check import Deviation, check, difference, probabilities
from brainseg.export.check_slices import CheckSlices
from brainseg.export.description import describe
from brainseg.export.formats import FORMATS
from brainseg.inference.windows import windows_of
from brainseg.model.stock import is_float32, to_float32
from brainseg.runs.models import Segmenter


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A file that was kept."""

    path: Path
    size_bytes: int
    difference: Deviation  # of the file from the model in float32
    rounding: Deviation | None  # of the model in float32 from the model as trained; None if it was trained in float32


def export(
    segmenter: Segmenter, model: Any, data: DataConfig, *, format_name: str, path: Path, slices: CheckSlices
) -> Exported:
    """Writes the model to a new file. model: as `segmenter.load` gives it, with data.

    Raises BrainsegError if the file's probabilities or masks differ from the model's by more than rounding, and
    if the disk is full; InputError if it can't be written, or exists by now. Nothing is left then.
    """
    kind = FORMATS[format_name]
    plain = to_float32(model)
    expected = probabilities(lambda images: plain(images, training=False), slices)
    with (
        writing(path, option="-o"),
        tempfile.TemporaryDirectory(dir=path.parent, prefix=".brainseg-") as folder,
    ):
        unfinished = Path(folder, path.name)
        kind.write(plain, unfinished, describe(segmenter, data, windows_of(model)))
        found = difference(
            expected, probabilities(kind.runner(unfinished), slices), slices, segmenter.settings, data.labels
        )
        check(found, called=f"the {format_name} file")
        size_bytes = unfinished.stat().st_size
        _keep(unfinished, path)
    rounding = None
    if not is_float32(model):
        trained = probabilities(lambda images: model(images, training=False), slices)
        rounding = difference(trained, expected, slices, segmenter.settings, data.labels)
    return Exported(path=path, size_bytes=size_bytes, difference=found, rounding=rounding)


def _keep(unfinished: Path, path: Path) -> None:
    check_new_file(path, option="-o")  # it may have come into being meanwhile
    os.replace(unfinished, path)
