"""A trial of several runs, with a stand-in for their training: values by hand, kills between and inside the runs."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from queue_processes import queue_on, started, trials_of
from study_files import LEFT_OUT, made_study

from brainseg.config import RunConfig
from brainseg.errors import Interrupted
from brainseg.sweep.engine.epoch_watch import StopAfterEpoch
from brainseg.sweep.engine.keys import DEADLINE, PARENT_RUN, RUNS, SECONDS, SPREAD
from brainseg.sweep.engine.trial_row import shown_values, trial_row
from brainseg.sweep.engine.trial_runs import TrialRuns
from brainseg.sweep.engine.worker import Worker
from brainseg.sweep.outcome.summary import trials_csv
from brainseg.tracking import MemoryStore, RunRecord
from brainseg.train.checkpoint import Checkpoints

EPOCHS = 2
DICES = {0: 0.25, 1: 0.5, 2: 0.75}  # of each seed, at depth 3
FIVE = {"repeat": {"seed": [0, 1, 2, 3, 4]}}


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the code under test may catch it."""


class Trainings:
    """Stands for the training of a run: what was trained, and where it is killed."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.trained: list[tuple[int, int]] = []  # seed and epoch
        self.kill_at: tuple[int, int] | None = None
        self.after_run: Callable[[int], None] = lambda seed: None  # once MLflow has it, before the study does
        self.dice: Callable[[RunConfig], float] = lambda config: DICES[config.seed] - (config.model.depth - 3) / 8
        self._done: dict[str, int] = {}  # run -> its epochs

    def run(self, config: RunConfig, tracker: Any, *, on_epoch: Any, tags_of: Any, **_: Any) -> Any:
        """Goes on where the run was."""
        from brainseg.train.experiment import Result

        dice, run_id = self.dice(config), tracker.run_id
        with tracker:
            for epoch in range(1, EPOCHS + 1):
                if epoch > self._done.get(run_id, 0):
                    if (config.seed, epoch) == self.kill_at:
                        self.kill_at = None
                        raise Killed
                    self.trained.append((config.seed, epoch))
                    self._done[run_id] = epoch
                on_epoch(epoch, {"val_dice_image": dice, "seconds": 10.0})
            result = Result(
                run_id=run_id,
                history=({"seconds": 10.0},) * EPOCHS,
                best_epoch=1,
                best_val_dice_image=dice,
                final_dice=dice,
                dice_by_class={},
                dice_by_type={},
                parameters=1000,
                seconds_per_image=0.5,
                further={},
            )
            if tags_of is not None:
                tracker.set_tags(tags_of(result))
        self.after_run(config.seed)
        return result


@pytest.fixture
def trainings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trainings:
    monkeypatch.chdir(tmp_path)
    found = Trainings()
    monkeypatch.setattr("brainseg.train.experiment.prepare", lambda *_: None)
    monkeypatch.setattr("brainseg.train.experiment.run", found.run)
    monkeypatch.setattr(TrialRuns, "_going_on", lambda self, config, *_: (config, None))
    monkeypatch.setattr("brainseg.sweep.engine.trial_runs.open_store", lambda _: found.store)
    monkeypatch.setattr(
        "brainseg.sweep.engine.trial_runs.open_tracker", lambda _, **given: found.store.open_tracker(**given)
    )
    return found


def start(where: str, **changes: Any) -> None:
    """The small study of three seeds; what is asked of it goes through its storage."""
    config = made_study(Path.cwd(), **({"repeat": {"seed": [0, 1, 2]}, "overrides": ["train.epochs=2"]} | changes))
    started(where, config).set_user_attr(PARENT_RUN, "parent")


def work(where: str, trials: int) -> None:
    """A worker's process, which may be killed; it ends after so many trials."""
    with queue_on(where, is_killed=True) as queue:
        worker = Worker(queue, queue._config, threads=1, stop=StopAfterEpoch())
        for _ in range(trials):
            assert worker._work_once() is None


@pytest.fixture
def where(tmp_path: Path) -> str:
    return str(tmp_path / "study.journal")


def runs(trainings: Trainings) -> Iterator[RunRecord]:
    return (trainings.store.read(run_id) for run_id in trainings.store.find({}))


BASELINE = {"baseline": {"model.dropout": 0.1, "model.depth": 3}}


def test_a_trial_is_the_mean_of_its_runs_with_their_spread(where: str, trainings: Trainings) -> None:
    start(where, **BASELINE, constraints=["final_dice >= 0.6"])
    work(where, 1)
    (trial,) = trials_of(where)
    assert trainings.trained == [(0, 1), (0, 2), (1, 1), (1, 2), (2, 1), (2, 2)]
    assert trial.value == 0.5  # of 0.25, 0.5 and 0.75, whose squares of differences add up to 0.125
    assert trial.user_attrs[SPREAD] == {"val_dice_image": 0.25}
    assert trial.user_attrs[SECONDS] == 60.0
    assert list(trial.intermediate_values) == [1, 2, 3, 4, 5, 6]
    assert trial.constraints == {"final_dice >= 0.6": pytest.approx(0.1)}  # which the last run alone would keep
    assert [run["values"]["final_dice"] for run in trial.user_attrs[RUNS]] == [0.25, 0.5, 0.75]

    found = list(runs(trainings))
    assert [run.run_id for run in found] == [run["run_id"] for run in trial.user_attrs[RUNS]]
    assert [(run.tags["trial"], run.tags["repeat"], run.tags["parent"]) for run in found] == [
        ("0", f"seed={seed}", "parent") for seed in (0, 1, 2)
    ]
    assert [f"seed={seed}" in run.tags["overrides"].split() for seed, run in enumerate(found)] == [True] * 3
    assert [run.tags["state"] for run in found] == ["finished", "finished", "infeasible"]

    row = trial_row(trial)
    assert shown_values(row, ["val_dice_image"]) == ["0.5000 ± 0.2500"]
    assert (row.epoch, row.epochs) == (6, 6)
    head, line = trials_csv([trial], made_study(Path.cwd(), repeat={"seed": [0, 1, 2]})).splitlines()
    assert head.startswith("trial,state,val_dice_image,val_dice_image_spread,runs,model.dropout,")
    assert line.startswith(f"0,infeasible,0.5,0.25,{' '.join(row.runs)},0.1,3,")


@pytest.mark.parametrize(
    "kill_at",
    [
        pytest.param((1, 2), id="inside the second run"),
        pytest.param((1, 1), id="before the second run's first epoch"),
        pytest.param((2, 1), id="in the last run"),
        pytest.param(None, id="before the study knows of the first run"),
    ],
)
def test_a_killed_trial_trains_no_finished_run_again(
    where: str, trainings: Trainings, kill_at: tuple[int, int] | None
) -> None:
    start(where, **BASELINE)
    trainings.kill_at = kill_at
    if kill_at is None:

        def killed_once(seed: int) -> None:
            trainings.after_run = lambda seed: None
            raise Killed

        trainings.after_run = killed_once
    with pytest.raises(Killed):
        work(where, 1)
    work(where, 1)
    (trial,) = trials_of(where)
    assert trainings.trained == [(0, 1), (0, 2), (1, 1), (1, 2), (2, 1), (2, 2)]
    assert (trial.value, trial.user_attrs[SPREAD]) == (0.5, {"val_dice_image": 0.25})
    assert trial.intermediate_values == {1: 0.25, 2: 0.25, 3: 0.5, 4: 0.5, 5: 0.75, 6: 0.75}
    assert len(list(runs(trainings))) == 3


def test_a_trial_that_is_killed_between_two_runs_goes_on_with_the_next(
    where: str, trainings: Trainings, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(where, **BASELINE)
    with monkeypatch.context() as patched:

        def killed(self: Checkpoints) -> None:
            raise Killed

        patched.setattr(Checkpoints, "remove", killed)
        for _ in range(3):  # once after each run
            with pytest.raises(Killed):
                work(where, 1)
    (trial,) = trials_of(where)
    assert trainings.trained == list(itertools.product((0, 1, 2), (1, 2)))
    assert (trial.state.name, trial.value) == ("COMPLETE", 0.5)


def test_a_trial_whose_runs_are_all_worse_than_the_best_trials_is_stopped_between_them(
    where: str, trainings: Trainings
) -> None:
    start(where, **FIVE, **BASELINE, pruner={"name": "wilcoxon"}, enqueue=[{"model.dropout": 0.1, "model.depth": 4}])
    trainings.dice = lambda config: 0.5 + config.seed / 16 - (config.model.depth - 3) / 8
    work(where, 2)
    best, stopped = trials_of(where)
    assert (best.state.name, best.value) == ("COMPLETE", 0.625)
    # After four runs p is 1/16, and after three 1/8.
    assert (stopped.state.name, len(stopped.user_attrs[RUNS])) == ("PRUNED", 4)
    row = trial_row(stopped)
    assert row.reason == "pruned after 4 of 5 runs by WilcoxonPruner, at a mean val_dice_image of 0.4688"
    assert (row.epoch, row.epochs, row.seconds) == (8, 10, 80.0)
    assert {run.status for run in runs(trainings)} == {"FINISHED"}


def test_a_trial_that_was_stopped_stays_so_after_a_kill(
    where: str, trainings: Trainings, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(where, **FIVE, **BASELINE, pruner={"name": "wilcoxon"}, enqueue=[{"model.dropout": 0.1, "model.depth": 4}])
    trainings.dice = lambda config: 0.5 + config.seed / 16 - (config.model.depth - 3) / 8
    work(where, 1)
    with monkeypatch.context() as patched:

        def killed(*_: object, **__: object) -> bool:
            raise Killed

        patched.setattr("brainseg.sweep.engine.trial_queue.TrialQueue.tell", killed)
        with pytest.raises(Killed):
            work(where, 1)
    monkeypatch.setattr("optuna.pruners.WilcoxonPruner.prune", lambda *_: False)  # it isn't asked again
    work(where, 1)
    assert [trial.state.name for trial in trials_of(where)] == ["COMPLETE", "PRUNED"]
    assert len(list(runs(trainings))) == 9


def test_between_two_runs_a_stop_gives_the_trial_back(where: str, trainings: Trainings) -> None:
    start(where, **BASELINE)
    with queue_on(where) as queue:
        stop = StopAfterEpoch()

        def stopped(seed: int) -> None:
            stop.is_requested = True

        trainings.after_run = stopped
        with pytest.raises(Interrupted):
            Worker(queue, queue._config, threads=1, stop=stop)._work_once()
    (trial,) = trials_of(where)
    assert (trial.state.name, trial.user_attrs["lease"], len(trial.user_attrs[RUNS])) == ("RUNNING", None, 1)
    trainings.after_run = lambda seed: None
    work(where, 1)
    (trial,) = trials_of(where)
    assert trial.value == 0.5
    assert trainings.trained == list(itertools.product((0, 1, 2), (1, 2)))


def test_several_metrics_have_a_mean_and_a_spread_each(where: str, trainings: Trainings) -> None:
    metrics = {"final_dice": "maximize", "parameters": "minimize"}
    start(where, **BASELINE, metric=LEFT_OUT, direction=LEFT_OUT, metrics=metrics)
    work(where, 1)
    (trial,) = trials_of(where)
    assert trial.values == [0.5, 1000.0]
    assert trial.user_attrs[SPREAD] == {"final_dice": 0.25, "parameters": 0.0}
    assert shown_values(trial_row(trial), metrics) == ["0.5000 ± 0.2500", "1000 ± 0.0000"]


def test_the_time_limit_ends_a_trial_between_two_runs(where: str, trainings: Trainings) -> None:
    start(where, **BASELINE)
    with queue_on(where) as queue:
        trainings.after_run = lambda seed: queue.study.set_user_attr(DEADLINE, 1.0)
        worker = Worker(queue, queue._config, threads=1, stop=StopAfterEpoch())
        assert worker.work() == "stopped"
    (trial,) = trials_of(where)
    assert (trial.state.name, trial.user_attrs["lease"], len(trial.user_attrs[RUNS])) == ("RUNNING", None, 1)
