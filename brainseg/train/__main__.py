"""`python -m brainseg.train`: composes a configuration, trains, and leaves a tracked run.

Everything is composed and checked before Hydra takes over, so that bad input is one line and leaves
nothing behind. TensorFlow and MLflow are imported when a run starts, not before.
"""

import argparse
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import hydra
from hydra._internal.utils import get_args_parser  # Hydra's own flags: nothing public reads them
from omegaconf import DictConfig

from brainseg import compose
from brainseg.cli.command import exit_code_of, plain_command
from brainseg.config import RunConfig
from brainseg.errors import ConfigError, Interrupted, RecordError
from brainseg.train.help import help_text

PROGRAM = "python -m brainseg.train"
# Hydra's flags that would compose something else than what is checked.
UNUSED_FLAGS = ("config_path", "config_name", "config_dir", "package", "experimental_rerun")


def _command(arguments: list[str]) -> int:
    sys.argv = [sys.argv[0], *arguments]  # Hydra reads them there
    compose.register_local_conf()
    flags = _read_flags()
    if flags.help:
        with _ended_by_its_reader():
            print(help_text(flags.overrides))
        return 0
    only_prints = flags.hydra_help or flags.info or flags.shell_completion
    if flags.multirun:
        for job in compose.expand(flags.overrides):
            _resolve(compose.freeze(job), job)
    elif flags.cfg or not only_prints:
        _resolve(compose.freeze(flags.overrides), flags.overrides)
    with _ended_by_its_reader() if only_prints or flags.cfg else nullcontext():
        _run_hydra(multirun=flags.multirun)
    return 0


def _read_flags() -> argparse.Namespace:
    """Hydra's flags and the overrides, which may stand in any order; sys.argv is put into the one that Hydra takes.

    Raises ConfigError for what is no flag, and for those that would go round the checks here.
    """
    parser = get_args_parser()
    parser.exit_on_error = False
    try:
        flags, rest = parser.parse_known_args()
    except argparse.ArgumentError as error:
        raise ConfigError(f"{error.argument_name} can't be used so; --hydra-help lists the flags") from error
    unknown = next((item for item in rest if item.startswith("-")), None)
    if unknown is not None:
        raise ConfigError(f"{unknown} is no flag; a key is written without dashes: train.epochs=3 (--help lists them)")
    for name in UNUSED_FLAGS:
        if getattr(flags, name) is not None:
            raise ConfigError(f"--{name.replace('_', '-')} is not used here; put your own files into ./conf")
    flags.overrides += rest
    options = [item for item in sys.argv[1:] if item not in flags.overrides]
    sys.argv[1:] = [*flags.overrides, *options]
    return flags


@contextmanager
def _ended_by_its_reader() -> Iterator[None]:
    """Ends the process, as it ends any other program, once the reader of its output has seen enough (`head`).

    Hydra would print the traceback of a BrokenPipeError.
    """
    before = signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        yield
        sys.stdout.flush()
    finally:
        signal.signal(signal.SIGPIPE, before)


def _run_hydra(*, multirun: bool) -> None:
    if not multirun:
        _job()
        return
    # Hydra writes a multirun.yaml that nothing here needs.
    folder = tempfile.mkdtemp(prefix="brainseg-")
    sys.argv.insert(1, f"hydra.sweep.dir={folder}")
    try:
        _job()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@hydra.main(config_path=str(compose.conf_folder()), config_name=compose.CONFIG_NAME, version_base="1.3")
def _job(composed: DictConfig) -> None:
    """One job of Hydra's."""
    from hydra.core.hydra_config import HydraConfig

    overrides = list(HydraConfig.get().overrides.task)
    code = exit_code_of(lambda: _train(_resolve(compose.from_dictconfig(composed), overrides), overrides))
    if code:
        sys.exit(code)  # Hydra would print the traceback of an exception


def _resolve(config: RunConfig, overrides: Sequence[str]) -> RunConfig:
    """The configuration to run: on a resume, the stored one with what may change."""
    if config.resume is None:
        return config
    from brainseg.train.checkpoint import Checkpoints

    stored = Checkpoints(Path(config.tracking.root), config.resume).stored_config()
    return compose.resumed(stored, config, overrides)


def _train(config: RunConfig, overrides: Sequence[str]) -> int:
    """Trains, and prints the scores and where to look; the exit code."""
    from brainseg.cli.secrets import mask
    from brainseg.model.runtime import import_tensorflow
    from brainseg.tracking import open_tracker
    from brainseg.tracking.mlflow.connection import check_store, where_to_look
    from brainseg.tracking.mlflow.sync import waiting_note
    from brainseg.train.run_data import load_run_data

    check_store(config.tracking)
    data = load_run_data(config)  # before TensorFlow is imported, so that a bad folder fails at once
    import_tensorflow()
    from brainseg.train.experiment import prepare, run
    from brainseg.train.progress import Terminal

    prepared = prepare(config, data)
    line = mask(compose.as_line(overrides))
    tracker = open_tracker(
        config.tracking,
        run_name=config.run_name or compose.run_name(overrides),
        # A run that goes on keeps the line that it was started with.
        tags={} if config.resume else {"overrides": line, "source": f"{PROGRAM} {line}".rstrip()},
        run_id=config.resume,
    )
    terminal = Terminal()
    try:
        result = run(config, tracker, prepared=prepared, reporter=terminal)
    except Interrupted as stopped:
        terminal.say(f"{stopped}; go on with: {PROGRAM} resume={tracker.run_id}{_kept_elsewhere(config)}")
        raise
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
            f"make room and run: {PROGRAM} resume={result.run_id}{_kept_elsewhere(config)}"
        )
    return 0


def _kept_elsewhere(config: RunConfig) -> str:
    """What a resume must say to find the run again; passwords are masked."""
    from brainseg.cli.secrets import mask

    told = {"tracking.root": (config.tracking.root, "mlruns"), "tracking.uri": (config.tracking.uri, None)}
    return mask("".join(f" {key}={value}" for key, (value, default) in told.items() if value != default))


main = plain_command(_command)

if __name__ == "__main__":
    sys.exit(main())
