"""Every benchmark that the documents show exists, or is one that they show with its commit."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def shown_benchmarks() -> set[str]:
    """Modules of the blocks that don't check another commit out first."""
    blocks = [
        block
        for page in PAGES
        for block in re.findall(r"^```sh\n(.*?)^```$", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
        if "git checkout " not in block
    ]
    return set(re.findall(r"^python -m (benchmarks\.\w+)", "\n".join(blocks), flags=re.MULTILINE))


@pytest.mark.parametrize("module", sorted(shown_benchmarks()))
def test_a_benchmark_that_is_shown_exists(module: str) -> None:
    assert importlib.util.find_spec(module)


def test_several_benchmarks_are_shown() -> None:
    assert {"benchmarks.leak", "benchmarks.speed", "benchmarks.sweep"} <= shown_benchmarks()
