"""Hydra composes each choice of groups once in a process of tests: most configurations differ in values alone."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException
from omegaconf import DictConfig

from brainseg.compose import GROUPS
from brainseg.compose.search_path import OwnFiles
from brainseg.config import KEYS

Compose = Callable[[str, list[str]], DictConfig]


def remembering(compose: Compose) -> Compose:
    """The same as `compose`: Hydra's own code puts the values in, and what it refuses goes through `compose` whole."""
    kept: dict[Any, DictConfig] = {}

    def composed(name: str, overrides: list[str]) -> DictConfig:
        parsed = OverridesParser.create().parse_overrides(overrides)
        if not all(map(_is_plain, parsed)):
            return compose(name, overrides)
        groups = [each.input_line or "" for each in parsed if each.key_or_group in GROUPS]
        key = (name, *groups, *_files())
        if key not in kept:
            kept[key] = compose(name, groups)
        result = copy.deepcopy(kept[key])
        try:
            ConfigLoaderImpl._apply_overrides_to_config([each for each in parsed if each.key_or_group in KEYS], result)
        except HydraException:
            return compose(name, overrides)
        return result

    return composed


def _is_plain(override: Override) -> bool:
    """Whether it gives a known key a value, or names the option of a group."""
    if override.type != OverrideType.CHANGE or override.package is not None:
        return False
    name = override.key_or_group
    return name in KEYS or (name in GROUPS and isinstance(override.value(), str))


def _files() -> list[tuple[Path, int, int]]:
    """The files that Hydra composes from, with what changes when one is written."""
    elements = GlobalHydra.instance().config_loader().get_search_path().get_path()
    places = [each.path.partition("://") for each in elements]
    folders = [Path(path) for scheme, _, path in places if scheme in ("file", OwnFiles.scheme())]
    files = [path for folder in folders for path in sorted(folder.rglob("*.yaml"))]
    return [(path, path.stat().st_mtime_ns, path.stat().st_size) for path in files]
