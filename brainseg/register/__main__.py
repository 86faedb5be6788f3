"""`python -m brainseg.register`: the model of a run as a version in MLflow's model registry, with a card."""

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from brainseg.cli.command import OneLineParser, command
from brainseg.cli.options import add_store_options, tracking_of
from brainseg.cli.output import with_folder
from brainseg.config import TrackingConfig

if TYPE_CHECKING:
    from brainseg.register.registering import Registered
    from brainseg.tracking import ModelVersion

PROGRAM = "python -m brainseg.register"
EXAMPLES = f"""examples:
  {PROGRAM} RUN_ID                   a new version of the model that is named like the run's experiment
  {PROGRAM} RUN_ID --name liver --alias champion    of liver; brainseg.predict takes it by liver@champion
  {PROGRAM} RUN_ID --again           a further version, with what evaluate --tune has chosen since
"""

FINGERPRINTS = ("data_fingerprint", "split_fingerprint")  # tags: scores on other slices can't be compared


def make_parser() -> argparse.ArgumentParser:
    """The command's arguments; their errors leave the process."""
    parser = OneLineParser(
        prog=PROGRAM,
        description="Makes the model of a finished run a version of a registered model in MLflow, with its scores as "
        "tags and a model card; `python -m brainseg.serve` then answers images with masks.",
        epilog=EXAMPLES,
    )
    parser.add_argument("run", metavar="RUN_ID", help="the run whose best model is registered")
    parser.add_argument("--name", metavar="NAME", help="the registered model; default: the experiment of the run")
    parser.add_argument("--alias", metavar="ALIAS", help="let this alias of the model name the version: champion, say")
    parser.add_argument("--again", action="store_true", help="make a further version of a run that has one")
    add_store_options(parser)
    return parser


def _register(parsed: argparse.Namespace, folder: Path) -> int:
    """Registers, moves the alias and reports; the exit code. folder: for what is fetched and made."""
    from brainseg.register.registering import register_run
    from brainseg.tracking import open_registry, open_store
    from brainseg.tracking.mlflow.registry import check_alias, check_name

    if parsed.alias is not None:
        check_alias(parsed.alias)
    if parsed.name is not None:
        check_name(parsed.name, called="--name")
    tracking = tracking_of(parsed)
    done = register_run(
        open_store(tracking),
        open_registry(tracking),
        parsed.run,
        name=parsed.name,
        alias=parsed.alias,
        again=parsed.again,
        root=parsed.root,
        folder=folder,
    )
    _tell(done, parsed, tracking)
    return 0


def _tell(done: "Registered", parsed: argparse.Namespace, tracking: TrackingConfig) -> None:
    from brainseg.cli.secrets import mask
    from brainseg.register.model_card import serve_command

    version = done.version
    already = "" if done.is_new else ", which was registered before and stays as it is"
    print(f"version   {version.version} of {version.name}, run {parsed.run}{already}")
    print(f"score     {_score(version)}")
    if done.changed is not None:
        print(
            f"note      version {version.version} makes masks with {done.changed.served}; the run's settings are now "
            f"{done.changed.now}: register it with --again to serve these"
        )
    if parsed.alias is not None:
        print(f"alias     {version.name}@{parsed.alias}{_taken_from(done)}")
    print(f"card      {done.artifacts}/model_card.md of the run, and the version's description")
    served = f"/{version.version}" if parsed.alias is None else f"@{parsed.alias}"
    store = ("--root", parsed.root) if parsed.uri is None else ("--uri", mask(parsed.uri))
    print(f"serve it  {serve_command(version.name + served)} {shlex.join(store)}")


def _taken_from(done: "Registered") -> str:
    if done.before is None:
        return ""
    whose = f"run {done.before.run_id}" if done.before.run_id else "of no run"
    is_same = all(done.version.tags.get(tag) == done.before.tags.get(tag) for tag in FINGERPRINTS)
    other = "" if is_same else ", on another split"
    return f", taken from version {done.before.version} ({whose}; {_score(done.before)}{other})"


def _score(version: "ModelVersion") -> str:
    dice = version.tags.get("final_dice")
    return "Dice unknown" if dice is None else f"Dice {dice}"


main = command(with_folder(_register), make_parser)

if __name__ == "__main__":
    sys.exit(main())
