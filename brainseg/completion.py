"""Completes `brainseg ...` in the shell: commands, options, keys, their values, studies and runs.

    eval "$(register-python-argcomplete brainseg)"     # in ~/.bashrc or ~/.zshrc

On TAB argcomplete runs `brainseg` with the line so far in the environment variable COMP_LINE.
"""

import argparse
import contextlib
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import argcomplete

from brainseg.config import GROUPS, KEYS, OPTIONS, TrackingConfig
from brainseg.keys import Key

OFFERED_RUNS = 50


def complete(modules: Mapping[str, str]) -> None:
    """Answers argcomplete and ends the process. modules: command -> the module with its `make_parser`."""
    command = _command_of(os.environ["COMP_LINE"], int(os.environ["COMP_POINT"]), modules)
    if command is None:
        parser = argparse.ArgumentParser()
        parser.add_argument("command", choices=modules)
    elif command == "train":
        parser = _train_parser()
    else:
        parser = import_module(modules[command]).make_parser()
    _add_completers(parser)
    argcomplete.autocomplete(parser)


def _command_of(line: str, point: int, modules: Mapping[str, str]) -> str | None:
    """The command that the line names, if its name is complete; cuts the line so that it starts with the command."""
    found = re.match(r"\s*\S+\s+(\S+)\s", line[:point])
    if found is None or found[1] not in modules:
        return None
    start = found.start(1)
    os.environ["COMP_LINE"], os.environ["COMP_POINT"] = line[start:], str(point - start)
    return found[1]


def _train_parser() -> argparse.ArgumentParser:
    """In place of Hydra's parser, which exists only while Hydra runs."""
    parser = argparse.ArgumentParser()
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("-m", "--multirun", action="store_true")
    parser.add_argument("--cfg", choices=("job", "hydra", "all"))
    return parser


def _add_completers(parser: argparse.ArgumentParser) -> None:
    for action in parser._actions:  # argparse has no public list of them
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                _add_completers(command)
        elif action.dest in COMPLETERS:
            action.completer = COMPLETERS[action.dest]  # type: ignore[attr-defined]  # where argcomplete looks


def _overrides(prefix: str, parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    """Keys, as `model.dropout=`; behind the sign, the values of that key; of the plugins that the line names, too."""
    key, sign, _value = prefix.partition("=")
    options = _option_keys(getattr(parsed_args, "overrides", None) or []) if _may_be_an_option(key) else {}
    if sign:
        return [f"{key}={value}" for value in (options[key].values if key in options else _values(key))]
    return [f"{key}=" for key in ("experiment", *GROUPS, *KEYS, *options)]


def _may_be_an_option(key: str) -> bool:
    """Whether plugins have to be imported to complete it: it is an option of a part, or names a part."""
    names = {name for name, _ in OPTIONS.values()}
    return key in names or any(key.startswith(f"{where}.") or (key and where.startswith(key)) for where in OPTIONS)


def _option_keys(overrides: list[str]) -> Mapping[str, Key]:
    """The options of the parts that the line has chosen; none where it can't be composed yet."""
    from brainseg.compose import Composition

    with contextlib.suppress(Exception):  # an error would be printed into the line that is being typed
        return Composition([item for item in overrides if "=" in item]).option_keys
    return {}


def _values(key: str) -> Iterable[str]:
    if key == "experiment" or key in GROUPS:
        from brainseg.compose import conf_folder

        groups = [folder / key for folder in (Path("conf"), conf_folder())]
        files = {path.relative_to(group).with_suffix("") for group in groups for path in group.rglob("*.yaml")}
        return sorted(map(str, files))
    if key == "resume":
        return _resumable_runs()
    if key == "model.weights":
        return [*KEYS[key].values, *_models()]
    return KEYS[key].values if key in KEYS else ()


def _study_files(**_: Any) -> list[str]:
    from brainseg.sweep.study.study_file import known_studies

    return known_studies()


def _runs_and_studies(**_: Any) -> list[str]:
    return [*_run_ids(), *_study_files()]


def _runs_studies_and_keys(prefix: str, parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    return [*_runs_and_studies(), *_overrides(prefix, parsed_args)]


def _run_ids(**_: Any) -> list[str]:
    """Finished runs, the best first, then the others, the newest first; none if there is no store yet."""
    from brainseg.tracking import RunFilter, open_store

    with contextlib.suppress(Exception):  # an error would be printed into the line that is being typed
        found = open_store(TrackingConfig()).overview(
            RunFilter(), rank_by="final_dice", total_of="seconds", limit=OFFERED_RUNS
        )
        return [run.run_id for run in (*found.finished, *found.others)]
    return []


def _resumable_runs() -> list[str]:
    """Those with a checkpoint that no process trains from, the newest first."""
    from filelock import FileLock, Timeout

    from brainseg.tracking.paths import HOLDER_LOCK, MANIFEST, tracking_paths

    found = []
    begun = tracking_paths(TrackingConfig()).checkpoints.glob(f"*/{MANIFEST}")
    for manifest in sorted(begun, key=lambda path: path.stat().st_mtime, reverse=True)[:OFFERED_RUNS]:
        with contextlib.suppress(Timeout, OSError), FileLock(manifest.with_name(HOLDER_LOCK), timeout=0):
            found.append(manifest.parent.name)
    return found


def _models(**_: Any) -> list[str]:
    """Aliases of registered models, then runs."""
    from brainseg.tracking import open_store

    aliases: Sequence[str] = ()
    with contextlib.suppress(Exception):  # an error would be printed into the line that is being typed
        aliases = open_store(TrackingConfig()).aliases()
    return [*aliases, *_run_ids()]


# Name of an argument -> what completes it; the shell completes any other by files.
COMPLETERS: Mapping[str, Callable[..., list[str]]] = {
    "overrides": _overrides,
    "study": _study_files,
    "runs": _runs_studies_and_keys,
    "names": _runs_and_studies,
    "baseline": _run_ids,
    "pair": _run_ids,
    "run": _run_ids,
    "other": _run_ids,
    "model": _models,
    "average": _models,
}
