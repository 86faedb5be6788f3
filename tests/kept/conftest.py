"""The kept set after all commands were run on it, once for all tests; and what is expected of them."""

from pathlib import Path

import pytest
from kept_expected import Expected
from kept_outcome import Outcome
from kept_set import HERE, SETS, Project, unpack
from processes import Command, Server

# What `kept_commands.py` does as a process of its own. Graphs are optimised as 0.1 has done it: to the last bit.
RUN_STEPS = """
import os, sys
from pathlib import Path
import tensorflow as tf
os.environ["OPTIMIZE_GRAPHS"] = "in processes that are started from here"
tf.config.optimizer.set_experimental_options({{"disable_meta_optimizer": False}})
sys.path.append({folder!r})
from kept_commands import main
main(Path({todo!r}), Path({results!r}))
"""


@pytest.fixture(scope="session")
def outcome(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, process_server: Server
) -> Outcome:
    """What this version makes of the set: of the studies, those that the chosen tests look at."""

    def run_steps(todo: Path, results: Path) -> None:
        code = RUN_STEPS.format(folder=str(HERE), todo=str(todo), results=str(results))
        output = todo.with_suffix(".txt")
        command = Command(process_server.start("-c", code, folder=todo.parent, output=output), output, process_server)
        assert command.exit_code() == 0, command.text
        print(command.text)  # how long each took

    parameters = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
    studies = {SETS[0], *(each["study"] for each in parameters if "study" in each)}
    return Outcome(tmp_path_factory.mktemp("kept"), [name for name in SETS if name in studies], run_steps)


@pytest.fixture(scope="session")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The set as it was kept; no test may change it."""
    return Project(unpack(tmp_path_factory.mktemp("untouched")))


@pytest.fixture(scope="session")
def expected() -> Expected:
    """What 0.1 itself has made of the set."""
    return Expected()
