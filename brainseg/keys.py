"""What a key of the configuration is: its default, its rule and its help, written once; and the texts of its errors.

Standard library only. `brainseg.config` has the keys of a run, `brainseg.plugins` those of parts of one's own.
"""

import dataclasses
import difflib
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args, get_origin

from brainseg.errors import ConfigError


class Absent(str):
    """The name of a part in a stored configuration: its plugin needn't be here, and it passes every check."""

    __slots__ = ()


@dataclass(frozen=True, kw_only=True)
class Key:
    """A configuration key: its default, what its value may be, and what it means."""

    default: Any
    help: str  # Markdown, a line
    choices: Sequence[str] | Sequence[int] = ()
    joined: bool = False  # whether several choices may be joined by `+`
    remedy: str = ""  # for a value that is none of the choices, beside the nearest one
    low: float | None = None  # the range; a value of null is in any
    high: float | None = None
    exclusive: bool = False  # whether low and high themselves are out of range
    empty: bool = True  # whether a text may be empty
    allowed: str = ""  # for the manual: what else holds for the value
    since: object = ...  # the value that runs had in effect before the key existed; `...`: it always existed
    only: str = ""  # the options of the group (`phantom`) with which the key has a use; with others it is refused
    terms: Sequence[str] = ()  # likewise, the terms of `train.loss`
    literal: bool = False  # whether what is typed is a text, whatever signs it has: braces and commas are its own
    type: Any = None  # of the value, such as `int | None`; set in `KEYS`

    @property
    def values(self) -> tuple[str, ...]:
        """All values, as they are typed; empty where they are not named one by one."""
        return ("true", "false") if self.type is bool else tuple(map(str, self.choices))

    def check(self, name: str, value: Any) -> None:
        """Raises ConfigError, which calls the key `name`, for a value that it may not have."""
        if isinstance(value, Absent):
            return
        if "\0" in as_text(value):  # no name of a file or of anything else can hold it
            raise ConfigError(f"{name} must not hold the character U+0000, got {value!r}; remove it")
        if self.choices:
            for part in value.split("+") if self.joined else [value]:
                one_of(name, part, self.choices, remedy=self.remedy)
        if self.low is not None:
            in_range(name, value, low=self.low, high=self.high, exclusive=self.exclusive)
        if not self.empty:
            not_empty(name, value)


def key(default: Any, **rest: Any) -> Any:
    """A field of a group: the default, and the fields of `Key`, such as `help`, `choices`, `low` and `high`."""
    return field(default=default, metadata={"key": Key(default=default, **rest)})


def check_keys(group: str, config: Any) -> None:
    """Checks each value of the dataclass `config` by its key alone. group: what its keys begin with, as `data.`."""
    for item in dataclasses.fields(config):
        if "key" in item.metadata:
            name, value, about = f"{group}{item.name}", getattr(config, item.name), item.metadata["key"]
            # OmegaConf checks the type of what is typed, but not of what an interpolation refers to.
            if value is not None and not isinstance(value, Mapping) and _is_mapping(item.type):
                raise ConfigError(f"{name} must be {about.allowed}, got {as_text(value)}")
            about.check(name, value)


def _is_mapping(kind: Any) -> bool:
    return any(get_origin(each) is dict for each in (kind, *get_args(kind)))


def one_of(key: str, value: str | int, allowed: Sequence[str] | Sequence[int], *, remedy: str = "") -> None:
    """Raises ConfigError, which names the nearest allowed value and the remedy, unless `value` is allowed."""
    if value not in allowed:
        names = [str(each) for each in allowed]
        near = did_you_mean(str(value), names)
        raise ConfigError(f"{key} must be one of {', '.join(names)}, got {value!r}{near}{remedy and f' ({remedy})'}")


def in_range(key: str, value: float | None, *, low: float, high: float | None = None, exclusive: bool = False) -> None:
    """Raises ConfigError unless low <= value <= high (strictly between them if exclusive); None passes."""
    if value is None:
        return
    inside = low < value if exclusive else low <= value
    if high is not None:
        inside = inside and (value < high if exclusive else value <= high)
    if not inside:  # NaN ends here as well
        if high is None:
            rule = f"above {low}" if exclusive else f"at least {low}"
        else:
            rule = f"between {low} and {high}" + (", both excluded" if exclusive else "")
        raise ConfigError(f"{key} must be {rule}, got {value}")


def not_empty(key: str, value: str | None) -> None:
    """Raises ConfigError for an empty string; None passes."""
    if value == "":
        raise ConfigError(f"{key} must not be empty; leave it out for the default")


def as_text(value: object) -> str:
    """A value as it is typed: `null`, `true`, `0.1`, `[1, 2]`, `{core: 1}`."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {_inside(each)}" for name, each in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(map(_inside, value)) + "]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _inside(value: object) -> str:
    """A value within another: a colour needs quotes there."""
    return f'"{value}"' if isinstance(value, str) and not value.isidentifier() else as_text(value)


def as_line(words: Iterable[str]) -> str:
    """Overrides and other words of a command line as they can be pasted into a POSIX shell."""
    return shlex.join(words)


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """`; did you mean 'x'?` for the known word nearest to `word`, or nothing."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""
