"""Which of the user's files a value came from."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import yaml
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from brainseg.compose.overrides import for_hydra, parse, set_by
from brainseg.compose.search_path import GROUPS, OwnFiles, config_name, in_conf
from brainseg.errors import ConfigError


@contextmanager
def file_named(overrides: Sequence[str]) -> Iterator[None]:
    """Puts the user's file in front of an error about a key that gets its value there."""
    try:
        yield
    except ConfigError as error:
        file = _file_of(str(error).partition(" ")[0], overrides)
        if file is None:
            raise
        raise ConfigError(f"{file}: {error}") from error


def _file_of(key: str, overrides: Sequence[str]) -> str | None:
    """The user's file that sets this key; None if the command line or a file that brainseg carries sets it."""
    lines = for_hydra(overrides)
    named = [override.key_or_group for override in parse(lines) if override.key_or_group not in GROUPS]
    if set_by(named, key):
        return None
    with in_conf():
        loader = cast(ConfigLoaderImpl, GlobalHydra.instance().config_loader())
        try:
            defaults = loader.compute_defaults_list(config_name(), lines, RunMode.RUN).defaults
        except (HydraException, OmegaConfBaseException, ConfigError, ValueError, TypeError, yaml.YAMLError):
            return None  # there is none to be read; TypeError: Hydra's, for a number in a list of a group's options
        for default in reversed(defaults):
            path = default.config_path
            if path is None or path.startswith("hydra/") or not loader.repository.config_exists(path):
                continue  # the last: it lies in a folder of `hydra.searchpath`
            content = OmegaConf.to_container(loader._load_single_config(default, loader.repository).config)
            if _has(content, key):
                return _own_file(path)
    return None


def file_that_chooses(group: str, option: str, parsed: Sequence[Override]) -> str | None:
    """The user's file whose defaults choose this option of a group, if it is one that the command line names."""
    chosen = [f"{override.key_or_group}/{override.value()}" for override in parsed if override.key_or_group in GROUPS]
    for file in filter(None, map(_own_file, [*chosen, config_name()])):
        if re.search(rf"{group}: *{re.escape(option)}\b", Path(file).read_text(encoding="utf-8")):
            return file
    return None


def _has(content: Any, key: str) -> bool:
    for part in key.split("."):
        if not isinstance(content, dict) or part not in content:
            return False
        content = content[part]
    return True


def _own_file(config_path: str) -> str | None:
    """The path of what Hydra calls `experiment/mine`, as the user would write it; None unless it is the user's own.

    To be called within `in_conf`.
    """
    loader = cast(ConfigLoaderImpl, GlobalHydra.instance().config_loader())
    source = next((each for each in loader.repository.get_sources() if each.is_config(config_path)), None)
    if source is None or not isinstance(source, OwnFiles):
        return None
    path = Path(source.path, f"{config_path}.yaml")
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
