"""`python -m brainseg.report`: one HTML file that tells which of some runs, or of a study, is best, and why.

What can be wrong is said before anything is written. TensorFlow is never imported.
"""

import argparse
import dataclasses
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from brainseg.cli.command import OneLineParser, command
from brainseg.cli.options import add_store_options, tracking_of
from brainseg.cli.output import check_new_file, with_folder
from brainseg.errors import InputError

if TYPE_CHECKING:
    from brainseg.runs.archive import Archive
    from brainseg.sweep.outcome.facts import StudyFacts
    from brainseg.tracking import RunList, RunStore, RunSummary

PROGRAM = "python -m brainseg.report"
EXAMPLES = f"""examples:
  {PROGRAM} quick                          a study, against its baseline
  {PROGRAM} 1a2b3c 4d5e6f -o two.html      two runs (starts of run ids), the first is the baseline
  {PROGRAM} 1a2b3c 4d5e6f --baseline 778899
  {PROGRAM} quick --data DIR               the slices lie elsewhere now
  {PROGRAM} quick.zip                      a study that `sweep export` has written
"""


def make_parser() -> argparse.ArgumentParser:
    """The command's arguments; their errors leave the process."""
    parser = OneLineParser(
        prog=PROGRAM,
        description="Writes one HTML file about a study or some runs: the best one and its gain over the baseline with "
        "a 95 % interval, curves, parameters, predictions, and all that repeats them. It opens without a network.",
        epilog=EXAMPLES,
    )
    parser.add_argument("names", nargs="+", metavar="STUDY|RUN_ID|FILE.zip", help="one study, or runs by their ids")
    parser.add_argument("-o", "--output", type=Path, default=Path("report.html"), metavar="FILE", help="%(default)s")
    parser.add_argument("--baseline", metavar="RUN_ID", help="default: the study's baseline, or the first run")
    parser.add_argument("--data", type=Path, metavar="DIR", help="where the slices lie now, to draw the predictions")
    parser.add_argument("--storage", help="of the study: a journal file, or postgresql://USER@HOST/DATABASE")
    parser.add_argument("--force", action="store_true", help="replace FILE where it exists")
    add_store_options(parser)
    return parser


def _report(parsed: argparse.Namespace, folder: Path) -> int:
    """Reads, and writes the page; the exit code. folder: for what is fetched."""
    check_new_file(parsed.output, option="-o", force=parsed.force)
    from brainseg.drawing.page import write_page
    from brainseg.report.page import report_html
    from brainseg.report.report import Predictions, make_report
    from brainseg.report.text import answer
    from brainseg.runs.archive import archive_in
    from brainseg.tracking import open_store

    archive = archive_in(parsed.names)
    if archive is not None:
        for option in ("data", "storage"):
            if getattr(parsed, option) is not None:
                raise InputError(f"{archive.path} has the study itself and no predicted masks; leave --{option} out")
        parsed.names = archive.names(parsed.names)
    store = open_store(tracking_of(parsed)) if archive is None else archive.store
    runs, study = _asked(parsed, store, archive)
    baseline = _baseline(parsed, store, runs, study)
    report = make_report(store, runs, study=study, baseline=baseline, data=parsed.data, folder=folder)
    if archive is not None:
        report = dataclasses.replace(report, predictions=Predictions(missing=f"{archive.path.name} has no masks"))
    write_page(parsed.output, report_html(report, made=datetime.now()))
    print(answer(report))
    print(f"report  {parsed.output}")
    return 0


def _asked(
    parsed: argparse.Namespace, store: "RunStore", archive: "Archive | None"
) -> "tuple[RunList, StudyFacts | None]":
    """The runs, and what is known of the study where one is named. Raises InputError for what is neither."""
    from brainseg.report.report import list_of
    from brainseg.runs.select import find_run, find_study

    for name in parsed.names:
        found = find_study(store, name)
        if found is not None and len(parsed.names) > 1:
            raise InputError(f"study {name} must be named alone, got {' '.join(parsed.names)}; make a report of each")
        if found is not None:
            return _study(parsed, name, found, archive)
    if parsed.storage is not None:
        raise InputError("--storage belongs to a study, and runs are named; leave it out")
    return list_of(find_run(store, name) for name in parsed.names), None


def _study(
    parsed: argparse.Namespace, name: str, runs: "RunList", archive: "Archive | None"
) -> "tuple[RunList, StudyFacts]":
    """The study's runs, without those of another one that had its name."""
    from brainseg.report.report import of_study, study_without_storage
    from brainseg.sweep.outcome.facts import facts_in_archive, facts_of_study

    if archive is not None:
        return runs, facts_in_archive(archive, name)
    facts = facts_of_study(name, tracking=tracking_of(parsed), where=parsed.storage)
    facts = facts or study_without_storage(name, runs)
    return of_study(runs, facts), facts


def _baseline(
    parsed: argparse.Namespace, store: "RunStore", runs: "RunList", study: "StudyFacts | None"
) -> "RunSummary | None":
    from brainseg.runs.select import find_run

    if parsed.baseline is not None:
        return find_run(store, parsed.baseline)
    if study is None:
        return find_run(store, parsed.names[0])
    return next((run for run in (*runs.finished, *runs.others) if run.run_id == study.baseline), None)


main = command(with_folder(_report), make_parser)

if __name__ == "__main__":
    sys.exit(main())
