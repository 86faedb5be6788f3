"""A run whose augmentation is a plugin's, killed and resumed."""

import signal

import pytest
from trainings import PLAIN

from examples import write_example

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(900)]
PLUGIN = "plugins=[bias]"


def test_a_killed_run_with_a_plugins_augmentation_ends_like_one_that_never_was(commands, tmp_path) -> None:
    write_example("bias", commands.root)
    small = [*commands.small, *PLAIN, "data.augment=bias_field", "train.epochs=4", PLUGIN]
    whole = commands.start(*small)
    assert whole.exit_code() == 0, whole.text
    training = commands.start(*small)
    last = commands.checkpoints(training.run_id).folder / "last.npz"
    training.wait_until(last.exists)
    assert training.stop() == -signal.SIGKILL

    lacking = commands.start(f"resume={training.run_id}")
    assert lacking.exit_code() == 2
    (line,) = lacking.text.splitlines()
    assert line.endswith("; add plugins=[bias]")

    resumed = commands.start(f"resume={training.run_id}", PLUGIN)
    assert resumed.exit_code() == 0, resumed.text
    assert "goes on in epoch" in resumed.text
    commands.assert_same(training.run_id, whole.run_id, tmp_path)
