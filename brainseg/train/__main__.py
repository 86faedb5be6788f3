"""`python -m brainseg.train`: composes a configuration, trains, and leaves a tracked run.

Everything is composed and checked before Hydra takes over, so that bad input is one line and leaves
nothing behind. TensorFlow and MLflow are imported when a run starts, not before.
"""

import argparse
import contextlib
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

import hydra
from hydra._internal.utils import get_args_parser  # Hydra's own flags: nothing public reads them
from omegaconf import DictConfig

from brainseg import compose
from brainseg.cli.command import exit_code_of, plain_command
from brainseg.cli.output import temporary_folder
from brainseg.errors import ConfigError, Interrupted
from brainseg.train.help import help_text
from brainseg.train.single import PROGRAM, resolved, train_single

if TYPE_CHECKING:
    from brainseg.train.experiment import Result

# Hydra's flags that would compose something else than what is checked.
UNUSED_FLAGS = ("config_path", "config_name", "package", "experimental_rerun")
ONE_OF_FLAGS = ("run", "multirun", "dry_run", "cfg", "info", "shell_completion")


def _command(arguments: list[str]) -> int:
    sys.argv = [sys.argv[0], *arguments]  # Hydra reads them there
    compose.register_local_conf()
    flags = _read_flags()
    if flags.config_dir is not None:
        compose.add_folder(flags.config_dir)
    if flags.help:
        with _ended_by_its_reader():
            print(help_text(flags.overrides))
        return 0
    if flags.dry_run:
        from brainseg.train.dry_run import dry_run

        dry_run(resolved(compose.freeze(flags.overrides), flags.overrides))
        return 0
    overrides = compose.for_hydra(flags.overrides)
    sys.argv[1:] = [*overrides, *flags.others]
    only_prints = flags.hydra_help or flags.shell_completion
    if flags.multirun and not only_prints:
        _run_several(overrides)
        return 0
    if not only_prints:
        resolved(compose.freeze(overrides), overrides)
    with _ended_by_its_reader() if only_prints or flags.cfg or flags.info else nullcontext():
        _run_hydra()
    return 0


def _read_flags() -> argparse.Namespace:
    """Hydra's flags, the overrides, which may stand in any order, and as `others` what else stands in sys.argv.

    Raises ConfigError for what is no flag, and for those that would go round the checks here.
    """
    parser = get_args_parser()
    parser.exit_on_error = False
    parser.add_argument("--dry-run", action="store_true")
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
    chosen = [f"--{name.replace('_', '-')}" for name in ONE_OF_FLAGS if getattr(flags, name)]
    if len(chosen) > 1:
        raise ConfigError(f"{' and '.join(chosen)} can't be used together; leave one out, and give each key one value")
    if flags.resolve and not (flags.cfg or flags.help):
        raise ConfigError("--resolve goes with --cfg job; add that, or leave it out")
    flags.overrides += rest
    flags.others = [item for item in sys.argv[1:] if item not in flags.overrides]
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


def _run_several(overrides: Sequence[str]) -> None:
    """Runs the jobs of `-m`, once all of them are checked."""
    from brainseg.train.multirun import multirun
    from brainseg.train.signals import stop_on_signals

    configs = [resolved(compose.freeze(job), job) for job in compose.expand(overrides)]
    # Hydra writes a multirun.yaml that nothing here needs.
    with temporary_folder() as folder, stop_on_signals(), multirun(configs, overrides, program=PROGRAM):
        sys.argv.insert(1, f"hydra.sweep.dir={folder}")
        _run_hydra()


def _run_hydra() -> None:
    """Does what sys.argv asks Hydra for."""
    application = hydra.main(
        config_path=str(compose.conf_folder()), config_name=compose.config_name(), version_base="1.3"
    )
    application(_job)()


def _job(composed: DictConfig) -> float:
    """One job of Hydra's; its score, which a sweeper of Hydra's may search by."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    job = HydraConfig.get()
    overrides = list(job.overrides.task)
    results: list[Result] = []

    def train() -> int:
        results.append(train_single(resolved(compose.from_dictconfig(composed), overrides), overrides))
        if job.mode == RunMode.MULTIRUN and results[0].stopped_by is not None:
            stopped = Interrupted(results[0].stopped_by)
            print(f"{stopped}; this run is complete, and those after it haven't started")
            raise stopped
        return 0

    with contextlib.chdir(job.runtime.cwd):  # hydra.job.chdir=true moves neither data nor records
        code = exit_code_of(train)
    if code:
        sys.exit(code)  # Hydra would print the traceback of an exception
    return results[0].final_dice


main = plain_command(_command)

if __name__ == "__main__":
    sys.exit(main())
