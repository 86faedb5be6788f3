"""What overrides compose to: once, or as a start for many configurations."""

import copy
import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from hydra import compose as hydra_compose
from hydra.core.override_parser.types import Override
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from brainseg.compose.files import file_named, file_that_chooses
from brainseg.compose.mistakes import explain_value, first_line, unknown_key
from brainseg.compose.overrides import check_value, for_hydra, parse, written
from brainseg.compose.search_path import BASE, config_name, in_conf, options, register_local_conf
from brainseg.compose.typed import CHOOSING, check_settable, check_use, checked, chosen_options, put_options, with_types
from brainseg.config import GROUPS as KEY_GROUPS
from brainseg.config import KEYS, OPTIONS, RunConfig, chosen_parts, flatten, place_of_options
from brainseg.errors import ConfigError
from brainseg.keys import Key, did_you_mean
from brainseg.plugins import as_stored


def freeze(overrides: Sequence[str] = ()) -> RunConfig:
    """The configuration that `overrides` (`model.dropout=0.2`) compose, checked.

    Raises ConfigError for an unknown key or option (with the nearest one), a wrong type or a value out
    of range.
    """
    with file_named(overrides):
        return from_dictconfig(_compose(overrides))


def overrides_of(config: RunConfig) -> list[str]:
    """What `freeze` composes to this configuration: the options of groups that it has chosen, then what differs."""
    known = options()
    groups = {group: getattr(config, group) for group in KEY_GROUPS if "name" in vars(getattr(config, group))}
    chosen = [
        f"{group}={part.name}"
        for group, part in groups.items()
        if part.name in known[group] and part.name != KEYS[f"{group}.name"].default
    ]
    composed = {key: written(value) for key, value in Composition(chosen).values.items()}
    texts = {key: written(value) for key, value in flatten(config).items()}
    return [*chosen, *(f"{key}={text}" for key, text in texts.items() if composed.get(key) != text)]


def from_dictconfig(composed: DictConfig) -> RunConfig:
    """The checked configuration in what Hydra composed. Raises ConfigError."""
    return checked(with_types(composed))


class Composition:
    """What overrides compose to, as a start for many configurations that differ in a few values.

    Hydra runs once, in the constructor. Each `with_values` takes a few milliseconds and gives what
    `freeze([*overrides, "key=value", ...])` would. Groups (`optimizer=sgd`) need Hydra and belong to the overrides.
    """

    def __init__(self, overrides: Sequence[str] = ()) -> None:
        """Raises ConfigError for an unknown key or option and for a wrong type; ranges are checked later."""
        with file_named(overrides):
            self._typed = with_types(_compose(overrides))

    @classmethod
    def stored(cls, values: Mapping[str, Any]) -> "Composition":
        """What has these values under its dotted keys, without Hydra. Raises ConfigError for an unknown key.

        Options that the chosen part doesn't have are those of another one, and are left out.
        """
        made = cls.__new__(cls)
        node = OmegaConf.create()
        for key, value in values.items():
            OmegaConf.update(node, key, value)
        made._typed = with_types(node, drop=True)
        return made

    @property
    def values(self) -> dict[str, Any]:
        """Every key with its value, those of the chosen parts' options among them; ranges are not checked."""
        found = {key: OmegaConf.select(self._typed, key) for key in KEYS}
        for where, (name, kind) in OPTIONS.items():
            given = OmegaConf.select(self._typed, where)
            options = {option: given[option] for option in chosen_options(where, self._typed)}
            stored = as_stored(kind, chosen_parts(kind, found[name]), options)
            found |= {f"{where}.{option}": value for option, value in stored.items()}
        return {
            key: OmegaConf.to_container(value) if OmegaConf.is_config(value) else value for key, value in found.items()
        }

    @property
    def option_keys(self) -> dict[str, Key]:
        """The options of the chosen parts, dotted (`model.options.width`)."""
        return {
            f"{where}.{option}": about
            for where in OPTIONS
            for option, about in chosen_options(where, self._typed).items()
        }

    def with_values(self, values: Mapping[str, bool | int | float | str | None]) -> RunConfig:
        """The configuration with these values under their dotted keys, checked. Raises ConfigError.

        Where they choose another part, the options of the one before are left out.
        """
        changed = copy.deepcopy(self._typed)
        for key in sorted(values, key=lambda key: place_of_options(key) is not None):  # parts before their options
            check_settable(key, values[key], changed)
            try:
                OmegaConf.update(changed, key, values[key], merge=False)
                if key in CHOOSING:
                    put_options(changed, drop=True)
            except OmegaConfBaseException as error:
                raise ConfigError(explain_value(error)) from error
        check_use(values, changed)
        return checked(changed)


def _compose(overrides: Sequence[str]) -> DictConfig:
    register_local_conf()
    lines = for_hydra(overrides)
    parsed = parse(lines)
    with in_conf():
        for override in parsed:
            check_value(override)
        try:
            composed = hydra_compose(config_name(), overrides=lines)
        except (HydraException, OmegaConfBaseException, ValueError) as error:
            raise ConfigError(_explain_composition(error, parsed)) from error
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark
            where = "a file of conf/" if mark is None else mark.name
            line = "" if mark is None else f" (line {mark.line + 1})"
            raise ConfigError(f"{where} is not YAML{line}; correct it") from error
    check_use((override.key_or_group for override in parsed), composed)
    return composed


def _explain_composition(error: Exception, parsed: Sequence[Override]) -> str:
    text = str(error)
    if isinstance(error, MissingConfigException):
        found = re.search(r"Could not find '([^']+)/([^'/]+)'", text)
        if found:
            group, option = found.groups()
            known = [each for each in error.options or [] if each != BASE]
            file = file_that_chooses(group, option, parsed)
            return f"{file}: " * bool(file) + (
                f"{group} must be one of {', '.join(known)}, got {option!r}{did_you_mean(option, known)}"
                if known
                else f"{group}={option}: there is no such file in conf/{group}"
            )
    if isinstance(error, ConfigCompositionException):
        found = re.search(r"Could not (?:override|append|delete)[^']*'([^']+)'", text)
        if found:
            return unknown_key(found.group(1))
        if isinstance(error.__cause__, OmegaConfBaseException):
            return explain_value(error.__cause__)
    return first_line(error)
