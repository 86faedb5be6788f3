"""`python -m brainseg.data`: checks, imports, shows and makes data folders.

Libraries are imported inside the commands, so that `--help` answers at once.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from brainseg.cli.command import OneLineParser, command
from brainseg.cli.console import Progress
from brainseg.cli.options import whole_number
from brainseg.cli.output import writing
from brainseg.config import PHANTOM_CLASSES, DataConfig
from brainseg.keys import as_line

if TYPE_CHECKING:
    from brainseg.data.findings import Finding
    from brainseg.data.verify import FolderReport

_SHOWN = 10  # items of a finding in the terminal; --json has them all
_OF_THE_SET = ("no_patient_id", "no_foreground")  # not listed if every slice is an item: the set as a whole is meant

_EXAMPLES = """\
examples:
  python -m brainseg.data phantom demo --patients 20        a made-up data set to try things on
  python -m brainseg.data verify demo                       what is wrong with it
  python -m brainseg.data preview demo -o demo.png          what it looks like
  python -m brainseg.data import figshare 1512427.zip tumors
"""


def _verify(parsed: argparse.Namespace) -> int:
    from brainseg.data.verify import verify
    from brainseg.data.volumes.verify import verify_volumes

    data = _data_of(parsed.overrides)
    report = (verify_volumes if data.is_of_volumes else verify)(parsed.folder, data)
    if parsed.json:
        print(json.dumps(report.as_json(), indent=2))
    else:
        print("\n".join(_report_lines(report)))
    return 1 if report.errors else 0


def _data_of(overrides: Sequence[str]) -> DataConfig:
    """How a training with these overrides reads a folder, which takes the place of the root: it may have any signs."""
    from brainseg.compose import freeze

    return freeze(["data=folder", "data.root=.", *overrides]).data


def _import(parsed: argparse.Namespace) -> int:
    from brainseg.data.figshare import import_figshare

    with Progress(unit="slices") as progress, writing(parsed.out):
        count = import_figshare(parsed.src, parsed.out, progress=progress)
    print(f"{parsed.out}: {count} slices; check them with python -m brainseg.data verify {as_line([str(parsed.out)])}")
    return 0


def _preview(parsed: argparse.Namespace) -> int:
    from brainseg.data.load import source_of_folder
    from brainseg.data.preview import write_preview

    source = source_of_folder(parsed.folder, _data_of(parsed.overrides))
    file = parsed.output or Path(f"{source.name}-preview.png")
    with writing(file):
        write_preview(source, file, count=parsed.count, force=parsed.force)
    for note in source.notes:
        print(f"note: {note}")
    print(file)
    return 0


def _phantom(parsed: argparse.Namespace) -> int:
    from brainseg.data.phantom.source import PhantomSource, write_phantom

    source = PhantomSource(patients=parsed.patients, seed=parsed.seed, kind=parsed.kind)
    with writing(parsed.out):
        write_phantom(source, parsed.out)
    print(f"{parsed.out}: {len(source.slices())} slices of {parsed.patients} patients")
    if classes := PHANTOM_CLASSES[parsed.kind]:
        named = ", ".join(f"{name}: {value}" for name, value in classes.items())
        print(f"train on it with {as_line(['data=folder', f'data.root={parsed.out}', f'data.classes={{{named}}}'])}")
    return 0


def make_parser() -> argparse.ArgumentParser:
    """The command's parsed; their errors leave the process."""
    parser = OneLineParser(
        prog="python -m brainseg.data",
        description="Checks, imports, shows and makes folders of slices and masks.",
        epilog=_EXAMPLES,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    verify = commands.add_parser(
        "verify",
        help="check a folder, file by file",
        description="Checks a folder, file by file, as a training with the same overrides would read it. Exit code: "
        "0 no errors (warnings at most), 1 errors, 2 the folder can't be checked at all.",
    )
    verify.set_defaults(work=_verify)
    _add_folder(verify)
    verify.add_argument("--json", action="store_true", help="print the whole report as JSON")

    importer = commands.add_parser("import", help="turn another format into images, masks and metadata.csv")
    importer.set_defaults(work=_import)
    importer.add_argument("format", choices=["figshare"], help="figshare: the MATLAB files of figshare 1512427")
    importer.add_argument("src", type=Path, metavar="SRC", help="folder with .mat or .zip files, or one .zip file")
    importer.add_argument("out", type=Path, metavar="OUT", help="new or empty folder")

    preview = commands.add_parser("preview", help="a contact sheet of slices with the outlines of their masks")
    preview.set_defaults(work=_preview)
    _add_folder(preview)
    preview.add_argument("-o", "--output", type=Path, metavar="FILE", help="default: DIR-preview.png, here")
    preview.add_argument(
        "--count", type=whole_number(low=1), default=24, metavar="N", help="slices (default: %(default)s)"
    )
    preview.add_argument("--force", action="store_true", help="overwrite FILE")

    phantom = commands.add_parser("phantom", help="write a made-up data set to disk")
    phantom.set_defaults(work=_phantom)
    phantom.add_argument("out", type=Path, metavar="OUT", help="new or empty folder")
    phantom.add_argument("--patients", type=whole_number(low=1), default=70, metavar="N", help="default: %(default)s")
    phantom.add_argument("--seed", type=whole_number(low=0), default=0, metavar="N", help="default: %(default)s")
    phantom.add_argument(
        "--kind", choices=tuple(PHANTOM_CLASSES), default="binary", help="see data.phantom_kind (default: %(default)s)"
    )
    return parser


def _add_folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="DIR", help="holds images with masks or annotations")
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="KEY=VALUE",
        help="as for training, such as data.images=images/{id}.jpg data.masks=gt/{id}.png",
    )


def _report_lines(report: "FolderReport") -> list[str]:
    """The report for a terminal."""
    people = f" of {report.patient_ids} patient ids" if report.patient_ids else ", patients unknown"
    people += f" ({report.people} people)" if report.people < report.patient_ids else ""
    lines = [f"{report.root}: {report.slices} slices{people}, {report.layout}"]
    lines += [f"layout   {report.patterns.line}"] if report.patterns is not None else []
    lines += _count_line("types", report.tumor_types) + _count_line("sizes", report.sizes)
    colour = f"; {report.colour_images} of {report.slices} images hold colour" if report.colour_images else ""
    lines.append(f"channels {', '.join(report.channels)}{colour}")
    lines += _mask_lines(report)
    for finding in report.findings:
        lines += _finding_lines(finding, slices=report.slices)
    lines.append(f"{report.errors} kind(s) of error, {report.warnings} kind(s) of warning")
    return lines


def _mask_lines(report: "FolderReport") -> list[str]:
    """What the masks hold: the values of the files, and how much of the pixels each class has."""
    lines = _count_line("values", {f"{value} in": f"{count} masks" for value, count in report.values.items()})
    if report.classes:
        shares = ", ".join(f"{name} {share:.2%}" for name, share in report.classes.items())
        lines.append(f"classes  {shares} of all pixels")
    each = report.foreground_fraction
    if each is not None:
        lines.append(f"a slice  {each.min:.2%} to {each.max:.2%} foreground, median {each.median:.2%}")
    return lines


def _finding_lines(finding: "Finding", *, slices: int) -> list[str]:
    count = len(finding.items)
    if finding.check in _OF_THE_SET and count == slices:
        return [f"{finding.severity:<8} all {count} {finding.title}: {finding.remedy}"]
    lines = [f"{finding.severity:<8} {count} {finding.title}: {finding.remedy}"]
    lines += [f"           {item}" for item in finding.items[:_SHOWN]]
    if len(finding.items) > _SHOWN:
        lines.append(f"           ... and {len(finding.items) - _SHOWN} more (all of them with --json)")
    return lines


def _count_line(name: str, counts: Mapping[str, int | str]) -> list[str]:
    shown = [f"{value} {count}" for value, count in list(counts.items())[:_SHOWN]]
    more = [f"{len(counts) - _SHOWN} more"] if len(counts) > _SHOWN else []
    return [f"{name:<8} {', '.join(shown + more)}"] if counts else []


main = command(lambda parsed: parsed.work(parsed), make_parser)

if __name__ == "__main__":
    sys.exit(main())
