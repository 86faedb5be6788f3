"""`python -m brainseg.register`: the model of a run as a version in MLflow's model registry, with a card.

Nothing is written before the model, as it will be served, has answered a request. Libraries are imported when they
are needed.
"""

import argparse
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from brainseg.cli.command import OneLineParser, command
from brainseg.cli.options import add_store_options, tracking_of
from brainseg.cli.output import with_folder
from brainseg.config import TrackingConfig
from brainseg.errors import BrainsegError, InputError

if TYPE_CHECKING:
    from brainseg.runs.models import Segmenter
    from brainseg.tracking import ModelRegistry, ModelVersion, NewVersion, RunStore

PROGRAM = "python -m brainseg.register"
EXAMPLES = f"""examples:
  {PROGRAM} RUN_ID                       a new version of the registered model
  {PROGRAM} RUN_ID --alias champion      and the alias, which brainseg.predict takes, is moved to it
"""
REGISTERED = "registered"  # the artifact folder of a run: the model that is served, and its card
SERVED = "model"  # in it
FINGERPRINTS = ("data_fingerprint", "split_fingerprint")  # tags: scores on other slices can't be compared


@dataclass(frozen=True, kw_only=True)
class Registered:
    """What came of it."""

    version: "ModelVersion"
    is_new: bool
    before: "ModelVersion | None"  # which the alias named, where that was another one


def make_parser() -> argparse.ArgumentParser:
    """The command's arguments; their errors leave the process."""
    parser = OneLineParser(
        prog=PROGRAM,
        description="Makes the model of a finished run a version of the registered model brainseg in MLflow, with its "
        "scores as tags and a model card; `mlflow models serve` then answers images with masks.",
        epilog=EXAMPLES,
    )
    parser.add_argument("run", metavar="RUN_ID", help="the run whose best model is registered")
    parser.add_argument("--alias", metavar="NAME", help="let this alias name the version: champion, say")
    add_store_options(parser)
    return parser


def _register(parsed: argparse.Namespace, folder: Path) -> int:
    """Registers, moves the alias, and tells; the exit code. folder: for what is fetched and made."""
    from brainseg.tracking import open_registry, open_store
    from brainseg.tracking.mlflow.registry import check_alias

    if parsed.alias is not None:
        check_alias(parsed.alias)
    tracking = tracking_of(parsed)
    store, registry = open_store(tracking), open_registry(tracking)
    _check_finished(store, parsed.run)
    version = registry.of_run(parsed.run)
    is_new = version is None
    if version is None:
        new = _prepared(store, parsed, folder)
        store.add(parsed.run, folder / REGISTERED, to=REGISTERED, tags={})
        version = registry.register(parsed.run, new)
    before = _move_alias(registry, parsed.alias, version)
    _tell(Registered(version=version, is_new=is_new, before=before), parsed, tracking)
    return 0


def _check_finished(store: "RunStore", run_id: str) -> None:
    """Raises InputError for a run that has ended in any other way, or is running; TrackingError for an unknown one."""
    record = store.read(run_id)
    state = record.tags.get("state", record.status.lower())
    if state != "finished" and record.tags.get("sweep_role") != "parent":
        raise InputError(
            f"run {run_id} has no model to register (state: {state}); name a run that was trained to its end"
        )


def _prepared(store: "RunStore", parsed: argparse.Namespace, folder: Path) -> "NewVersion":
    """Writes the served model and the card into a folder, tries the model, and gives the version to be."""
    from brainseg.register.model_card import CARD_FILE, model_card, scores_of, version_tags
    from brainseg.runs.models import segmenter_of_run
    from brainseg.runs.stored_run import read_run
    from brainseg.tracking import NewVersion

    fetched = folder / "run"
    run = read_run(store, parsed.run, root=parsed.root, folder=fetched)
    segmenter = segmenter_of_run(store, parsed.run, root=parsed.root, folder=fetched, given={})
    record = store.read(parsed.run)
    scores = scores_of(store, record)
    card = model_card(record, run, scores, masks=f"{segmenter.settings.text} ({segmenter.settings_from})")
    (folder / REGISTERED).mkdir()
    _write_served(segmenter, parsed.run, folder / REGISTERED / SERVED, folder / "data")
    (folder / REGISTERED / CARD_FILE).write_text(card, encoding="utf-8")
    return NewVersion(artifact=f"{REGISTERED}/{SERVED}", tags=version_tags(record, scores), description=card)


def _write_served(segmenter: "Segmenter", run_id: str, folder: Path, data: Path) -> None:
    """Writes the model that MLflow serves, and asks it for a mask."""
    from brainseg.model.runtime import import_tensorflow

    import_tensorflow()
    from brainseg.register.serving import LOADER, Served, example_request, write_served
    from brainseg.runs.models import load
    from brainseg.tracking.mlflow.model_folders import try_served_folder, write_served_folder

    _, size = load(segmenter)
    served = Served(run_id=run_id, image_size=size, threads=segmenter.threads, settings=segmenter.settings)
    write_served(data, served, model_file=segmenter.model_file, likeness=segmenter.likeness)
    example = example_request(size)
    write_served_folder(folder, data=data, loader=LOADER, example=example, run_id=run_id)
    (answer,) = try_served_folder(folder, example)
    if answer["error"] is not None:
        raise BrainsegError(f"the served model of run {run_id} can't answer ({answer['error']}); please report this")


def _move_alias(registry: "ModelRegistry", alias: str | None, version: "ModelVersion") -> "ModelVersion | None":
    """Lets the alias name the version; the other one that it named, if any."""
    if alias is None:
        return None
    before = registry.with_alias(alias)
    if before is not None and before.version == version.version:
        return None
    registry.set_alias(alias, version)
    return before


def _tell(done: Registered, parsed: argparse.Namespace, tracking: TrackingConfig) -> None:
    from brainseg.cli.secrets import mask
    from brainseg.tracking.home import resolve_uri
    from brainseg.tracking.protocol import REGISTERED_MODEL

    version = done.version
    already = "" if done.is_new else ", which was registered before and stays as it is"
    print(f"version   {version.version} of {REGISTERED_MODEL}, run {parsed.run}{already}")
    print(f"score     {_score(version)}")
    if parsed.alias is not None:
        print(f"alias     {parsed.alias}{_taken_from(done)}")
    print(f"card      {REGISTERED}/model_card.md of the run, and the version's description")
    name = f"{REGISTERED_MODEL}/{version.version}" if parsed.alias is None else f"{REGISTERED_MODEL}@{parsed.alias}"
    print(f"serve it  MLFLOW_TRACKING_URI={shlex.quote(mask(resolve_uri(tracking)))} \\")
    print(f"          mlflow models serve -m models:/{name} --env-manager local --host 127.0.0.1 --port 5001")


def _taken_from(done: Registered) -> str:
    if done.before is None:
        return ""
    whose = f"run {done.before.run_id}" if done.before.run_id else "of no run"
    tags = [
        (done.version.tags.get(tag), done.before.tags.get(tag)) for tag in ("data_fingerprint", "split_fingerprint")
    ]
    other = "" if all(new == old for new, old in tags) else ", on another split"
    return f", taken from version {done.before.version} ({whose}; {_score(done.before)}{other})"


def _score(version: "ModelVersion") -> str:
    dice = version.tags.get("final_dice")
    return "Dice unknown" if dice is None else f"Dice {dice}"


main = command(with_folder(_register), make_parser)

if __name__ == "__main__":
    sys.exit(main())
