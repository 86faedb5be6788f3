"""YAML, JSON and NumPy's archives that anyone may have written, or a broken disk: all that can be wrong is one error.

The words of a ParseError go behind the name of the file.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_CHARACTERS = 2**20  # of YAML: seconds of parsing
MAX_DEPTH = 20  # of lists and mappings within one another: OmegaConf fails below 100
MAX_VALUES = 100_000  # of YAML, once what its anchors stand for is written out


class ParseError(ValueError):
    """It isn't YAML, JSON or an archive, or more than a file of settings can be."""


def parse_yaml(text: str, *, load: Callable[[str], Any] = yaml.safe_load) -> Any:
    """What the text holds, in bounded time and memory. Raises ParseError.

    load: reads a text that is known to be small.
    """
    try:
        _check_size(text)
        return load(text)
    except ParseError:
        raise
    except yaml.MarkedYAMLError as error:
        where = "" if error.problem_mark is None else f"line {error.problem_mark.line + 1}: "
        raise ParseError(f"is not YAML ({where}{error.problem}); correct it") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ParseError(f"is not YAML (line {line}: the character {error.character:#06x}); correct it") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # PyYAML's, of `!!timestamp noon`
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ParseError(f"holds a value that can't be read ({reason}); correct it") from error


def parse_json(text: str | bytes) -> Any:
    """What the text holds. Raises ParseError."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ParseError("is nested too deeply; make it flatter") from None
    except ValueError as error:
        raise ParseError(f"is not JSON ({error}); correct it") from error


def read_npz(path: Path) -> "dict[str, NDArray[Any]]":
    """The arrays of an archive that `np.savez` has made, by their names; nothing is unpickled. Raises ParseError."""
    import numpy as np

    try:
        # Opened here: NumPy leaves a file that it can't read open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except Exception as error:  # what the damage leads to
        raise ParseError(f"can't be read ({error})") from error


def _check_size(text: str) -> None:
    """Goes through the text without building anything of it."""
    if len(text) > MAX_CHARACTERS:
        raise ParseError(f"is longer than {MAX_CHARACTERS:,} characters; split it")
    values = 0
    stands_for: dict[str | None, int] = {}  # anchor -> how many values
    begun: list[tuple[str | None, int]] = []  # anchors of the collections that are open, and `values` before each
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            begun.append((event.anchor, values))
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = begun.pop()
            if anchor is not None:
                stands_for[anchor] = values + 1 - before
        elif isinstance(event, yaml.AliasEvent):
            if any(anchor == event.anchor for anchor, _ in begun):
                raise ParseError(f"has *{event.anchor} within &{event.anchor}; leave it out")
            values += stands_for.get(event.anchor, 0) - 1
        elif isinstance(event, yaml.ScalarEvent):
            if "\0" in event.value:  # as the escape \0; no name of a file or of anything else can hold it
                raise ParseError("has a text with the character U+0000; remove it")
            if event.anchor is not None:
                stands_for[event.anchor] = 1
        values += isinstance(event, yaml.NodeEvent)
        if len(begun) > MAX_DEPTH:
            raise ParseError(f"is nested deeper than {MAX_DEPTH} levels; make it flatter")
        if values > MAX_VALUES:
            raise ParseError(f"stands for more than {MAX_VALUES:,} values; write fewer")
