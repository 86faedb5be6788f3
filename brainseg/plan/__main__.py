"""`python -m brainseg.plan`: reads a folder once, and writes an experiment for it, with reasons and costs."""

import argparse
import shlex
import sys
from pathlib import Path

from brainseg.cli.command import OneLineParser, command
from brainseg.cli.output import check_new_file, replacing, writing

PROGRAM = "python -m brainseg.plan"
EXAMPLES = f"""examples:
  {PROGRAM} DIR                                     print an experiment for the images and masks in DIR
  {PROGRAM} DIR -o conf/experiment/tumors.yaml      write it; python -m brainseg.train experiment=tumors trains it
  {PROGRAM} DIR 'data.classes={{car: 1, road: 2}}'    with keys of your own, which it keeps
"""
EXPERIMENTS = Path("conf/experiment")


def make_parser() -> argparse.ArgumentParser:
    """The command's arguments; their errors leave the process."""
    parser = OneLineParser(
        prog=PROGRAM,
        description="Reads a folder of images and masks once, chooses image size, network, split and augmentation for "
        "it, times a few steps here, and writes an experiment with its reasons.",
        epilog=EXAMPLES,
    )
    parser.add_argument(
        "folder", type=Path, metavar="DIR", help="images and masks, as for python -m brainseg.data verify"
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="kept as they are: data.classes, data.channels"
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="conf/experiment/NAME.yaml; default: print it"
    )
    parser.add_argument("--force", action="store_true", help="overwrite FILE")
    return parser


def _plan(parsed: argparse.Namespace) -> int:
    from brainseg.plan.experiment_file import experiment_text
    from brainseg.plan.planning import make_plan, timed

    if parsed.output is not None and parsed.output.parent.exists():  # else the folder is made
        check_new_file(parsed.output, option="-o", force=parsed.force)
    plan = make_plan(parsed.folder, parsed.overrides)
    cost = timed(plan)
    text = experiment_text(
        parsed.folder,
        about=[
            f"{PROGRAM} made this from {plan.found.slices} slices in {parsed.folder}. On this machine:",
            *cost.lines(),
        ],
        groups=plan.groups,
        choices=plan.choices,
    )
    if parsed.output is None:
        print(text, end="")
        return 0
    with writing(parsed.output, option="-o"):
        parsed.output.parent.mkdir(parents=True, exist_ok=True)
        with replacing(parsed.output) as partial:
            partial.write_text(text, encoding="utf-8")
    for line in cost.lines():
        print(line)
    print(f"{parsed.output}; train it with {_command(parsed.output)}")
    return 0


def _command(file: Path) -> str:
    """What trains the experiment in this file."""
    train = "python -m brainseg.train"
    if file.parent.name == "experiment" and file.parent.parent.resolve() == Path("conf").resolve():
        return f"{train} experiment={shlex.quote(file.stem)}"
    return f"{train} experiment={shlex.quote(file.stem)}, once it is in {EXPERIMENTS}/"


main = command(_plan, make_parser, intermixed=True)

if __name__ == "__main__":
    sys.exit(main())
