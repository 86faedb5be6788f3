"""Trials that fail: which are tried again, what is said of them, and when a sweep gives up."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import processes
import pytest
from backends import Server
from processes import kill, wait_until

from brainseg.config import TrackingConfig
from brainseg.data.phantom.source import PhantomSource, write_phantom
from brainseg.sweep.engine.leases import ProcessLock
from brainseg.sweep.engine.storage import open_storage
from brainseg.tracking import open_store
from sweeps import BAD_RATE, DECAY, DROPOUT, RATE, Sweep

pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def server(tmp_path: Path, empty_store: Path, process_server: processes.Server) -> Iterator[Server]:
    """A real MLflow server that can be killed."""
    running = Server(tmp_path, empty_store, process_server)
    try:
        running.start()
        yield running
    finally:
        running.kill()


def test_a_trial_whose_loss_is_nan_fails_and_the_sweep_goes_on_until_too_many_have(sweep: Sweep) -> None:
    bad = {RATE: BAD_RATE, DROPOUT: 0.1}
    study = {
        "trials": 1,
        "workers": 1,
        "overrides": [*sweep.overrides, DECAY],
        "space": {**sweep.space, RATE: {"type": "float", "low": 1e-3, "high": BAD_RATE, "log": True}},
        "baseline": bad,
        "enqueue": [bad | {DROPOUT: 0.2}, {RATE: 1e-2, DROPOUT: 0.3}],
    }
    sweep.write(**study, failures=1)
    text = sweep.run("run", "tiny", expected=1)
    assert sweep.states()["COMPLETE"] == 0
    (line,) = [line for line in text.splitlines() if line.startswith("error: ")]
    nan = "NonFiniteError: (train|val)_loss is nan in epoch "
    assert re.match(f"error: 2 trials failed, and 1 are allowed: {nan}", line)
    assert line.endswith("raise `failures` in the study file, and run the same command again")
    runs = sweep.children()
    for number in (0, 1):
        trial, run = sweep.trials()[number], runs[number]
        assert (run.status, run.tags["state"]) == ("FAILED", "failed")
        assert run.tags["failure"] == trial.user_attrs["failure"]
        assert re.match(nan, run.tags["failure"])
        assert trial.user_attrs["attempts"] == 1
    (parent,) = sweep.parents()
    assert (parent.status, parent.tags["failure"]) == ("FAILED", "SweepError: " + line.removeprefix("error: "))
    sweep.assert_nothing_is_open()

    sweep.write(**study, failures=2)
    sweep.run("run", "tiny")
    assert sweep.states() == {"COMPLETE": 1, "FAIL": 2}
    (parent,) = sweep.parents()
    assert (parent.status, parent.tags["state"]) == ("FINISHED", "finished")
    assert "failure" not in parent.tags


def test_a_trial_that_raises_is_tried_again_in_the_same_run(sweep: Sweep) -> None:
    sweep.write(workers=1, trials=1, retries=100_000)
    checkpoints = sweep.mlruns / "checkpoints"
    checkpoints.write_text("")  # no folder can be made there
    command = sweep.start("run", "tiny")
    command.wait_until(lambda: sweep.states().total() > 0 and sweep.trials()[0].user_attrs.get("attempts", 0) > 0)
    checkpoints.unlink()
    assert command.exit_code() == 0, sweep.told(command)
    (trial,) = sweep.trials()
    assert trial.state.name == "COMPLETE"
    assert trial.user_attrs["failure"].startswith("NotADirectoryError: ")
    (run,) = sweep.children().values()
    assert (run.status, run.tags["state"]) == ("FINISHED", "finished")
    assert "failure" not in run.tags
    sweep.assert_nothing_is_open()


def test_a_trial_that_raises_again_and_again_has_failed(sweep: Sweep) -> None:
    sweep.write(workers=1, trials=1, retries=1, failures=0)
    (sweep.mlruns / "checkpoints").write_text("")
    text = sweep.run("run", "tiny", expected=1)
    assert "error: 1 trials failed, and 0 are allowed: NotADirectoryError: " in text
    (trial,) = sweep.trials()
    assert (trial.state.name, trial.user_attrs["attempts"]) == ("FAIL", 2)
    (run,) = sweep.children().values()
    assert (run.status, run.tags["failure"]) == ("FAILED", trial.user_attrs["failure"])


def cut(folder: Path) -> None:
    path = folder / "last.npz"
    path.write_bytes(path.read_bytes()[:-100])


def without_split(folder: Path) -> None:
    path = folder / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"split_json": "{"}))


@pytest.mark.parametrize("damage", [cut, without_split])
def test_a_trial_whose_checkpoint_is_damaged_starts_again_and_ends_the_same(
    sweep: Sweep, damage: Callable[[Path], None]
) -> None:
    sweep.write(workers=1, trials=1, failures=0, retries=0)
    command = sweep.start("run", "tiny")
    command.wait_until(lambda: sweep.epochs() > 1)
    command.kill_all()
    before = dict(sweep.trials()[0].intermediate_values)
    (folder,) = (sweep.mlruns / "checkpoints").iterdir()
    damage(folder)
    sweep.run("run", "tiny")
    (trial,) = sweep.trials()
    assert (trial.state.name, len(trial.intermediate_values)) == ("COMPLETE", 6)
    assert "attempts" not in trial.user_attrs
    assert before.items() <= trial.intermediate_values.items()
    (run,) = sweep.children().values()
    assert (run.run_id, run.status) == (folder.name, "FINISHED")
    assert run.metrics["val_dice_image"] == trial.intermediate_values
    points = sweep.points(run.run_id)
    assert len(points) == len(set(points))
    log = "".join(path.read_text() for path in sweep.logs())
    assert "can't be read (" in log or "the split in " in log
    assert f"no checkpoint of run {folder.name} in mlruns/checkpoints: the trial starts again from its first" in log
    sweep.assert_nothing_is_open()


def test_data_that_is_away_or_changed_for_a_moment_costs_no_trial(sweep: Sweep) -> None:
    slices, elsewhere = sweep.folder / "slices", sweep.folder / "elsewhere"
    write_phantom(PhantomSource(patients=6, seed=0), slices)
    overrides = [item for item in sweep.overrides if "phantom" not in item]
    sweep.write(workers=1, trials=3, failures=0, overrides=[*overrides, "data=folder", "data.root=slices"])
    command = sweep.start("run", "tiny")
    command.wait_until(lambda: len(sweep.trials()) == 1 and sweep.epochs() > 0)
    slices.rename(elsewhere)
    command.wait_for("worker 1 ended with an error: error: slices")  # a file, or the whole folder
    elsewhere.rename(slices)

    command.wait_until(lambda: len(sweep.trials()) == 2 and bool(sweep.trials()[1].intermediate_values))
    first, second, *_ = sorted((slices / "images").iterdir())
    before = first.read_bytes()
    first.write_bytes(second.read_bytes())
    command.wait_for(
        "has changed since the study started; restore it, or start another study with --new NAME; it starts"
    )
    first.write_bytes(before)

    assert command.exit_code() == 0, sweep.told(command)
    assert sweep.states() == {"COMPLETE": 3}
    assert not [trial for trial in sweep.trials() if "attempts" in trial.user_attrs]
    assert {run.status for run in sweep.runs()} == {"FINISHED"}
    sweep.assert_nothing_is_open()


@pytest.mark.slow  # test_local_launcher.py and test_host.py have the rules
def test_a_study_goes_on_where_its_data_has_been_moved_to(sweep: Sweep) -> None:
    before, after = sweep.folder / "before", sweep.folder / "after"
    write_phantom(PhantomSource(patients=6, seed=0), before)
    overrides = [item for item in sweep.overrides if "phantom" not in item]
    sweep.write(workers=1, trials=2, failures=0, overrides=[*overrides, "data=folder"])
    sweep.run("run", "tiny", f"data.root={before}", "--trials", "1")
    before.rename(after)
    sweep.run("run", "tiny", f"data.root={after}")
    assert sweep.states() == {"COMPLETE": 2}
    assert [run.params["data.root"] for _, run in sorted(sweep.children().items())] == [str(before), str(after)]


@pytest.mark.slow
def test_an_mlflow_server_that_is_away_for_a_moment_costs_no_trial(sweep: Sweep, server: Server) -> None:
    sweep.write(overrides=[*sweep.overrides, "train.epochs=40"])
    command = sweep.start("run", "tiny", f"tracking.uri={server.uri}")
    command.wait_until(lambda: len(sweep.trials()) == 2 and sweep.epochs() > 0)
    with server.killed():
        command.wait_until(lambda: f"{server.uri} can't be reached" in sweep.told(command))
        assert "COMPLETE" not in sweep.states()  # this host would have the only record of a finished trial
    assert command.exit_code() == 0, sweep.told(command)
    assert sweep.states() == {"COMPLETE": 3}
    assert not [trial for trial in sweep.trials() if "attempts" in trial.user_attrs]
    store = open_store(TrackingConfig(root=str(sweep.mlruns), uri=server.uri))
    runs = [store.read(run_id) for run_id in store.find({"sweep": "tiny"})]
    assert [run.status for run in runs] == ["FINISHED"] * 4
    for trial in sweep.trials():
        (run,) = [run for run in runs if run.run_id == trial.user_attrs["run_id"]]
        assert run.metrics["val_dice_image"] == trial.intermediate_values
        assert "failure" not in run.tags
    assert sweep.spooled() == []


@pytest.mark.slow
def test_a_worker_that_was_taken_for_dead_leaves_its_trial_alone(sweep: Sweep) -> None:
    sweep.write(workers=1, trials=1, overrides=[*sweep.overrides, "train.epochs=20"])
    command = sweep.start("run", "tiny")
    command.wait_until(lambda: sweep.epochs() > 0)
    (trial,) = sweep.trials()
    storage = open_storage(None, root=sweep.mlruns, name="tiny").optuna
    with ProcessLock(sweep.mlruns / "studies" / "alive") as another:
        storage.set_trial_user_attr(trial._trial_id, "lease", trial.user_attrs["lease"] | {"worker": another.id})
        wait_until(lambda: "another worker has taken this trial; this one leaves it" in sweep.told(command), str)
        wait_until(lambda: [run.status for run in sweep.children().values()] == ["KILLED"], lambda: sweep.told(command))
    assert command.exit_code() == 0, sweep.told(command)
    (trial,) = sweep.trials()
    assert list(trial.intermediate_values) == list(range(1, 21))
    (run,) = sweep.children().values()
    assert (run.status, run.tags["state"]) == ("FINISHED", "finished")
    assert "failure" not in run.tags
    for epochs in sweep.trained().values():
        assert len(epochs) == len(set(epochs))
    sweep.assert_nothing_is_open()


@pytest.mark.slow  # test_many_workers.py and test_local_launcher.py have the rules
def test_a_trial_whose_worker_is_killed_again_and_again_in_one_epoch_has_failed(sweep: Sweep) -> None:
    sweep.write(workers=1, trials=1, failures=1)
    command = sweep.start("run", "tiny")
    killed: set[int] = set()

    def pids() -> set[int]:
        return {worker.pid for worker in sweep.workers()}

    for _ in range(3):
        command.wait_until(lambda: bool(pids() - killed) and "run_id" in sweep.trials()[0].user_attrs)
        (pid,) = pids() - killed
        kill(pid)
        killed.add(pid)
    assert command.exit_code() == 0, sweep.told(command)
    first, second = sweep.trials()
    reason = "KilledTooOftenError: killed 3 times at epoch 1; out of memory?"
    assert (first.state.name, first.user_attrs["failure"]) == ("FAIL", reason)
    assert first.user_attrs["deaths"] == [0, 0, 0]
    assert second.state.name == "COMPLETE"
    runs = sweep.children()
    assert (runs[0].status, runs[0].tags["failure"]) == ("FAILED", reason)
    assert runs[1].status == "FINISHED"
    assert command.text.count("worker 1 was killed; it starts again") == 3
    sweep.assert_nothing_is_open()
