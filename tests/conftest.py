"""What tests of every part share: a tiny run, and the real data set where it is named."""

import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from chromium import Chromium, missing, started
from tiny_run import TINY

from brainseg.config import RunConfig, flatten, from_flat

pytest_plugins = ["stores"]

if TYPE_CHECKING:
    from trained_run import Trained


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
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_in: Callable[..., RunConfig]) -> "Trained":
    """The run that the tests of predicting, registering, serving and exporting share; none may change it."""
    from trained_run import train  # TensorFlow: most tests do without

    return train(tmp_path_factory.mktemp("trained"), tiny_in)


@pytest.fixture(scope="session")
def figshare() -> Path:
    """The real data set; tests that ask for it are skipped where BRAINSEG_FIGSHARE doesn't name it."""
    named = os.environ.get("BRAINSEG_FIGSHARE")
    if not named:
        pytest.skip("BRAINSEG_FIGSHARE doesn't name the real data set")
    return Path(named)


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    """One headless browser for all tests that look at a page; they are skipped where there is none."""
    if reason := missing():
        pytest.skip(reason)
    with started(tmp_path_factory.mktemp("browser")) as chromium:
        yield chromium
