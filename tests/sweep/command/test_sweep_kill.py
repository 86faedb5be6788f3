"""A sweep that is killed at any moment goes on with the same command, and ends as if nothing had happened."""

import signal
import time

import numpy as np
import pytest
from processes import POLL_S, Command, kill, wait_until

from brainseg.sweep.engine.trial_queue import DEATHS_ALLOWED
from brainseg.sweep.engine.trial_row import shown_metric
from sweeps import MakeSweep, Sweep, Worker, history, outcome

pytestmark = pytest.mark.timeout(1800)

# Where a sweep is caught, and the longest random wait from there on, in seconds.
STARTING, IN_A_TRIAL, ENDING_A_TRIAL = "starting", "in a trial", "ending a trial"
WAITS_S = {STARTING: 4.0, IN_A_TRIAL: 0.6, ENDING_A_TRIAL: 0.6}
FEW, MANY = 2, 20
MOMENTS = {
    FEW: (IN_A_TRIAL, ENDING_A_TRIAL),
    MANY: (STARTING, IN_A_TRIAL, IN_A_TRIAL, ENDING_A_TRIAL, IN_A_TRIAL) * 4,
}
EPOCHS = 6


def wait_for(moment: str, sweep: Sweep, command: Command) -> None:
    """Returns when the sweep is there, or has ended."""
    wanted = {STARTING: 0, IN_A_TRIAL: 1, ENDING_A_TRIAL: EPOCHS}[moment]
    before = {trial.number: len(trial.intermediate_values) for trial in sweep.trials()}

    def is_there() -> bool:
        now = {trial.number: len(trial.intermediate_values) for trial in sweep.trials()}
        return any(wanted <= now[number] != before.get(number, 0) for number in now)

    if wanted:
        wait_until(lambda: is_there() or command.poll() is not None, lambda: sweep.told(command))


def test_a_trial_of_several_runs_killed_in_the_second_one_ends_like_one_that_never_was(make_sweep: MakeSweep) -> None:
    changes = {"trials": 1, "workers": 1, "repeat": {"seed": [0, 1]}}
    undisturbed, sweep = make_sweep("undisturbed-runs", **changes), make_sweep("runs", **changes)
    undisturbed.run("run", "tiny")
    command = sweep.start("run", "tiny")
    command.wait_until(lambda: sweep.epochs() > EPOCHS + 1)  # by then, the second run's first epoch is in the log
    command.kill_all()
    sweep.run("run", "tiny")

    (trial,), (expected,) = sweep.trials(), undisturbed.trials()
    assert outcome(trial) == outcome(expected)
    assert sorted(trial.intermediate_values) == list(range(1, 2 * EPOCHS + 1))
    found, references = (
        [each.store.read(run["run_id"]) for run in each.trials()[0].user_attrs["runs"]] for each in (sweep, undisturbed)
    )
    assert [history(run) for run in found] == [history(run) for run in references]
    assert [run.tags["repeat"] for run in found] == ["seed=0", "seed=1"]
    (parent,) = sweep.parents()
    assert [run.tags["parent"] for run in found] == [parent.run_id] * 2
    dices = [run.metrics["val_dice_image"] for run in found]
    best = [max(curve.values()) for curve in dices]
    assert trial.value == pytest.approx(sum(best) / 2)
    assert trial.user_attrs["spread"]["val_dice_image"] == pytest.approx(abs(best[0] - best[1]) / 2**0.5)
    # The first run's six epochs were trained once.
    assert "goes on in epoch" in "".join(path.read_text() for path in sweep.logs())
    assert sum(path.read_text().count(f"epoch 1/{EPOCHS} ") for path in sweep.logs()) == 2
    spread = shown_metric(trial.user_attrs["spread"]["val_dice_image"])
    told = f"Best val_dice_image: {shown_metric(trial.value)} ± {spread} over 2 runs, the baseline"
    assert told in sweep.run("status", "tiny")
    code = "from brainseg.report.__main__ import main; raise SystemExit(main(['tiny']))"
    report = sweep.start(code, program="-c")
    assert report.exit_code() == 0, report.text
    page = (sweep.folder / "report.html").read_text()
    assert f"<td>{shown_metric(trial.value)} ± {spread}</td>" in page  # in the table of trials
    assert f"± {spread} over 2 runs" in page
    sweep.assert_nothing_is_open()


@pytest.fixture(scope="session")
def long_undisturbed(make_sweep: MakeSweep) -> Sweep:
    """A study with trials enough for many kills, run to its end with nothing in its way."""
    sweep = make_sweep("long", trials=20)
    sweep.run("run", "tiny")
    return sweep


@pytest.fixture
def reference(request: pytest.FixtureRequest, kills: int) -> Sweep:
    """What a sweep with so many kills has to end like."""
    found: Sweep = request.getfixturevalue("undisturbed" if kills == FEW else "long_undisturbed")
    return found


@pytest.mark.parametrize("kills", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
def test_a_sweep_killed_again_and_again_ends_like_one_that_never_was(
    sweep: Sweep, reference: Sweep, kills: int
) -> None:
    rng = np.random.default_rng(kills)
    sweep.write(trials=len(reference.trials()))
    command = sweep.start("run", "tiny")
    done = 0
    for moment in MOMENTS[kills]:
        wait_for(moment, sweep, command)
        time.sleep(rng.uniform(0, WAITS_S[moment]))
        command.kill_all()
        done += command.exit_code() == -signal.SIGKILL
        command = sweep.start("run", "tiny")
    print(f"{done} kills of the supervisor and its workers, at {sweep.states()} in the end")
    assert done >= 0.9 * kills
    assert command.exit_code() == 0, sweep.told(command)

    sweep.assert_nothing_is_open()
    sweep.assert_same_as(reference)
    for epochs in sweep.trained().values():
        assert len(epochs) == len(set(epochs))  # an epoch whose checkpoint was written is not trained again
    (parent,) = sweep.parents()
    assert (parent.status, parent.tags["state"]) == ("FINISHED", "finished")


@pytest.mark.slow
@pytest.mark.parametrize("kills", [FEW, MANY])
def test_a_sweep_whose_workers_are_killed_again_and_again_ends_like_one_whose_never_were(
    sweep: Sweep, reference: Sweep, kills: int
) -> None:
    rng = np.random.default_rng(kills)
    sweep.write(trials=len(reference.trials()))
    command = sweep.start("run", "tiny")
    dead: dict[int, int] = {}  # process -> how many epochs its trial had

    def mortal() -> list[Worker]:
        """Those whose trial wouldn't fail of one more death."""
        return [
            worker
            for worker in sweep.workers()
            if worker.pid not in dead and worker.deaths.count(worker.epochs) < DEATHS_ALLOWED - 1
        ]

    while len(dead) < kills and command.poll() is None:
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
    assert len(dead) >= 0.9 * kills
    assert command.exit_code() == 0, sweep.told(command)

    sweep.assert_nothing_is_open()
    sweep.assert_same_as(reference)
    for epochs in sweep.trained().values():
        assert len(epochs) == len(set(epochs))
