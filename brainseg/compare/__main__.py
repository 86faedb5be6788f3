"""`python -m brainseg.compare`: runs by score with 95 % intervals, and the difference of two, slice by slice.

TensorFlow is never imported, and MLflow isn't for runs in an SQLite file.
"""

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from brainseg.cli.command import OneLineParser, command
from brainseg.cli.console import table_console
from brainseg.cli.options import add_store_options, tracking_of
from brainseg.cli.output import check_new_file, replacing, writing
from brainseg.errors import InputError
from brainseg.runs.archive_file import is_archive

if TYPE_CHECKING:
    from brainseg.cli.tables import Console
    from brainseg.runs.archive import Archive
    from brainseg.tracking import RunStore

PROGRAM = "python -m brainseg.compare"
EXAMPLES = f"""examples:
  {PROGRAM}                              the best runs
  {PROGRAM} quick model.depth=5          those of a study, with this depth
  {PROGRAM} 1a2b3c 4d5e6f                these two (starts of run ids)
  {PROGRAM} --pair 1a2b3c 4d5e6f         their difference, slice by slice
  {PROGRAM} quick.zip                    those of a study that `sweep export` has written
"""
SPLITS = ("val", "test")
STDOUT = "-"
PLAIN_WIDTH = 10_000  # characters of a line without a terminal


def make_parser() -> argparse.ArgumentParser:
    """The command's arguments; their errors leave the process."""
    parser = OneLineParser(
        prog=PROGRAM,
        description="Shows runs by their final Dice, with 95 % intervals over people, and what differs between them; "
        "or the paired difference of two runs.",
        epilog=EXAMPLES,
    )
    parser.add_argument(
        "runs",
        nargs="*",
        metavar="RUN_ID|STUDY|FILE.zip|KEY=VALUE",
        help="which runs: any of the ids and studies, all conditions",
    )
    parser.add_argument("--pair", nargs=2, metavar=("A", "B"), help="the difference B - A over the same slices")
    parser.add_argument("--split", choices=SPLITS, help="of --pair: val (default), or test once evaluated")
    parser.add_argument("--part", choices=SPLITS, dest="split", help=argparse.SUPPRESS)  # its name in brainseg 0.1
    parser.add_argument("--top", type=_rows, default=20, metavar="N", help="finished runs shown, or all: %(default)s")
    parser.add_argument("--csv", metavar="FILE", help="write a row a run (of --pair: a slice); - for stdout")
    parser.add_argument("--json", metavar="FILE", help="write everything; - for stdout")
    parser.add_argument("--force", action="store_true", help="replace FILE where it exists")
    parser.add_argument("--experiment", metavar="NAME", help="default: MLFLOW_EXPERIMENT_NAME or _ID, else brainseg")
    add_store_options(parser)
    return parser


def _rows(text: str) -> int | None:
    """A number of rows; None for all."""
    if text == "all":
        return None
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 on, or all, got {text!r}")
    return int(text)


def _compare(parsed: argparse.Namespace) -> int:
    """Reads, prints, and writes the files; the exit code."""
    if parsed.pair and any(not is_archive(word) for word in parsed.runs):
        raise InputError(f"--pair names both runs itself; leave the others out; {PROGRAM} --help shows how it is used")
    if parsed.split and not parsed.pair:
        raise InputError(
            f"--split belongs to --pair A B; a table shows the validation scores; {PROGRAM} --help shows how it is used"
        )
    _check_files(parsed)
    from brainseg.runs.archive import archive_in
    from brainseg.tracking import open_store

    archive = archive_in(parsed.runs)
    store = open_store(tracking_of(parsed)) if archive is None else archive.store
    console = None if STDOUT in (parsed.csv, parsed.json) else table_console(plain_width=PLAIN_WIDTH)
    as_csv, as_json = _pair(parsed, store, console) if parsed.pair else _table(parsed, store, archive, console)
    for name, text in ((parsed.csv, as_csv), (parsed.json, as_json)):
        if name == STDOUT:
            sys.stdout.write(text)
        elif name is not None:
            with writing(Path(name)), replacing(Path(name)) as partial:
                partial.write_text(text, encoding="utf-8")
    return 0


def _table(
    parsed: argparse.Namespace, store: "RunStore", archive: "Archive | None", console: "Console | None"
) -> tuple[str, str]:
    """Prints the table; it as CSV and as JSON."""
    from brainseg.compare.comparison import compare
    from brainseg.compare.files import comparison_csv, comparison_json
    from brainseg.compare.text import print_comparison
    from brainseg.tracking.mlflow.surroundings import with_experiment_of_id
    from brainseg.tracking.paths import experiment_in_effect

    if archive is None:
        tracking = dataclasses.replace(tracking_of(parsed), experiment=parsed.experiment)
        words, experiment = parsed.runs, experiment_in_effect(with_experiment_of_id(tracking))
    else:
        words, experiment = archive.names(parsed.runs), ""
    found = compare(store, words, experiment=experiment, top=parsed.top)
    if console is not None:
        print_comparison(found, console)
    return comparison_csv(found), comparison_json(found)


def _pair(parsed: argparse.Namespace, store: "RunStore", console: "Console | None") -> tuple[str, str]:
    """Prints the difference; it as CSV and as JSON."""
    from brainseg.compare.comparison import compare_pair
    from brainseg.compare.files import pair_csv, pair_json
    from brainseg.compare.text import print_pair

    found = compare_pair(store, *parsed.pair, split=parsed.split or "val")
    if console is not None:
        print_pair(found, console)
    return pair_csv(found), pair_json(found)


def _check_files(parsed: argparse.Namespace) -> None:
    """Raises InputError where a file can't be written, before anything is read."""
    if parsed.csv is not None and parsed.csv == parsed.json:
        raise InputError(f"--csv and --json both name {parsed.csv}; name two files")
    for option in ("csv", "json"):
        name = getattr(parsed, option)
        if name is None or name == STDOUT:
            continue
        check_new_file(Path(name), option=f"--{option}", force=parsed.force)


main = command(_compare, make_parser)

if __name__ == "__main__":
    sys.exit(main())
