"""The classes of a mask: what their pixels hold in a file, and how a network tells them apart.

Standard library only: the configuration checks its classes here.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from brainseg.errors import ConfigError

BACKGROUND = "background"  # a class of this name isn't scored: its values are those of the background
IGNORED = 255  # in a mask in memory: a pixel that is left out of loss and scores
MAX_CLASSES = 254  # 0 is the background and 255 is ignored
MAX_VALUE = 65535
NUMBERS, COLOURS, CATEGORIES = "numbers", "colours", "categories"  # what data.classes names
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True, kw_only=True)
class Labels:
    """What a mask in memory holds, and which probabilities a network gives.

    A mask is uint8, (height, width, mask_channels): with `exclusive` classes one channel, 0 for background and k for
    the k-th class (from 1); else a channel a class, {0, 1}. 255 is ignored, in all channels alike.
    Probabilities are (height, width, outputs).
    """

    names: tuple[str, ...]  # of the classes; a binary mask has one, without a name
    exclusive: bool  # no pixel has two classes: a softmax, and else a sigmoid for each
    has_background: bool = True  # False: every pixel has a class, so that a softmax needs no output for the background
    has_ignored: bool = False

    @property
    def are_named(self) -> bool:
        """False for binary masks."""
        return self.names != BINARY.names

    @property
    def mask_channels(self) -> int:
        return 1 if self.exclusive else len(self.names)

    @property
    def outputs(self) -> int:
        """Channels of the probabilities: the background's first, if there is one, then the classes'."""
        return self.first_class + len(self.names)

    @property
    def first_class(self) -> int:
        """The output of the first class."""
        return int(self.exclusive and self.has_background)

    @property
    def activation(self) -> str:
        return "softmax" if self.exclusive else "sigmoid"


BINARY = Labels(names=("",), exclusive=False)


@dataclass(frozen=True, kw_only=True)
class Classes:
    """The classes of `data.classes`, as pixels of a file have them."""

    values: Mapping[str, tuple[int, ...]]  # class -> its values, or its colours as 0xRRGGBB; without the background
    background: tuple[int, ...]  # likewise; empty if every pixel has a class
    are_colours: bool
    categories: tuple[str, ...] = ()  # of annotations, where classes are named by them: the value of each, from 1 on

    @property
    def exclusive(self) -> bool:
        """Whether no value belongs to two classes."""
        every = [value for values in self.values.values() for value in values]
        return len(every) == len(set(every))

    def of_category(self, name: str) -> tuple[int, ...] | None:
        """The values of what annotations call so: the class of that name, unless classes name categories."""
        if self.categories:
            return (self.categories.index(name) + 1,) if name in self.categories else None
        return self.background if name == BACKGROUND else self.values.get(name)

    def labels(self, *, has_ignored: bool) -> Labels:
        return Labels(
            names=tuple(self.values),
            exclusive=self.exclusive,
            has_background=bool(self.background),
            has_ignored=has_ignored,
        )


def parse_classes(given: Mapping[Any, Any]) -> Classes:
    """The classes that `data.classes` names: `{car: 1, road: [2, 3]}`, `{car: "#ff0000"}` or `{vehicle: [car, bus]}`.

    Raises ConfigError.
    """
    if not given:
        raise ConfigError("data.classes must name a class, got {}; leave it out for two kinds of pixels")
    found: dict[str, tuple[int, ...]] = {}
    kinds: set[str] = set()
    categories: dict[str, int] = {}
    for name, listed in given.items():
        _check_name(name)
        items = listed if isinstance(listed, Sequence) and not isinstance(listed, str) else [listed]
        if not items:
            raise ConfigError(f"data.classes.{name} has no value; name one, as in {{{name}: 1}}")
        kinds |= {_kind(name, item) for item in items}
        found[name] = tuple(_value(item, categories) for item in items)
        if len(set(found[name])) < len(found[name]):
            raise ConfigError(f"data.classes.{name} names a value twice, in {listed}; name it once")
    if len(kinds) > 1:
        raise ConfigError(
            f"data.classes must be of one kind for all classes, got {' and '.join(sorted(kinds))}; write one kind"
        )
    background = found.pop(BACKGROUND, None)
    if not found:
        raise ConfigError("data.classes must name a class beside the background; add one, as in {tumour: 1}")
    if len(found) > MAX_CLASSES:
        raise ConfigError(f"data.classes must be at most {MAX_CLASSES}, got {len(found)}; join some")
    named = {value for values in found.values() for value in values}
    if background is None:
        background = () if 0 in named else (0,)
    both = named.intersection(background)
    if both:
        shown = as_colour(min(both)) if COLOURS in kinds else [*categories][min(both) - 1] if categories else min(both)
        raise ConfigError(f"data.classes names {shown} for the background and for a class; name it once")
    return Classes(values=found, background=background, are_colours=COLOURS in kinds, categories=tuple(categories))


def as_colour(value: int) -> str:
    """`#ff0000` for 0xff0000."""
    return f"#{value:06x}"


def _check_name(name: Any) -> None:
    if not isinstance(name, str) or not name.strip() or _CONTROL.search(name):
        raise ConfigError(f"data.classes must have texts for names, got {name!r}; write {{tumour: 1}}")


def _kind(name: str, item: Any) -> str:
    if isinstance(item, str) and item and not _CONTROL.search(item):
        return COLOURS if _COLOUR.fullmatch(item) else CATEGORIES
    if isinstance(item, int) and not isinstance(item, bool) and 0 <= item <= MAX_VALUE:
        return NUMBERS
    raise ConfigError(
        f"data.classes.{name} must be whole numbers from 0 to {MAX_VALUE}, colours such as '#ff0000' or categories of "
        f"annotations, got {item!r}"
    )


def _value(item: int | str, categories: dict[str, int]) -> int:
    """What stands for an item of data.classes. categories: those that have been named, with their numbers."""
    if isinstance(item, int):
        return item
    return int(item[1:], 16) if _COLOUR.fullmatch(item) else categories.setdefault(item, len(categories) + 1)
