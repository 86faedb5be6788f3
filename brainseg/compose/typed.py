"""Composed values with their types: those of `RunConfig`, and those of the options that the chosen parts have."""

import copy
import dataclasses
import functools
from collections.abc import Iterable
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from brainseg.compose.mistakes import KINDS, explain_value, unknown_key, without_use
from brainseg.compose.overrides import HELPERS
from brainseg.config import KEYS, OPTIONS, RunConfig, chosen_parts, loss_terms, place_of_options, texts
from brainseg.errors import ConfigError
from brainseg.keys import Key, as_text
from brainseg.plugins import load, options_of, refuse_unknown

CHOOSING = {name for name, _ in OPTIONS.values()}  # keys that name parts


def with_types(composed: DictConfig, *, drop: bool = False) -> DictConfig:
    """The composed values as a node with the types of `RunConfig` and of the chosen parts; imports the plugins.

    drop: see `put_options`. Raises ConfigError for a value of another type, an unknown part or option, and a plugin
    that can't be imported.
    """
    try:
        for key in KEYS:
            _check_switch(key, KEYS[key], OmegaConf.select(composed, key))
        helpers, composed = _parted(composed)
        typed = OmegaConf.merge(_types(), composed)
        assert isinstance(typed, DictConfig)
        if helpers is not None:
            with open_dict(typed):
                typed[HELPERS] = helpers
        load(texts("plugins", OmegaConf.select(typed, "plugins")))
        put_options(typed, drop=drop)
    except OmegaConfBaseException as error:
        raise ConfigError(explain_value(error)) from error
    return typed


def _parted(composed: DictConfig) -> tuple[Any, DictConfig]:
    """The node of keys of one's own, or None; and all else, whose types are known."""
    if HELPERS not in composed:
        return None, composed
    rest = copy.deepcopy(composed)
    with open_dict(rest):
        return rest.pop(HELPERS), rest


def chosen_options(where: str, typed: DictConfig) -> dict[str, Key]:
    """The options that the parts chosen for `where` have. Raises ConfigError for an unknown part."""
    name, kind = OPTIONS[where]
    value = OmegaConf.select(typed, name)
    KEYS[name].check(name, value)
    return options_of(kind, chosen_parts(kind, value))


def put_options(typed: DictConfig, *, drop: bool) -> None:
    """Gives the options of the chosen parts their types, and those that are left out their defaults.

    drop: leave out the options of other parts, which are refused else.
    """
    for where, (name, kind) in OPTIONS.items():
        known = chosen_options(where, typed)
        node = OmegaConf.select(typed, where)
        if not isinstance(node, DictConfig):
            raise ConfigError(f"{where} must be {{option: value}}, got {as_text(node)}")
        given = cast(dict[Any, Any], OmegaConf.to_container(node))
        if not drop:
            refuse_unknown(where, chosen_parts(kind, OmegaConf.select(typed, name)), map(str, given), known)
        if not known and not given:
            continue
        types = [
            (option, about.type, dataclasses.field(default_factory=functools.partial(copy.copy, about.default)))
            for option, about in known.items()
        ]
        schema = OmegaConf.structured(dataclasses.make_dataclass("Options", types)) if types else {}
        OmegaConf.update(typed, where, schema, merge=False)
        for option, value in given.items():
            if option in known:
                _check_switch(f"{where}.{option}", known[option], value)
                OmegaConf.update(typed, f"{where}.{option}", value, merge=False)


@functools.cache
def _types() -> DictConfig:
    """`RunConfig` as a node, which a merge copies."""
    structured: DictConfig = OmegaConf.structured(RunConfig)
    # A frozen dataclass makes its node read-only, and nothing could be merged into it.
    OmegaConf.set_readonly(structured, False)
    for key in structured:
        if OmegaConf.is_config(structured[key]):
            OmegaConf.set_readonly(structured[key], False)
    for where in OPTIONS:  # of the default parts
        OmegaConf.update(structured, where, {}, merge=False)
    return structured


def checked(typed: DictConfig) -> RunConfig:
    """The dataclasses of a typed node; making them checks the values. Raises ConfigError."""
    try:
        if HELPERS in typed:
            typed = copy.deepcopy(typed)
            OmegaConf.resolve(typed)
            with open_dict(typed):
                del typed[HELPERS]
        for where in OPTIONS:
            if options := OmegaConf.to_container(OmegaConf.select(typed, where)):
                OmegaConf.update(typed, where, options, merge=False)
        config = OmegaConf.to_object(typed)
    except OmegaConfBaseException as error:
        raise ConfigError(explain_value(error)) from error
    assert isinstance(config, RunConfig)
    return config


def _check_switch(key: str, about: Key, value: object) -> None:
    """Raises ConfigError for a number in place of true or false, which OmegaConf would take."""
    if about.type is bool and isinstance(value, int | float) and not isinstance(value, bool):
        raise ConfigError(f"{key} must be {KINDS['bool']}, got '{value}'")


def check_settable(key: str, value: object, typed: DictConfig) -> None:
    """Raises ConfigError for a key that doesn't exist, an option that no chosen part has, and a number for a switch."""
    where = place_of_options(key)
    if where is not None:
        name, kind = OPTIONS[where]
        option = key.removeprefix(f"{where}.")
        chosen = chosen_parts(kind, OmegaConf.select(typed, name))
        refuse_unknown(where, chosen, [option], chosen_options(where, typed))
    elif key in KEYS:
        _check_switch(key, KEYS[key], value)
    else:
        raise ConfigError(unknown_key(key))


def check_use(set_keys: Iterable[str], composed: DictConfig) -> None:
    """Raises ConfigError for a key that was set but has no use with the chosen option of its group."""

    def chosen(option: str) -> Any:
        return OmegaConf.select(composed, option, default=KEYS[option].default)

    for key in set_keys:
        about = KEYS.get(key)
        if about and about.only and chosen(f"{key.partition('.')[0]}.name") not in about.only.split():
            raise ConfigError(without_use(key))
        if about and about.terms and not set(about.terms).intersection(loss_terms(str(chosen("train.loss")))):
            raise ConfigError(
                f"{key} has no use with train.loss={chosen('train.loss')}; "
                f"leave it out, or choose a loss with {' or '.join(about.terms)}"
            )
