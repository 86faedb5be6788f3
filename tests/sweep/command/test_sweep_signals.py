"""Ctrl-C, SIGTERM, and a supervisor that is killed: checkpoints, no process left, and the same command goes on."""

import json
import signal
from collections.abc import Callable, Sequence

import pytest
from processes import Command, is_alive, wait_until

from brainseg.train.checkpoint import Checkpoints
from sweeps import Sweep

pytestmark = pytest.mark.timeout(900)
EPOCHS = 30
AGAIN = "go on with: python -m brainseg.sweep run tiny"

Way = Callable[[Sweep, Command, list[int]], None]  # of stopping a command, with its workers


def positions(sweep: Sweep) -> dict[int, tuple[int, int]]:
    """Unfinished trial -> the epoch in progress and its steps, of its checkpoint."""
    found = {}
    for trial in sweep.trials():
        if not trial.state.is_finished() and "run_id" in trial.user_attrs:
            state = Checkpoints(sweep.mlruns, trial.user_attrs["run_id"]).load()
            if state is not None:
                found[trial.number] = (state.progress.epoch, state.progress.step)
    return found


def assert_stopped(sweep: Sweep, workers: list[int]) -> None:
    assert not [pid for pid in workers if is_alive(pid)]
    assert sweep.states() == {"RUNNING": len(workers)}
    assert {run.status for run in sweep.runs()} == {"KILLED"}
    for trial in sweep.trials():
        assert trial.user_attrs["lease"] is None
        epoch, _ = positions(sweep)[trial.number]
        assert epoch == len(trial.intermediate_values) + 1


def interrupt(sweep: Sweep, command: Command, workers: list[int]) -> None:
    """Ctrl-C: the current epochs are finished first."""
    command.send(signal.SIGINT)
    assert command.exit_code() == 130, sweep.told(command)
    assert "stopping: the current epochs are finished first; Ctrl-C again stops at once" in command.text
    assert command.text.splitlines()[-1] == f"stopped by SIGINT; {AGAIN}"
    assert_stopped(sweep, workers)
    assert {step for _, step in positions(sweep).values()} == {0}


def interrupt_twice(sweep: Sweep, command: Command, workers: list[int]) -> None:
    """Ctrl-C twice: stops at once."""
    command.send(signal.SIGINT)
    command.wait_for("stopping: ")
    command.send(signal.SIGINT)
    assert command.exit_code() == 130, sweep.told(command)
    assert_stopped(sweep, workers)


def terminate(sweep: Sweep, command: Command, workers: list[int]) -> None:
    """SIGTERM: stops at once, after the current step."""
    command.send(signal.SIGTERM)
    assert command.exit_code() == 143, sweep.told(command)
    assert "stopping at once, with a checkpoint after the current step" in command.text
    assert command.text.splitlines()[-1] == f"stopped by SIGTERM; {AGAIN}"
    assert_stopped(sweep, workers)


def kill_supervisor(sweep: Sweep, command: Command, workers: list[int]) -> None:
    """SIGKILL: the workers notice, and write their checkpoints."""
    command.send(signal.SIGKILL)
    wait_until(lambda: not [pid for pid in workers if is_alive(pid)], lambda: sweep.told(command))
    stopped_at = positions(sweep)
    assert all(epoch > 1 for epoch, _ in stopped_at.values())


@pytest.mark.parametrize(
    ("ways", "count"),
    [
        pytest.param([interrupt, kill_supervisor], 1, id="2 ways"),
        pytest.param([interrupt, interrupt_twice, terminate, kill_supervisor], 2, id="4 ways", marks=pytest.mark.slow),
    ],
)
def test_a_sweep_that_is_stopped_leaves_checkpoints_and_nothing_running_and_goes_on(
    sweep: Sweep, ways: Sequence[Way], count: int
) -> None:
    sweep.write(trials=count, workers=count, overrides=[*sweep.overrides, f"train.epochs={EPOCHS}"])

    def begin() -> tuple[Command, list[int]]:
        """The command and its workers, once each has finished an epoch of this start."""
        before = {trial.number: len(trial.intermediate_values) for trial in sweep.trials()}
        command = sweep.start("run", "tiny")
        command.wait_until(
            lambda: len([t for t in sweep.trials() if len(t.intermediate_values) > before.get(t.number, 0)]) == count
        )
        workers = [worker.pid for worker in sweep.workers()]
        assert len(workers) == count
        return command, workers

    for way in ways:
        way(sweep, *begin())

    text = sweep.run("run", "tiny")
    assert f"0 of {count} trials finished, {count} interrupted" in text
    assert sweep.states() == {"COMPLETE": count}
    for trial in sweep.trials():
        assert list(trial.intermediate_values) == list(range(1, EPOCHS + 1))
        assert not trial.user_attrs.get("deaths")
    for epochs in sweep.trained().values():
        assert len(epochs) == len(set(epochs))  # none was trained again
    for run in sweep.children().values():
        assert (run.status, run.tags["state"]) == ("FINISHED", "finished")
        points = sweep.points(run.run_id)
        assert len(points) == len(set(points))
    sweep.assert_nothing_is_open()


def test_a_sweep_is_stopped_from_elsewhere_listed_and_goes_on(sweep: Sweep) -> None:
    overrides = [item for item in sweep.overrides if "epochs" not in item]
    sweep.write(trials=1, workers=1, overrides=[*overrides, f"train.epochs={EPOCHS}"])
    command = sweep.start("run", "tiny")
    command.wait_until(lambda: sweep.epochs() >= 2 and len(sweep.workers()) == 1)
    status = json.loads(sweep.run("status", "tiny", "--json"))
    assert (status["state"], [worker["trial"] for worker in status["workers"]]) == ("running", [0])
    assert {worker["epochs"] for worker in status["workers"]} == {EPOCHS}

    text = sweep.run("stop", "tiny")
    assert text.startswith("tiny: 1 worker ends after the epoch, with a checkpoint; sweep run tiny goes on with it\n")
    assert command.exit_code() == 0, sweep.told(command)
    assert command.text.splitlines()[-1] == "not finished yet; go on with: python -m brainseg.sweep run tiny"
    assert sweep.states() == {"RUNNING": 1}
    assert {step for _, step in positions(sweep).values()} == {0}  # between two epochs
    assert all(trial.user_attrs["lease"] is None for trial in sweep.trials())
    assert sweep.run("worker", "tiny") == "the study was stopped by `sweep stop`\n"
    (listed,) = json.loads(sweep.run("list", "--json"))["studies"]
    assert (listed["name"], listed["state"], listed["finished"], listed["asked"]) == ("tiny", "stopped", 0, 1)

    text = sweep.run("run", "tiny")
    assert "note: tiny was stopped by `sweep stop`, and goes on now\n" in text
    assert sweep.states() == {"COMPLETE": 1}
    assert "tiny   finished     1/1" in sweep.run("list")
    sweep.assert_nothing_is_open()
