"""A single run, from a composed configuration to its record and the lines that tell of it.

TensorFlow and MLflow are imported when it starts, not before.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from brainseg import compose
from brainseg.config import RunConfig
from brainseg.errors import Interrupted, RecordError
from brainseg.keys import as_line

if TYPE_CHECKING:
    from brainseg.train.checkpoint import Checkpoints
    from brainseg.train.experiment import Result

PROGRAM = "python -m brainseg.train"


def resolved(config: RunConfig, overrides: Sequence[str]) -> RunConfig:
    """The configuration to run: on a resume, the stored one with what may change."""
    if config.resume is None:
        return config
    from brainseg.train.checkpoint import Checkpoints

    stored = Checkpoints(Path(config.tracking.root), config.resume).stored_config()
    return compose.resumed(stored, config, overrides)


def train_single(config: RunConfig, overrides: Sequence[str], *, quiet: bool = False) -> "Result":
    """Trains, and prints the scores and where to look. Raises RecordError where a part couldn't be written.

    overrides: what composes this configuration. quiet: print nothing.
    """
    from brainseg.tracking.paths import kept_private

    with kept_private(config.tracking):
        return _train(config, overrides, quiet=quiet)


def _train(config: RunConfig, overrides: Sequence[str], *, quiet: bool) -> "Result":
    from brainseg.cli.secrets import mask
    from brainseg.model.runtime import import_tensorflow
    from brainseg.tracking import open_tracker
    from brainseg.tracking.mlflow.connection import check_store, where_to_look
    from brainseg.tracking.mlflow.surroundings import Place, place_of_runs
    from brainseg.tracking.mlflow.sync import waiting_note
    from brainseg.train.multirun import place_of_job
    from brainseg.train.run_data import load_run_data

    check_store(config.tracking)
    if config.resume is None:
        place = place_of_job(config.tracking) or place_of_runs(config.tracking, is_single=True)
    else:
        place = Place(tracking=config.tracking, run_id=config.resume)
    config = dataclasses.replace(config, tracking=place.tracking)
    data = load_run_data(config)  # before TensorFlow is imported, so that a bad folder fails at once
    import_tensorflow()
    from brainseg.train.experiment import prepare, run
    from brainseg.train.progress import Silent, Terminal

    terminal = Silent() if quiet else Terminal()
    with _told(terminal.say, config, config.resume):
        prepared = prepare(config, data)
    line = mask(as_line(overrides))
    # A run that goes on keeps its name, and the line that it was started with; one that MLflow has made has a name.
    name = config.run_name or ("" if place.run_id else compose.run_name(overrides))
    tags = place.tags if config.resume else {**place.tags, "overrides": line, "source": f"{PROGRAM} {line}".rstrip()}
    with _reserved(config) as checkpoints:
        tracker = open_tracker(config.tracking, run_name="" if config.resume else name, tags=tags, run_id=place.run_id)
        with _told(terminal.say, config, tracker.run_id):
            result = run(config, tracker, prepared=prepared, checkpoints=checkpoints, reporter=terminal)
    terminal.say("")
    terminal.say(f"Dice        {result.final_dice:.4f}  mean over validation slices, at their stored size")
    for heading, dices in (("class", result.dice_by_class), ("type", result.dice_by_type)):
        if dices:
            shown = ", ".join(f"{name} {dice:.4f}" for name, dice in dices.items())
            terminal.say(f"{f'by {heading}':>10}  {shown}")
    terminal.say(f"best epoch  {result.best_epoch}  with val_dice_image {result.best_val_dice_image:.4f}")
    terminal.say(f"run         {result.run_id}")
    terminal.say(f"look at it  {where_to_look(config.tracking, run_id=result.run_id)}")
    if result.undelivered:
        terminal.say(waiting_note(config.tracking, result.undelivered, tracker.problem))
    if result.unwritten:
        raise RecordError(
            f"not everything could be written: {'; '.join(result.unwritten)}; "
            f"make room and run: {_resume_line(config, result.run_id)}"
        )
    return result


@contextlib.contextmanager
def _reserved(config: RunConfig) -> "Iterator[Checkpoints | None]":
    """The checkpoints of a run that goes on, which no other resume may go on with; None for a new run.

    Before the record is opened: a run that has finished meanwhile would be recorded as one that has failed.
    """
    from brainseg.train.checkpoint import Checkpoints

    if config.resume is None:
        yield None
    else:
        with Checkpoints(Path(config.tracking.root), config.resume).reserved() as checkpoints:
            yield checkpoints


@contextlib.contextmanager
def _told(say: Callable[[str], None], config: RunConfig, run_id: str | None) -> Iterator[None]:
    """Says how the run goes on that a signal ends inside the block."""
    try:
        yield
    except Interrupted as stopped:
        say(f"{stopped}; go on with: {_resume_line(config, run_id)}")
        raise


def _resume_line(config: RunConfig, run_id: str | None) -> str:
    return f"{PROGRAM} resume={run_id}{_kept_elsewhere(config)}"


def _kept_elsewhere(config: RunConfig) -> str:
    """What a resume must say to find the run again; passwords are masked."""
    from brainseg.cli.secrets import mask

    told = {"tracking.root": (config.tracking.root, "mlruns"), "tracking.uri": (config.tracking.uri, None)}
    words = [f"{key}={value}" for key, (value, default) in told.items() if value != default]
    return mask(" ".join(["", *map(as_line, ([word] for word in words))]))
