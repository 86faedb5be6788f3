"""A sweep that is killed at any moment goes on with the same command, and ends as if nothing had happened."""

import signal
import time

import numpy as np
import pytest

from brainseg.sweep.trial_queue import DEATHS_ALLOWED
from sweeps import POLL_S, Command, Sweep, Worker, kill, wait_until

pytestmark = pytest.mark.timeout(1800)

# Where a sweep is caught, and the longest random wait from there on, in seconds.
STARTING, IN_A_TRIAL, ENDING_A_TRIAL = "starting", "in a trial", "ending a trial"
WAITS_S = {STARTING: 4.0, IN_A_TRIAL: 0.6, ENDING_A_TRIAL: 0.6}
FEW = (IN_A_TRIAL, ENDING_A_TRIAL, IN_A_TRIAL)
MANY = tuple(moment for _ in range(4) for moment in (STARTING, IN_A_TRIAL, IN_A_TRIAL, ENDING_A_TRIAL, IN_A_TRIAL))
EPOCHS = 6


def wait_for(moment: str, sweep: Sweep, command: Command) -> bool:
    """Returns when the sweep is there; False where it has ended before."""
    before = {trial.number: len(trial.intermediate_values) for trial in sweep.trials()}

    def is_there() -> bool:
        if moment == STARTING:
            return True
        wanted = range(EPOCHS, EPOCHS + 1) if moment == ENDING_A_TRIAL else range(1, EPOCHS + 1)
        now = {trial.number: len(trial.intermediate_values) for trial in sweep.trials()}
        return any(now[number] in wanted and now[number] != before.get(number, 0) for number in now)

    wait_until(lambda: is_there() or command.poll() is not None, lambda: command.text)
    return command.poll() is None


@pytest.mark.parametrize("moments", [pytest.param(FEW, id="3"), pytest.param(MANY, id="20", marks=pytest.mark.slow)])
def test_a_sweep_killed_again_and_again_ends_like_one_that_never_was(
    sweep: Sweep, undisturbed: Sweep, moments: tuple[str, ...]
) -> None:
    rng = np.random.default_rng(len(moments))
    command = sweep.start("run", "tiny")
    kills = 0
    for moment in moments:
        if not wait_for(moment, sweep, command):
            break
        time.sleep(rng.uniform(0, WAITS_S[moment]))
        command.kill_all()
        kills += command.exit_code() == -signal.SIGKILL
        command = sweep.start("run", "tiny")
    print(f"{kills} kills of the supervisor and its workers")
    assert kills >= len(moments) - 2
    assert command.exit_code() == 0, sweep.told(command)

    sweep.assert_nothing_is_open()
    sweep.assert_same_as(undisturbed)
    for epochs in sweep.trained().values():
        assert len(epochs) == len(set(epochs))  # an epoch whose checkpoint was written is not trained again
    (parent,) = sweep.parents()
    assert (parent.status, parent.tags["state"]) == ("FINISHED", "finished")


@pytest.mark.parametrize("count", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_a_sweep_whose_workers_are_killed_again_and_again_ends_like_one_whose_never_were(
    sweep: Sweep, undisturbed: Sweep, count: int
) -> None:
    rng = np.random.default_rng(count)
    command = sweep.start("run", "tiny")
    dead: dict[int, int] = {}  # process -> how many epochs its trial had

    def mortal() -> list[Worker]:
        """Those whose trial wouldn't fail of one more death."""
        return [
            worker
            for worker in sweep.workers()
            if worker.pid not in dead and worker.deaths.count(worker.epochs) < DEATHS_ALLOWED - 1
        ]

    while len(dead) < count and command.poll() is None:
        wanted = int(rng.integers(0, EPOCHS + 1))
        while command.poll() is None and not [worker for worker in mortal() if worker.epochs >= wanted]:
            time.sleep(POLL_S)
        time.sleep(rng.uniform(0, 0.4))
        workers = mortal()
        if workers:
            worker = workers[int(rng.integers(len(workers)))]
            kill(worker.pid)
            dead[worker.pid] = worker.epochs
    print(f"{len(dead)} kills of single workers, after epochs {list(dead.values())}")
    assert len(dead) >= min(count, 12)
    assert command.exit_code() == 0, sweep.told(command)

    sweep.assert_nothing_is_open()
    sweep.assert_same_as(undisturbed)
    for epochs in sweep.trained().values():
        assert len(epochs) == len(set(epochs))
