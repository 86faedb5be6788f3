"""`python -m brainseg.export`: the model of a run as an ONNX, LiteRT or Keras file, checked before it is kept.

Errors are found before TensorFlow starts, with nothing written. Libraries are imported when they are needed.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brainseg.cli.command import OneLineParser, command
from brainseg.cli.options import add_store_options, tracking_of, whole_number
from brainseg.cli.output import check_new_file, with_folder
from brainseg.config import DataConfig
from brainseg.errors import InputError

if TYPE_CHECKING:
    from brainseg.export.check_slices import CheckSlices
    from brainseg.export.export import Exported
    from brainseg.runs.models import Segmenter

PROGRAM = "python -m brainseg.export"
EXAMPLES = f"""examples:
  {PROGRAM} RUN_ID --format onnx                    brainseg-RUN.onnx, for ONNX Runtime and others
  {PROGRAM} liver@champion --format litert -o segment.tflite
  {PROGRAM} model.keras --format onnx --data DIR    checked on the slices of a data folder
"""
FORMATS = {"onnx": ".onnx", "litert": ".tflite", "keras": ".keras"}  # as in export.formats, which needs NumPy
SLICES = 32
ID_LENGTH = 8  # of the run's id, in the name of a file


def make_parser() -> argparse.ArgumentParser:
    """The command's arguments; their errors leave the process."""
    parser = OneLineParser(
        prog=PROGRAM,
        description="Writes a model as a file for other programs, in float32. The file is run on slices and compared "
        "with the model before it is kept.",
        epilog=EXAMPLES,
    )
    parser.add_argument("model", metavar="MODEL", help="a run's id, an alias such as liver@champion, or a .keras file")
    parser.add_argument("--format", required=True, choices=FORMATS, help="onnx, litert (TensorFlow Lite) or keras")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="a new file; default: brainseg-RUN.onnx")
    parser.add_argument("--data", type=Path, metavar="DIR", help="a data folder to check on, or where the run's lies")
    parser.add_argument(
        "--slices", type=whole_number(low=1), default=SLICES, metavar="N", help="to check on: %(default)s"
    )
    add_store_options(parser)
    return parser


def _export(parsed: argparse.Namespace, folder: Path) -> int:
    """Checks, loads, exports and reports; the exit code. folder: for fetched artifacts."""
    from brainseg.export.check_slices import choose_slices
    from brainseg.export.formats import check_packages
    from brainseg.inference.windows import windows_of
    from brainseg.runs.models import loaded, segmenter_of

    if parsed.output is not None:
        _check_output(parsed)
    check_packages(parsed.format)
    tracking = tracking_of(parsed)
    segmenter = segmenter_of(parsed.model, tracking, folder=folder, given={})
    path = parsed.output or Path(_default_name(segmenter) + FORMATS[parsed.format])
    check_new_file(path, option="-o")
    model, data = loaded([segmenter])
    slices = choose_slices(segmenter.run, data, windows=windows_of(model), data=parsed.data, count=parsed.slices)
    _tell(segmenter, slices, _written(parsed, segmenter, model, data, path, slices), data, parsed.format)
    return 0


def _check_output(parsed: argparse.Namespace) -> None:
    path, ending = parsed.output, FORMATS[parsed.format]
    if path.suffix != ending:
        raise InputError(f"-o {path} must end in {ending} for --format {parsed.format}; name it {path.stem}{ending}")
    check_new_file(path, option="-o")


def _default_name(segmenter: "Segmenter") -> str:
    return f"brainseg-{segmenter.run.id[:ID_LENGTH]}" if segmenter.run is not None else segmenter.model_file.stem


def _written(
    parsed: argparse.Namespace, segmenter: "Segmenter", model: Any, data: DataConfig, path: Path, slices: "CheckSlices"
) -> "Exported":
    from brainseg.export.export import export
    from brainseg.model.runtime import stderr_set_aside

    with stderr_set_aside():  # converters and runtimes tell how they start
        return export(segmenter, model, data, format_name=parsed.format, path=path, slices=slices)


def _tell(segmenter: "Segmenter", slices: "CheckSlices", exported: "Exported", data: DataConfig, name: str) -> None:
    from brainseg.export.check import ALLOWED, ALLOWED_PX

    print(f"model       {segmenter.name}, {data.seen_text}")
    print(f"format      {name}, float32, batches of any size")
    print(f"checked on  {slices.text}")
    if slices.note is not None:
        print(f"note        {slices.note}")
    print(f"difference  at most {exported.difference.text} (allowed: {ALLOWED:g} and {ALLOWED_PX})")
    if exported.rounding is not None:
        print(f"trained in  bfloat16, whose rounding makes at most {exported.rounding.text}")
    print(f"file        {exported.path}, {exported.size_bytes / 1e6:.1f} MB")


main = command(with_folder(_export), make_parser)

if __name__ == "__main__":
    sys.exit(main())
