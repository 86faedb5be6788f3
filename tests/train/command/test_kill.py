"""A run that is killed at any moment, and resumed, ends as if nothing had happened."""

import signal
import time

import numpy as np
import pytest

# Where a training is caught, and the longest random wait from there on, in seconds.
STARTING, IN_AN_EPOCH, WRITING, RECORDING = "starting", "in an epoch", "writing a checkpoint", "recording"
WAITS_S = {STARTING: 2.0, IN_AN_EPOCH: 0.15, WRITING: 0.0, RECORDING: 0.6}

FEW = (WRITING, RECORDING)
MANY = (
    *(STARTING, IN_AN_EPOCH, IN_AN_EPOCH, WRITING, IN_AN_EPOCH, WRITING),
    *(STARTING, IN_AN_EPOCH, WRITING, RECORDING, RECORDING, RECORDING),
)


def wait_for(moment, training, folder):
    """Returns when the training is there, or has ended."""
    last = folder / "last.npz"

    def stamp():
        return last.stat().st_mtime_ns if last.exists() else 0

    before = stamp()
    conditions = {
        STARTING: lambda: True,
        IN_AN_EPOCH: lambda: stamp() != before,
        WRITING: lambda: any(folder.glob("*.npz.tmp")),
        RECORDING: lambda: "epoch 12/12" in training.text or "goes on after epoch 12" in training.text,
    }
    training.wait_until(conditions[moment])


@pytest.mark.timeout(900)
@pytest.mark.parametrize("moments", [pytest.param(FEW, id="2"), pytest.param(MANY, id="12", marks=pytest.mark.slow)])
def test_a_run_killed_again_and_again_ends_like_one_that_never_was(commands, uninterrupted, tmp_path, moments):
    rng = np.random.default_rng(len(moments))
    training = commands.start(*commands.small)
    run_id = training.run_id
    folder = commands.checkpoints(run_id).folder
    kills = 0
    for moment in moments:
        wait_for(moment, training, folder)
        time.sleep(rng.uniform(0, WAITS_S[moment]))
        if training.stop() != -signal.SIGKILL:
            break  # it was faster; what it ended as is compared below
        kills += 1
        training = commands.start(f"resume={run_id}")
        assert training.run_id == run_id
    assert kills >= max(1, len(moments) - 2)
    assert training.exit_code() == 0, training.text
    commands.assert_same(run_id, uninterrupted, tmp_path)
