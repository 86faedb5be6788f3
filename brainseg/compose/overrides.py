"""Overrides as they are typed (`model.dropout=0.2`): read, checked, listed for a multirun, and written."""

import re
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, cast

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override, OverrideType, Quote, QuotedString, RangeSweep, ValueType
from hydra.errors import HydraException

from brainseg.compose.mistakes import explain_syntax, unknown_key
from brainseg.compose.search_path import GROUPS, SEARCH_PATH, as_own, in_conf, options_in, register_local_conf
from brainseg.config import KEYS
from brainseg.errors import ConfigError
from brainseg.keys import did_you_mean
from brainseg.parsing import MAX_DEPTH

# Not in a run's name: they say where things are and what they are called, not what is done.
UNNAMED_KEYS = (
    *("data", "data.root", "data.images", "data.masks", "data.annotations"),
    *("data.cache_dir", "data.classes", "data.ignore"),
    *("resume", "run_name", "plugins"),
)
# A node of keys of one's own, for interpolation: `optimizer.learning_rate=${vars.rate}`. No part of the run.
HELPERS = "vars"
OWN_KEYS = (f"{HELPERS}.", "tracking.tags.")  # what keys begin with that the user makes up
SWEEPER = "hydra/sweeper"
# A text that needs no quotes on the command line, and what would be another value without.
PLAIN_TEXT = re.compile(r"[A-Za-z_/.][\w./-]*")
NOT_TEXTS = ("true", "false", "null", "nan", "inf")


def parse(overrides: Sequence[str]) -> list[Override]:
    """Hydra's reading of them. Raises ConfigError for what isn't `key=value`, and for a key that no run has."""
    for text in overrides:
        if text.startswith("="):
            raise ConfigError(f"{text!r} has no key; write key=value, such as model.dropout=0.2")
        if max(accumulate((sign in "[{(") - (sign in "]})") for sign in text), default=0) > MAX_DEPTH:
            raise ConfigError(f"{text[:40]}... is nested deeper than {MAX_DEPTH} levels; write it with fewer brackets")
    try:
        parsed = OverridesParser.create().parse_overrides([*map(_literal, overrides)])
    except HydraException as error:
        raise ConfigError(explain_syntax(error, overrides)) from error
    for override in parsed:
        _check_kind(override)
    return parsed


def set_by(named: Sequence[str], key: str) -> bool:
    """Whether one of the keys and groups that overrides name is this key, a part of it, or a group around it."""
    return any(f"{key}.".startswith(f"{name}.") or name.startswith(f"{key}.") for name in named)


def _literal(override: str) -> str:
    """The override with quotes around its value, where that is a text whatever signs it has (`Key.literal`)."""
    name, _, text = override.partition("=")
    about = KEYS.get(name.lstrip("+"))
    if about is None or not about.literal or text in ("", "null") or text[0] in "'\"":
        return override
    return f"{name}={QuotedString(text, Quote.double).with_quotes()}"


def _check_kind(override: Override) -> None:
    """Raises ConfigError for an override that would add or remove keys: every run has the same ones."""
    key = override.key_or_group
    if override.is_hydra_override() or f"{key}.".startswith(OWN_KEYS) or (key in GROUPS and not override.is_delete()):
        return
    if (override.is_delete() or override.is_add()) and not _is_known(key):
        raise ConfigError(unknown_key(key))
    if override.is_delete():
        raise ConfigError(f"~{key} would remove a key, and a run has them all; write {key}=VALUE")
    if override.is_add() and not override.is_force_add():
        raise ConfigError(f"+{key} would add a key that is there already; leave out the +")


def _is_known(key: str) -> bool:
    return key in GROUPS or key in KEYS


def values_in(overrides: Sequence[str]) -> dict[str, Any]:
    """Key -> the value that an override gives it, as Hydra reads it. Raises ConfigError for several values."""
    parsed = parse(overrides)
    for override in parsed:
        if override.is_sweep_override():
            raise ConfigError(f"{override.input_line} gives several values; give one")
    return {override.key_or_group: override.value() for override in parsed}


def run_name(overrides: Sequence[str]) -> str:
    """A short name for a run: its experiment or data, and the values that were set (`phantom dropout=0.2`)."""
    parsed = {override.key_or_group: _shown(override) for override in parse(overrides)}
    base = parsed.pop("experiment", None) or parsed.pop("data", "phantom")
    told = [
        f"{key.rpartition('.')[2]}={value}"
        for key, value in parsed.items()
        if key not in UNNAMED_KEYS and not key.startswith(("tracking.", "hydra"))
    ]
    return " ".join([base, *told])[:100]


def _shown(override: Override) -> str:
    """The value, or the values of a multirun, as they are typed."""
    return (
        str(override.input_line).partition("=")[2]
        if override.is_sweep_override()
        else override.get_value_element_as_str()
    )


def written(value: Any) -> str:
    """A value as Hydra reads it on the command line."""
    override = Override(
        type=OverrideType.CHANGE, key_or_group="", value_type=ValueType.ELEMENT, _value=_quoted(value), package=None
    )
    return override.get_value_element_as_str()


def _quoted(value: Any) -> Any:
    """The value with its texts in quotes, unless they can stand without."""
    if isinstance(value, Mapping):
        return {key: _quoted(each) for key, each in value.items()}
    if isinstance(value, tuple | list):
        return [_quoted(each) for each in value]
    if isinstance(value, str) and (not PLAIN_TEXT.fullmatch(value) or value.lower() in NOT_TEXTS):
        return QuotedString(value, Quote.single)
    return value


def for_hydra(overrides: Sequence[str]) -> list[str]:
    """The overrides as Hydra takes them. Raises ConfigError.

    Keys of one's own get the ++ that adds them, a group loses its +, and `optimizer=glob(ad*)` becomes a list.
    """
    return [_for_hydra(override) for override in parse(overrides)]


def _for_hydra(override: Override) -> str:
    key, line = override.key_or_group, str(override.input_line)
    if f"{key}.".startswith(OWN_KEYS):
        return line if override.is_delete() else f"++{line.lstrip('+')}"
    if key == SEARCH_PATH and isinstance(folders := override.value(), list):
        return f"{key}={written(as_own(folders))}"
    if key not in GROUPS:
        return line
    pattern: Any = override.value()
    if not isinstance(pattern, Glob):
        return line.lstrip("+")
    register_local_conf()
    with in_conf():
        return f"{key}={','.join(pattern.filter(options_in(key)))}"


def expand(overrides: Sequence[str]) -> list[list[str]]:
    """The jobs of a multirun: `model.dropout=0.1,0.2` gives two lists of overrides.

    A sweeper that isn't Hydra's own chooses values by itself: one list, of all others. Raises ConfigError for values
    that can't be listed, and for a sweeper that isn't installed.
    """
    parsed = parse(for_hydra(overrides))
    sweeper = next((override.value() for override in parsed if override.key_or_group == SWEEPER), "basic")
    if sweeper != "basic":
        _check_installed(str(sweeper))
        return [[str(override.input_line) for override in parsed if not override.is_sweep_override()]]
    for override in parsed:
        _check_listed(override)
    batches = BasicSweeper.split_arguments(parsed, max_batch_size=None)
    return [job for batch in batches for job in batch]


def _check_installed(sweeper: str) -> None:
    register_local_conf()
    with in_conf():
        known = GlobalHydra.instance().config_loader().get_group_options(SWEEPER)
    if sweeper not in known:
        raise ConfigError(
            f"{SWEEPER}={sweeper} is not installed; brainseg searches with Optuna by itself: python -m brainseg.sweep"
        )


def _check_listed(override: Override) -> None:
    """Raises ConfigError for what isn't one value or several that can be listed."""
    line, value = override.input_line, cast(Any, override.value())
    if override.is_interval_sweep():
        raise ConfigError(
            f"{line} is an interval, and -m takes values one by one; write them as {override.key_or_group}=0.1,0.2, "
            "or let python -m brainseg.sweep draw from it"
        )
    if isinstance(value, Glob):
        raise ConfigError(f"{line} is for groups, and {override.key_or_group} is a key; list its values")
    if isinstance(value, RangeSweep) and (value.step == 0 or not any(True for _ in value.range())):
        raise ConfigError(f"{line} gives no value; write range(START,STOP,STEP) with a step towards STOP")


def check_value(override: Override) -> None:
    """Raises ConfigError unless a key gets one value, and a group the name of an option."""
    key = override.key_or_group
    if override.is_sweep_override():
        is_text = key in KEYS and KEYS[key].type in (str, str | None)
        quoting = f", or quote a text that has a comma: '{key}=\"a, b\"'" if is_text else ""
        raise ConfigError(f"{override.input_line} gives several values; add -m for a run of each{quoting}")
    if key not in GROUPS:
        return
    known = options_in(key)
    value = override.value()
    if not isinstance(value, str) or value not in known:
        shown = override.get_value_element_as_str()
        raise ConfigError(f"{key} must be one of {', '.join(known)}, got {shown!r}{did_you_mean(shown, known)}")
