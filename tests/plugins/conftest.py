"""A current folder for plugins, which are forgotten after each test."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from examples import forgotten, write_example


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder; what is imported from it is imported for one test alone."""
    monkeypatch.chdir(tmp_path)
    with forgotten():
        yield tmp_path


@pytest.fixture
def example(here: Path) -> Callable[[str], Path]:
    """Writes an example of docs/extending.md into the current folder."""
    return lambda name: write_example(name, here)


PART = """
from dataclasses import dataclass
from brainseg.plugins import key, register

@register({kind!r}, {name!r})
@dataclass(frozen=True, kw_only=True)
class Part:
    {body}
"""


@pytest.fixture
def write(here: Path) -> Callable[..., None]:
    """Writes the module `mine` with one part: its kind, its name and the body of its class."""

    def written(kind: str, name: str, body: str) -> None:
        (here / "mine.py").write_text(PART.format(kind=kind, name=name, body=body.strip()))

    return written
