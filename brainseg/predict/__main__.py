"""`python -m brainseg.predict`: masks, overlays and a table for new images, by the model of a run.

What can be wrong as a whole is said before TensorFlow starts, with nothing written. Libraries are imported when they
are needed.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brainseg.classes import Labels
from brainseg.cli.command import OneLineParser, command
from brainseg.cli.console import Progress
from brainseg.cli.options import add_mask_options, add_store_options, check_named_once, given_settings, tracking_of
from brainseg.cli.output import check_new_folder, with_folder
from brainseg.config import DataConfig
from brainseg.errors import BrainsegError, InputError

if TYPE_CHECKING:
    from brainseg.predict.images import Outcome
    from brainseg.predict.inputs import InputImage
    from brainseg.runs.models import Segmenter

PROGRAM = "python -m brainseg.predict"
EXAMPLES = f"""examples:
  {PROGRAM} RUN_ID slices -o predicted                 every image in a folder and below
  {PROGRAM} RUN_ID scan.nii.gz -o predicted            a volume: its mask is one, too
  {PROGRAM} liver@champion a.png b.tif -o predicted    by an alias in MLflow's model registry
  {PROGRAM} model.keras slices -o predicted --probabilities 16
  {PROGRAM} RUN_ID slices -o predicted --average OTHER_RUN_ID
"""
SHOWN = 5  # warnings on the terminal; the table has them all


def make_parser() -> argparse.ArgumentParser:
    """The command's arguments; their errors leave the process."""
    parser = OneLineParser(
        prog=PROGRAM,
        description="Predicts masks on images of any size, prepared as in the model's training. Writes masks/, "
        "overlays/ and predictions.csv.",
        epilog=EXAMPLES,
    )
    parser.add_argument("model", metavar="MODEL", help="a run's id, an alias such as liver@champion, or a .keras file")
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGES", help="images or volumes, or folders of them")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="new or empty folder")
    parser.add_argument(
        "--average", metavar="MODEL", action="append", default=[], help="a further model of an ensemble; repeatable"
    )
    parser.add_argument("--probabilities", type=int, choices=(8, 16), metavar="BITS", help="write them too: 8 or 16")
    add_mask_options(parser)
    add_store_options(parser)
    return parser


def _predict(parsed: argparse.Namespace, folder: Path) -> int:
    """Checks, loads, predicts and reports; the exit code. folder: for fetched artifacts."""
    from brainseg.data.image_files import find_images
    from brainseg.predict.inputs import input_images
    from brainseg.runs.models import loaded

    check_new_folder(parsed.output, option="-o")
    _check_outside(parsed.output, parsed.images)
    found = find_images(parsed.images)
    files = found.files
    segmenters, segmenter = _segmenters(parsed, folder)
    if segmenter.data is not None:
        input_images(files, segmenter.data)  # an error comes before TensorFlow starts
    model, data = loaded(segmenters)
    print(f"model    {segmenter.name}, {data.seen_text}")
    print(f"masks    {segmenter.settings.text} ({segmenter.settings_from})")
    if segmenter.statistics is None:
        print("note     what it was trained on isn't known, so that unusual images are not pointed out")
    for note in found.notes:
        print(f"note     {note}")
    outcomes = _write(parsed, input_images(files, data), segmenter, model, data)
    return _tell(outcomes, data.labels, parsed.output)


def _check_outside(output: Path, named: Sequence[Path]) -> None:
    for path in named:
        if path.is_dir() and output.resolve().is_relative_to(path.resolve()):
            raise InputError(
                f"-o {output} must not lie in {path}, or its masks are the next one's images; name a folder elsewhere"
            )


def _segmenters(parsed: argparse.Namespace, folder: Path) -> "tuple[list[Segmenter], Segmenter]":
    """The models that predict, and the ensemble that they are."""
    from brainseg.inference.postprocess import MaskSettings
    from brainseg.runs.models import ensemble_of, segmenter_of

    names = [parsed.model, *parsed.average]
    check_named_once(names, called="the model")
    given = given_settings(parsed)
    MaskSettings(**given)  # an error for a value out of range comes before a server is asked
    tracking = tracking_of(parsed)
    segmenters = [segmenter_of(name, tracking, folder=folder, given=given) for name in names]
    return segmenters, ensemble_of(segmenters, given=given)


def _write(
    parsed: argparse.Namespace, images: "Sequence[InputImage]", segmenter: "Segmenter", model: Any, data: DataConfig
) -> "list[Outcome]":
    from brainseg.predict.images import predict_images
    from brainseg.predict.pictures import Pictures
    from brainseg.predict.table import PredictionTable

    outcomes: list[Outcome] = []
    pictures = Pictures(folder=parsed.output, data=data, probability_bits=parsed.probabilities)
    try:
        with PredictionTable(parsed.output, data.labels) as table, Progress(unit="images") as progress:
            pictures.write_classes()

            def on_outcome(outcome: "Outcome") -> None:
                table.add(outcome)
                outcomes.append(outcome)
                progress("predicting", len(outcomes), len(images))

            predict_images(
                images,
                model=model,
                settings=segmenter.settings,
                statistics=segmenter.statistics,
                pictures=pictures,
                on_outcome=on_outcome,
            )
    except OSError as error:
        raise BrainsegError(
            f"{error.filename or parsed.output} can't be written ({error.strerror or error}); {len(outcomes)} of "
            f"{len(images)} images are done; make room, and predict into another folder"
        ) from error
    return outcomes


def _tell(outcomes: "Sequence[Outcome]", labels: Labels, output: Path) -> int:
    """The summary on stdout, and every image that failed on stderr; the exit code."""
    from brainseg.predict.images import Failed, Predicted
    from brainseg.predict.table import TABLE_FILE

    predicted = [outcome for outcome in outcomes if isinstance(outcome, Predicted)]
    failed = [outcome for outcome in outcomes if isinstance(outcome, Failed)]
    with_class = {name: sum(each.findings[name].area_px > 0 for each in predicted) for name in labels.names}
    foreground = "" if labels.are_named else f", {with_class['']} with foreground"
    print(f"images   {len(predicted)} of {len(outcomes)} predicted{foreground}")
    if labels.are_named:
        print(f"classes  {', '.join(f'{name} in {count}' for name, count in with_class.items())}")
    unusual = [outcome for outcome in predicted if outcome.warnings]
    if unusual:
        print(
            f"warning  {len(unusual)} unlike the images that the model was trained on, so that it may be wrong on them"
        )
        for outcome in unusual[:SHOWN]:
            print(f"         {outcome.image.shown}: {'; '.join(outcome.warnings)}")
        if len(unusual) > SHOWN:
            print(f"         ... and {len(unusual) - SHOWN} more in {TABLE_FILE}")
    print(f"files    {output}")
    for error in dict.fromkeys(failure.error for failure in failed):  # all slices of a volume have the same
        print(f"error: {error}", file=sys.stderr)
    return 1 if failed else 0


main = command(with_folder(_predict), make_parser)

if __name__ == "__main__":
    sys.exit(main())
