"""The kept set after all commands were run on it, once for all tests; and what is expected of them."""

import pytest
from kept_expected import Expected
from kept_outcome import Outcome
from kept_set import Project, unpack


@pytest.fixture(scope="session")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """What this version makes of the set."""
    return Outcome(tmp_path_factory.mktemp("kept"))


@pytest.fixture(scope="session")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The set as it was kept; no test may change it."""
    return Project(unpack(tmp_path_factory.mktemp("untouched")))


@pytest.fixture(scope="session")
def expected() -> Expected:
    """What 0.1 itself has made of the set."""
    return Expected()
