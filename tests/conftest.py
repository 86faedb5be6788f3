"""What tests of every part share: a tiny run, and the real data set where it is named."""

import functools
import gc
import os
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import composed
import pictures
import pytest
import scheduling
from chromium import Chromium, missing, started
from processes import Server
from shared import shared
from tiny_run import TINY

import brainseg.compose
import brainseg.data.phantom.source
from brainseg.config import RunConfig, flatten, from_flat

# In a process of tests, each choice of Hydra's groups is composed once, and each slice of a phantom rendered once.
brainseg.compose.composition.hydra_compose = composed.remembering(brainseg.compose.composition.hydra_compose)
brainseg.data.phantom.source.render = functools.cache(brainseg.data.phantom.source.render)
pytest_plugins = ["stores"]

if TYPE_CHECKING:
    from trained_run import Trained

# Fixtures that train, start a process, a server or a browser, or read a large data set: a test with one is `heavy`.
HEAVY_FIXTURES = {
    *("process_server", "trained", "folds", "finished", "uninterrupted", "outcome"),  # train
    *("server", "postgres_server", "slurm", "browser"),
    *("built", "offered", "theirs"),  # start processes
    "figshare",  # reads thousands of files
}
HEAVY_PARAMETERS = {"server", "postgresql"}  # of `backend` and `where`, which ask for these fixtures as they run
STARTS = {"subprocess.Popen", "os.fork", "os.posix_spawn"}  # events of `sys.audit`
_running: list[pytest.Item] = []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks tests as heavy by what they use, and those of benchmarks by where they are; the longest come first."""
    for item in items:
        parameters = getattr(item, "callspec", None)
        values = parameters.params.values() if parameters else ()
        if HEAVY_FIXTURES.intersection(getattr(item, "fixturenames", ())) or any(
            isinstance(value, str) and value in HEAVY_PARAMETERS for value in values
        ):
            item.add_marker("heavy")
        if item.path.parent.name == "benchmarks":
            item.add_marker("benchmarks")
    items[:] = scheduling.longest_first(items)


def pytest_collection_finish() -> None:
    """What the test files have imported lives as long as the process: the collector needn't go through it.

    Nor does it come each time that a graph has grown by some hundred objects. TensorFlow leaves graphs as they are: to
    optimise one takes longer than the few steps that a test runs it for.
    """
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    if "tensorflow" in sys.modules:
        sys.modules["tensorflow"].config.optimizer.set_experimental_options({"disable_meta_optimizer": True})


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> scheduling.ByPlace | None:
    """For `--dist loadfile`: with folders that stay together, too, and in the order of collection."""
    if config.getoption("dist") != "loadfile":
        return None
    config.option.loadscopereorder = False  # by their number of tests, the longest would come last: they are few
    return scheduling.ByPlace(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Notes which test runs."""
    _running[:] = [item]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None]:
    """What a test trains in this process leaves the number format of Keras as it was, for the tests that follow."""
    keras = sys.modules.get("keras")
    before = None if keras is None else keras.config.dtype_policy()
    try:
        yield
    finally:
        if (keras := sys.modules.get("keras")) is not None:
            keras.config.set_dtype_policy(before or "float32")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown() -> None:
    """The end of a fixture that others have used may start what it likes."""
    _running.clear()


def _refuse_to_start(event: str, arguments: tuple[Any, ...]) -> None:
    if not _running or event not in STARTS or _running[0].get_closest_marker("heavy"):
        return
    # A run asks git for the commit, and the standard library uname for the processor.
    if event != "subprocess.Popen" or arguments[1][0] not in ("git", "uname"):
        raise RuntimeError(f"{_running[0].nodeid} starts a process; mark it as heavy, so that make quick does without")


sys.addaudithook(_refuse_to_start)


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


@pytest.fixture
def unrendered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are made and not rendered."""
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", pictures.unrendered)


@pytest.fixture(scope="session")
def shared_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For runs that all workers share: pytest's cache, or without one a folder of this session."""
    cache: pytest.Cache | None = getattr(request.config, "cache", None)
    if cache is not None:
        return cache.mkdir("runs")
    base = tmp_path_factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "runs"


@pytest.fixture(scope="session")
def trained(shared_folder: Path, tiny_in: Callable[..., RunConfig]) -> "Trained":
    """The run that the tests of predicting, registering, serving and exporting share; none may change its slices."""
    from trained_run import train  # TensorFlow: most tests do without

    return shared(shared_folder, "trained", lambda folder: train(folder, tiny_in))


@pytest.fixture(scope="session")
def process_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Starts commands as processes that have imported TensorFlow and MLflow already."""
    server = Server(tmp_path_factory.mktemp("processes"))
    yield server
    server.close()


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
