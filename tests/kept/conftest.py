"""The kept set after all commands were run on it, once for all tests; and what is expected of them."""

import pytest
from kept_expected import Expected
from kept_outcome import Outcome
from kept_set import SETS, Project, unpack


@pytest.fixture(scope="session")
def outcome(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """What this version makes of the set: of the studies, those that the chosen tests look at."""
    parameters = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
    studies = {SETS[0], *(each["study"] for each in parameters if "study" in each)}
    return Outcome(tmp_path_factory.mktemp("kept"), [name for name in SETS if name in studies])


@pytest.fixture(scope="session")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The set as it was kept; no test may change it."""
    return Project(unpack(tmp_path_factory.mktemp("untouched")))


@pytest.fixture(scope="session")
def expected() -> Expected:
    """What 0.1 itself has made of the set."""
    return Expected()
