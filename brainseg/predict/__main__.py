"""`python -m brainseg.predict`: masks, overlays and a table for new images, by the model of a run.

What can be wrong as a whole is said before TensorFlow starts, with nothing written. Libraries are imported when they
are needed.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from brainseg.cli.command_line import (
    OneLineParser,
    check_named_once,
    check_output,
    exit_code_with_folder,
    given_settings,
)
from brainseg.config import FLIPS, SHIFTS, TrackingConfig
from brainseg.errors import BrainsegError, InputError
from brainseg.runs.models import averaged, loaded_together, segmenter_of

if TYPE_CHECKING:
    from rich.progress import Progress

    from brainseg.data.image_files import ImageFile
    from brainseg.predict.images import Outcome
    from brainseg.runs.models import Segmenter

PROGRAM = "python -m brainseg.predict"
EXAMPLES = f"""examples:
  {PROGRAM} RUN_ID slices -o predicted            every image in a folder and below
  {PROGRAM} champion a.png b.tif -o predicted     by an alias in MLflow's model registry
  {PROGRAM} model.keras slices -o predicted --probabilities 16
  {PROGRAM} RUN_ID slices -o predicted --average OTHER_RUN_ID
"""
PROGRESS_S = 30.0  # between two lines of progress where there is no terminal
SHOWN = 5  # warnings on the terminal; the table has them all


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; the exit code: 0 done, 1 an image failed, 2 the input is wrong as a whole, 130 after Ctrl-C."""
    parsed = make_parser().parse_args(argv)
    from brainseg.tracking.home import mask

    return exit_code_with_folder(lambda folder: _predict(parsed, folder), masked=mask)


def make_parser() -> argparse.ArgumentParser:
    """The command's arguments; their errors leave the process."""
    parser = OneLineParser(
        prog=PROGRAM,
        description="Predicts tumour masks on images of any size, prepared as in the model's training. Writes "
        "masks/, overlays/ and predictions.csv.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="MODEL", help="a run's id, an alias such as champion, or a .keras file")
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGES", help="PNG, JPEG or TIFF files, or folders")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="new or empty folder")
    parser.add_argument(
        "--average", metavar="MODEL", action="append", default=[], help="a further model: their mean; repeatable"
    )
    parser.add_argument("--probabilities", type=int, choices=(8, 16), metavar="BITS", help="write them too: 8 or 16")
    parser.add_argument("--threshold", type=float, metavar="X", help="a probability from X on is tumour")
    parser.add_argument("--flip", choices=FLIPS, help="mean of the probabilities over these flips")
    parser.add_argument("--shift", choices=SHIFTS, help="mean over shifts by some pixels as well")
    parser.add_argument("--min-area", type=int, metavar="N", help="remove connected parts of less than N pixels")
    parser.add_argument("--root", default=TrackingConfig().root, metavar="DIR", help="tracking.root: %(default)s")
    parser.add_argument("--uri", default=None, help="tracking.uri: an MLflow store or server")
    return parser


def _predict(parsed: argparse.Namespace, folder: Path) -> int:
    """Checks, loads, predicts and tells; the exit code. folder: for what is fetched."""
    from brainseg.data.image_files import find_images

    check_output(parsed.output)
    _check_outside(parsed.output, parsed.images)
    files = find_images(parsed.images)
    segmenters, segmenter = _segmenters(parsed, folder)
    model, size = loaded_together(segmenters)
    print(f"model    {segmenter.name}, at {size}x{size}")
    print(f"masks    {segmenter.settings.text} ({segmenter.settings_from})")
    if segmenter.likeness is None:
        print("note     what it was trained on isn't known, so that unusual images are not pointed out")
    outcomes = _write(parsed, files, segmenter, model, size)
    return _tell(outcomes, parsed.output)


def _check_outside(output: Path, named: Sequence[Path]) -> None:
    for path in named:
        if path.is_dir() and output.resolve().is_relative_to(path.resolve()):
            raise InputError(
                f"-o {output} must not lie in {path}, or its masks are the next one's images; name a folder elsewhere"
            )


def _segmenters(parsed: argparse.Namespace, folder: Path) -> "tuple[list[Segmenter], Segmenter]":
    """The models that predict, and what is told of them together."""
    from brainseg.inference.postprocess import Settings

    names = [parsed.model, *parsed.average]
    check_named_once(names, called="the model")
    given = given_settings(parsed)
    Settings(**given)  # a value out of range is said before a server is asked
    tracking = TrackingConfig(root=parsed.root, uri=parsed.uri)
    segmenters = [segmenter_of(name, tracking, folder=folder, given=given) for name in names]
    return segmenters, averaged(segmenters, given=given)


def _write(
    parsed: argparse.Namespace, files: "Sequence[ImageFile]", segmenter: "Segmenter", model: Any, size: int
) -> "list[Outcome]":
    from brainseg.predict.images import Pictures, predict_images
    from brainseg.predict.table import PredictionTable

    outcomes: list[Outcome] = []
    try:
        with PredictionTable(parsed.output) as table, Bar(len(files)) as bar:

            def on_outcome(outcome: "Outcome") -> None:
                table.add(outcome)
                outcomes.append(outcome)
                bar.done(len(outcomes))

            predict_images(
                files,
                model=model,
                size=size,
                settings=segmenter.settings,
                likeness=segmenter.likeness,
                pictures=Pictures(folder=parsed.output, probability_bits=parsed.probabilities),
                on_outcome=on_outcome,
            )
    except OSError as error:
        raise BrainsegError(
            f"{error.filename or parsed.output} can't be written ({error.strerror or error}); {len(outcomes)} of "
            f"{len(files)} images are done; make room, and predict into another folder"
        ) from error
    return outcomes


def _tell(outcomes: "Sequence[Outcome]", output: Path) -> int:
    """The summary on stdout, and every image that failed on stderr; the exit code."""
    from brainseg.predict.images import Failed, Predicted
    from brainseg.predict.table import TABLE_FILE

    predicted = [outcome for outcome in outcomes if isinstance(outcome, Predicted)]
    failed = [outcome for outcome in outcomes if isinstance(outcome, Failed)]
    found = sum(outcome.area_px > 0 for outcome in predicted)
    print(f"images   {len(predicted)} of {len(outcomes)} predicted, {found} with a tumour")
    unusual = [outcome for outcome in predicted if outcome.warnings]
    if unusual:
        print(
            f"warning  {len(unusual)} unlike the images that the model was trained on, so that it may be wrong on them"
        )
        for outcome in unusual[:SHOWN]:
            print(f"         {outcome.file.path}: {'; '.join(outcome.warnings)}")
        if len(unusual) > SHOWN:
            print(f"         ... and {len(unusual) - SHOWN} more in {TABLE_FILE}")
    print(f"files    {output}")
    for failure in failed:
        print(f"error: {failure.error}", file=sys.stderr)
    return 1 if failed else 0


class Bar:
    """How many images are done: a bar on a terminal, now and then a line elsewhere; on stderr."""

    def __init__(self, images: int) -> None:
        self._images = images
        self._said = time.monotonic()
        self._progress: Progress | None = None

    def __enter__(self) -> Self:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        if console.is_terminal:
            self._progress = Progress(
                TextColumn("predicting"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                console=console,
                transient=True,
            )
            self._progress.add_task("", total=self._images)
            self._progress.start()
        return self

    def done(self, images: int) -> None:
        """So many images are done."""
        if self._progress is not None:
            self._progress.update(self._progress.task_ids[0], completed=images)
        elif time.monotonic() - self._said > PROGRESS_S:
            self._said = time.monotonic()
            print(f"{images} of {self._images} images predicted", file=sys.stderr, flush=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()


if __name__ == "__main__":
    sys.exit(main())
