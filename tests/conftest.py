"""What tests of every part share: a tiny run, and the real data set where it is named."""

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from brainseg.config import RunConfig, flatten, from_flat

# TensorFlow's threads can't change within a process, so that every test asks for the same.
THREADS = 2

TINY: dict[str, Any] = {
    "data.phantom_patients": 8,
    "data.image_size": 32,
    "data.batch_size": 8,
    "model.depth": 2,
    "model.base_filters": 4,
    "train.epochs": 2,
    "train.precision": "float32",
    "train.threads": THREADS,
    "tracking.predictions": 3,
}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves slow tests out unless `-m` speaks of them."""
    if "slow" in config.option.markexpr:
        return
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.skip(reason="slow; run by: pytest -m slow"))


@pytest.fixture(scope="session")
def slice_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache of decoded slices for all tests: the tiny phantom is made once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def tiny_in(slice_cache: Path) -> Callable[..., RunConfig]:
    """`tiny` for a run that several tests share: makes the configuration with its mlruns/ in the given folder."""

    def make(folder: Path, **changes: Any) -> RunConfig:
        own = {"tracking.root": str(folder / "mlruns"), "data.cache_dir": str(slice_cache)}
        return from_flat(flatten(RunConfig()) | TINY | own | changes)

    return make


@pytest.fixture
def tiny(tmp_path: Path, tiny_in: Callable[..., RunConfig]) -> Callable[..., RunConfig]:
    """Makes the configuration of a run of seconds, with dotted keys to change: `tiny(**{"model.depth": 1})`."""
    return functools.partial(tiny_in, tmp_path)


@pytest.fixture(scope="session")
def figshare() -> Path:
    """The real data set; tests that ask for it are skipped where BRAINSEG_FIGSHARE doesn't name it."""
    named = os.environ.get("BRAINSEG_FIGSHARE")
    if not named:
        pytest.skip("BRAINSEG_FIGSHARE doesn't name the real data set")
    return Path(named)
