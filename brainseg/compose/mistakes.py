"""One line for each mistake: what Hydra and OmegaConf say, in words that name the key and the remedy."""

import re
from collections.abc import Sequence

from hydra.errors import HydraException, OverrideParseException
from omegaconf.errors import ConfigKeyError, InterpolationResolutionError, OmegaConfBaseException

from brainseg.compose.search_path import GROUPS
from brainseg.config import KEYS
from brainseg.keys import did_you_mean

KINDS = {
    "float": "a number",
    "int": "a whole number",
    "bool": "true or false",
    "str": "a text",
    "Float": "a number",
    "Integer": "a whole number",
}
# OmegaConf's messages on a value of the wrong type, and the type where the message doesn't name it.
WRONG_TYPES = (
    (r"Value '?(?P<value>.*?)'? of type .* could not be converted to (?P<kind>\w+)", ""),
    (r"Incompatible value '(?P<value>None)' for field of type '(?P<kind>\w+)'", ""),
    (r"Value '(?P<value>.*)' is not a valid bool", "bool"),
    (r"Cannot convert '\w+' to string: '(?P<value>.*)'", "str"),
)


def explain_syntax(error: HydraException, overrides: Sequence[str]) -> str:
    """Of what isn't `key=value`."""
    if isinstance(error, OverrideParseException):
        override = error.override
        if override is not None and "=" not in override:
            return f"{override} is not of the form key=value; write {override}=VALUE"
        return f"{override} can't be read as key=value; quote special characters: 'key=\"value\"'"
    return f"{' '.join(overrides)}: {first_line(error)}"


def explain_value(error: OmegaConfBaseException) -> str:
    """Of a value of the wrong type, or one that refers to another key."""
    key = str(error.full_key or error.key or "")
    if isinstance(error, ConfigKeyError):
        return unknown_key(key)
    if not key:
        return first_line(error)
    for pattern, kind in WRONG_TYPES:
        found = re.search(pattern, str(error))
        if found:
            names = found.groupdict()
            value = names["value"]
            rule = f"{key} must be {KINDS.get(kind or names['kind'], kind or names['kind'])}"
            return f"{rule}, got null; leave it out for the default" if value == "None" else f"{rule}, got {value!r}"
    if isinstance(error, InterpolationResolutionError):
        return f"{key} refers to what doesn't exist ({first_line(error)}); write its value"
    return f"{key}: {first_line(error)}"


def unknown_key(key: str) -> str:
    """With the key that it may stand for."""
    if key.partition(".")[0] == "experiment" or "@experiment" in key:
        return "the file of an experiment must begin with the line '# @package _global_'; add it in conf/experiment"
    known = list(KEYS)
    group, _, name = key.partition(".")
    if key in known:
        return without_use(key)  # a file in ./conf lacks it
    if group == "launcher":
        return (
            f"{key} is no key of a run: it starts the workers of a sweep; python -m brainseg.sweep run NAME {key}=..."
        )
    in_group = [item.removeprefix(f"{group}.") for item in known if item.startswith(f"{group}.")]
    if name and in_group:
        near = did_you_mean(name, in_group)  # by the name alone: the group makes all of them alike
        hint = near.replace("'", f"'{group}.", 1) if near else f"; {group} has {', '.join(in_group)}"
    else:
        same_name = [item for item in known if item.endswith(f".{key}")]
        hint = f"; did you mean {same_name[0]!r}?" if same_name else did_you_mean(key, [*known, *GROUPS])
    return f"{key} is not a configuration key{hint or '; --help lists them'}"


def without_use(key: str) -> str:
    """Of a key that belongs to another option of its group."""
    group = key.partition(".")[0]
    return f"{key} has no use with the chosen {group}; leave it out, or choose another {group}"


def first_line(error: Exception) -> str:
    """What Hydra or OmegaConf says, without its details."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
