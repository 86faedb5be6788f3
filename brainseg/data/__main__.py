"""`python -m brainseg.data`: checks, imports, shows and makes data folders.

Libraries are imported inside the commands, so that `--help` answers at once.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from brainseg.cli.command_line import OneLineParser
from brainseg.errors import InputError

if TYPE_CHECKING:
    from brainseg.data.findings import Finding
    from brainseg.data.verify import Report

_SHOWN = 10  # items of a finding in the terminal; --json has them all

_EXAMPLES = """\
examples:
  python -m brainseg.data phantom demo --patients 20        a made-up data set to try things on
  python -m brainseg.data verify demo                       what is wrong with it
  python -m brainseg.data preview demo -o demo.png          what it looks like
  python -m brainseg.data import figshare 1512427.zip tumors
"""


def main(argv: list[str] | None = None) -> int:
    """Runs one command and returns its exit code; argparse leaves by SystemExit (0 help, 2 usage)."""
    arguments = make_parser().parse_args(argv)
    try:
        code = COMMANDS[arguments.command](arguments)
        sys.stdout.flush()
        return code
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        print(f"error: {error.filename} can't be written ({error.strerror}); name another place", file=sys.stderr)
        return InputError.exit_code
    except KeyboardInterrupt:
        print("error: stopped by SIGINT", file=sys.stderr)
        return 130


def _verify(arguments: argparse.Namespace) -> int:
    from brainseg.data.verify import verify

    report = verify(arguments.folder)
    if arguments.json:
        print(json.dumps(report.as_json(), indent=2))
    else:
        print("\n".join(_report_lines(report)))
    return 1 if report.errors else 0


def _import(arguments: argparse.Namespace) -> int:
    from brainseg.data.figshare import import_figshare

    count = import_figshare(arguments.src, arguments.out, progress=_show_progress)
    print(f"{arguments.out}: {count} slices; check them with python -m brainseg.data verify {arguments.out}")
    return 0


def _preview(arguments: argparse.Namespace) -> int:
    from brainseg.data.folder import FolderSource
    from brainseg.data.preview import write_preview

    source = FolderSource(arguments.folder)
    file = arguments.output or Path(f"{source.name}-preview.png")
    write_preview(source, file, count=arguments.count, force=arguments.force)
    print(file)
    return 0


def _phantom(arguments: argparse.Namespace) -> int:
    from brainseg.data.phantom.source import PhantomSource, write_phantom

    source = PhantomSource(patients=arguments.patients, seed=arguments.seed)
    write_phantom(source, arguments.out)
    print(f"{arguments.out}: {len(source.slices())} slices of {arguments.patients} patients")
    return 0


COMMANDS: Mapping[str, Callable[[argparse.Namespace], int]] = {
    "verify": _verify,
    "import": _import,
    "preview": _preview,
    "phantom": _phantom,
}


def make_parser() -> argparse.ArgumentParser:
    """The command's arguments; their errors leave the process."""
    parser = OneLineParser(
        prog="python -m brainseg.data",
        description="Checks, imports, shows and makes folders of slices and masks.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    verify = commands.add_parser(
        "verify",
        help="check a folder, file by file",
        description="Checks a folder, file by file. Exit code: 0 no errors (warnings at most), 1 errors, "
        "2 the folder can't be checked at all.",
    )
    verify.add_argument("folder", type=Path, metavar="DIR", help="holds images/ and masks/, or a folder per patient")
    verify.add_argument("--json", action="store_true", help="print the whole report as JSON")

    importer = commands.add_parser("import", help="turn another format into images, masks and metadata.csv")
    importer.add_argument("format", choices=["figshare"], help="figshare: the MATLAB files of figshare 1512427")
    importer.add_argument("src", type=Path, metavar="SRC", help="folder with .mat or .zip files, or one .zip file")
    importer.add_argument("out", type=Path, metavar="OUT", help="new or empty folder")

    preview = commands.add_parser("preview", help="a contact sheet of slices with the outlines of their masks")
    preview.add_argument("folder", type=Path, metavar="DIR", help="holds images/ and masks/, or a folder per patient")
    preview.add_argument("-o", "--output", type=Path, metavar="FILE", help="default: DIR-preview.png, here")
    preview.add_argument("--count", type=_positive, default=24, metavar="N", help="slices (default: %(default)s)")
    preview.add_argument("--force", action="store_true", help="overwrite FILE")

    phantom = commands.add_parser("phantom", help="write a made-up data set to disk")
    phantom.add_argument("out", type=Path, metavar="OUT", help="new or empty folder")
    phantom.add_argument("--patients", type=_positive, default=70, metavar="N", help="default: %(default)s")
    phantom.add_argument("--seed", type=_not_negative, default=0, metavar="N", help="default: %(default)s")
    return parser


def _report_lines(report: "Report") -> list[str]:
    """The report for a terminal."""
    people = f"{report.patient_ids} patient ids" + (
        f" ({report.people} people)" if report.people < report.patient_ids else ""
    )
    lines = [f"{report.root}: {report.slices} slices of {people}, {report.layout}"]
    lines += _count_line("types", report.tumor_types) + _count_line("sizes", report.sizes)
    if report.tumor_fraction is not None:
        low, median, high = (
            f"{value:.2%}"
            for value in (report.tumor_fraction.min, report.tumor_fraction.median, report.tumor_fraction.max)
        )
        lines.append(f"tumour   {low} to {high} of a slice, median {median}")
    for finding in report.findings:
        lines += _finding_lines(finding)
    lines.append(f"{report.errors} kind(s) of error, {report.warnings} kind(s) of warning")
    return lines


def _finding_lines(finding: "Finding") -> list[str]:
    lines = [f"{finding.severity:<8} {len(finding.items)} {finding.title}: {finding.remedy}"]
    lines += [f"           {item}" for item in finding.items[:_SHOWN]]
    if len(finding.items) > _SHOWN:
        lines.append(f"           ... and {len(finding.items) - _SHOWN} more (all of them with --json)")
    return lines


def _count_line(name: str, counts: Mapping[str, int]) -> list[str]:
    shown = [f"{value} {count}" for value, count in list(counts.items())[:_SHOWN]]
    more = [f"{len(counts) - _SHOWN} more"] if len(counts) > _SHOWN else []
    return [f"{name:<8} {', '.join(shown + more)}"] if counts else []


def _show_progress(done: int, total: int) -> None:
    """One line that is rewritten in a terminal, a line every tenth elsewhere."""
    if sys.stderr.isatty():
        print(f"\r{done} of {total} slices", end="\n" if done == total else "", file=sys.stderr, flush=True)
    elif done == total or done % max(1, total // 10) == 0:
        print(f"{done} of {total} slices", file=sys.stderr, flush=True)


def _positive(text: str) -> int:
    return _at_least(1, text)


def _not_negative(text: str) -> int:
    return _at_least(0, text)


def _at_least(low: int, text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = low - 1
    if value < low:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least {low}, got {text}")
    return value


if __name__ == "__main__":
    sys.exit(main())
