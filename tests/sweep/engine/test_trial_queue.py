"""The queue of a study's trials: who gets which, how often, and what becomes of it; the same in both storages."""

import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from optuna.trial import Trial, TrialState
from postgres import sql
from queue_processes import EPOCHS, claimed, finish, opened, queue_on, score, started, trials_of
from study_files import LEFT_OUT, SMALL, made_study

from brainseg.sweep.engine import leases, queue_study, storage
from brainseg.sweep.engine.keys import (
    ATTEMPTS,
    BEGUN,
    CLAIMS,
    DEATHS,
    FAILURE,
    HEARTBEAT,
    LEASE,
    LINE,
    RUN_ID,
    is_feasible,
)
from brainseg.sweep.engine.leases import STALE_S, Lease, ProcessLock
from brainseg.sweep.engine.trial_queue import Claim, NoTrial, TrialQueue
from brainseg.sweep.study.parameter import Value
from brainseg.sweep.study.study_file import StudyConfig
from brainseg.tracking.mlflow.connection import UnreachableError

CONTINUOUS: dict[str, Any] = {
    "optimizer.learning_rate": {"type": "float", "low": 1e-5, "high": 1e-2, "log": True},
    "model.dropout": {"type": "float", "low": 0.0, "high": 0.5},
    "model.depth": {"type": "int", "low": 3, "high": 5},
}
GRID: dict[str, Any] = {
    "model.dropout": {"type": "float", "low": 0.0, "high": 0.4, "step": 0.2},
    "model.norm": {"type": "categorical", "choices": ["none", "batch"]},
}


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def queues(where: str, tmp_path: Path) -> Iterator[tuple[TrialQueue, TrialQueue]]:
    """Two workers' queues on the small study."""
    started(where, made_study(tmp_path))
    with queue_on(where) as first, queue_on(where) as second:
        yield first, second


def states(where: str) -> list[str]:
    return [trial.state.name for trial in trials_of(where)]


def nothing(queue: TrialQueue) -> NoTrial:
    """Why there is no trial, which has to be so."""
    claim = queue.claim()
    assert isinstance(claim, NoTrial), claim
    return claim


def test_the_baseline_comes_first_then_what_is_enqueued_then_the_sampler(where: str, tmp_path: Path) -> None:
    second = {"model.dropout": 0.5, "model.depth": 3}
    config = made_study(tmp_path, enqueue=[second])
    started(where, config)
    with queue_on(where) as queue:
        claims = [claimed(queue) for _ in range(3)]
    assert [claim.params for claim in claims[:2]] == [SMALL["baseline"], second]
    assert list(claims[2].params) == ["model.dropout", "model.depth"]
    assert [claim.trial.number for claim in claims] == [0, 1, 2]
    assert all(claim.is_new and not claim.is_condemned for claim in claims)


def test_the_total_counts_running_trials_and_ends_the_queue(where: str, tmp_path: Path) -> None:
    started(where, made_study(tmp_path, trials=2))
    with queue_on(where) as queue, queue_on(where) as other:
        claims = claimed(queue), claimed(other)
        assert nothing(queue) == NoTrial(is_over=False, reason="2 trials are still running")
        finish(queue, claims[0])
        assert nothing(queue) == NoTrial(is_over=False, reason="1 trials are still running")
        finish(other, claims[1], TrialState.PRUNED)
        assert nothing(queue) == NoTrial(is_over=True, reason="2 of 2 trials are finished")
    assert states(where) == ["COMPLETE", "PRUNED"]


def test_what_is_enqueued_never_exceeds_the_total(where: str, tmp_path: Path) -> None:
    enqueue = [{"model.dropout": 0.5, "model.depth": depth} for depth in (3, 4)]
    started(where, made_study(tmp_path, trials=1, enqueue=enqueue))
    with queue_on(where) as queue:
        finish(queue, claimed(queue))
        assert nothing(queue).is_over
    assert states(where) == ["COMPLETE", "WAITING", "WAITING"]


def test_a_higher_total_goes_on_with_a_finished_study(where: str, tmp_path: Path) -> None:
    started(where, made_study(tmp_path, trials=1))
    with queue_on(where) as queue:
        finish(queue, claimed(queue))
        assert nothing(queue).is_over
        started(where, made_study(tmp_path, trials=3))
        for number in (1, 2):
            claim = claimed(queue)
            assert claim.trial.number == number
            finish(queue, claim)
        assert nothing(queue).reason == "3 of 3 trials are finished"


@pytest.mark.parametrize("retries", [0, 2])
def test_a_failed_trial_is_tried_again_as_often_as_the_study_says(where: str, tmp_path: Path, retries: int) -> None:
    started(where, made_study(tmp_path, retries=retries))
    with queue_on(where) as queue:
        for attempt in range(retries + 1):
            claim = claimed(queue)
            assert (claim.trial.number, claim.params, claim.is_new) == (0, SMALL["baseline"], attempt == 0)
            assert claim.attributes.get(ATTEMPTS, 0) == attempt
            assert queue.fail(claim, f"reason {attempt}", may_retry=True) == (attempt == retries)
        assert claimed(queue).trial.number == 1
    assert states(where) == ["FAIL", "RUNNING"]
    assert trials_of(where)[0].user_attrs[FAILURE] == f"reason {retries}"


def test_each_claim_of_a_trial_has_the_next_number(queues: tuple[TrialQueue, TrialQueue]) -> None:
    first, second = queues
    old = claimed(first)
    first.give_back(old)
    new = claimed(second)
    assert (old.trial.number, old.attempt, new.trial.number, new.attempt) == (0, 1, 0, 2)
    assert not first.is_begun_after(old)  # it may still go on from a checkpoint of the attempt before
    second.remember(new, {BEGUN: new.attempt})
    assert first.is_begun_after(old)
    assert not second.is_begun_after(new)


def test_a_failure_that_would_come_again_is_final(queues: tuple[TrialQueue, TrialQueue], where: str) -> None:
    assert queues[0].fail(claimed(queues[0]), "a key is wrong", may_retry=False)
    assert states(where) == ["FAIL"]


def test_more_failures_than_allowed_end_the_queue(where: str, tmp_path: Path) -> None:
    started(where, made_study(tmp_path, failures=1, trials=2))
    with queue_on(where) as queue:
        for number in range(2):
            claim = claimed(queue)
            assert claim.trial.number == number  # a failed trial doesn't count towards the total
            queue.fail(claim, "no memory", may_retry=False)
        assert nothing(queue) == NoTrial(is_over=True, reason="2 trials failed, and 1 are allowed")
        started(where, made_study(tmp_path, failures=2, trials=2))
        assert claimed(queue).trial.number == 2


def test_a_trial_that_is_given_back_goes_on_with_anyone(queues: tuple[TrialQueue, TrialQueue]) -> None:
    first, second = queues
    claim = claimed(first)
    first.report(claim, 1, 0.5)
    first.remember(claim, {LINE: "model.dropout=0.1"})
    first.give_back(claim)
    assert not first.is_mine(claim)
    again = claimed(second)
    assert (again.trial.number, again.params, again.is_new) == (0, claim.params, False)
    assert (again.attributes[LINE], second.reported(again)) == ("model.dropout=0.1", {1: 0.5})
    assert DEATHS not in again.attributes


def test_a_trial_that_is_held_is_nobody_elses(queues: tuple[TrialQueue, TrialQueue], where: str) -> None:
    first, second = queues
    mine, theirs = claimed(first), claimed(second)
    assert {mine.trial.number, theirs.trial.number} == {0, 1}
    assert first.is_mine(mine)
    assert not second.is_mine(mine)
    assert not second.tell(mine, TrialState.COMPLETE, [1.0])
    second.give_back(mine)
    assert not second.fail(mine, "not mine to fail", may_retry=False)
    assert first.is_mine(mine)
    assert trials_of(where)[0].user_attrs.keys() - {HEARTBEAT} == {LEASE, CLAIMS}


def test_a_trial_that_has_ended_does_not_fail_afterwards(queues: tuple[TrialQueue, TrialQueue], where: str) -> None:
    claim = claimed(queues[0])
    finish(queues[0], claim)
    assert queues[0].fail(claim, "its checkpoint can't be deleted", may_retry=True)
    (trial,) = trials_of(where)
    assert (trial.state, trial.user_attrs.keys() - {HEARTBEAT}) == (TrialState.COMPLETE, {LEASE, CLAIMS, RUN_ID})


def test_a_worker_on_another_host_that_beats_no_more_loses_its_trial(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started(where, made_study(tmp_path))
    with queue_on(where) as far, queue_on(where) as near:
        claim = claimed(far)
        if not near.storage.is_shared_between_hosts:
            return
        lost = claim.trial.user_attrs[LEASE] | {"worker": "unseen", "place": "another"}
        near.remember(claim, {LEASE: lost})
        other = claimed(near)
        assert other.trial.number == 1
        now = near.storage.now()
        assert now is not None
        near.remember(claim, {HEARTBEAT: now - STALE_S - 1})
        assert nothing(near) == NoTrial(is_over=False, reason="the worker of trial 0 is silent")
        monkeypatch.setattr(leases, "CONFIRM_S", 0.0)
        near.remember(claim, {HEARTBEAT: now - STALE_S - 1})
        taken = claimed(near)
        assert (taken.trial.number, taken.attributes.get(DEATHS)) == (0, None)  # its host may have been stopped
        assert not far.is_mine(claim)
        assert not far.tell(claim, TrialState.COMPLETE, [1.0])
        finish(near, taken)
    assert trials_of(where)[0].values == [score(taken.params)]


def test_a_lease_of_version_0_1_is_read(where: str, tmp_path: Path) -> None:
    started(where, made_study(tmp_path))
    with queue_on(where) as first, queue_on(where) as second:
        claim = claimed(first)
        first.remember(claim, {LEASE: {key: value for key, value in lease_of(claim).items() if key != "place"}})
        assert first.is_mine(claim)
        assert claimed(second).trial.number == 1


def lease_of(claim: Claim) -> dict[str, Any]:
    return dict(claim.trial.user_attrs[LEASE])


def test_a_claim_and_each_beat_carry_the_servers_time_where_other_hosts_may_look(
    queues: tuple[TrialQueue, TrialQueue], where: str
) -> None:
    first, second = queues
    claim = claimed(first)
    at_claim = trials_of(where)[0].user_attrs.get(HEARTBEAT)
    first.heartbeat(claim)
    beat = trials_of(where)[0].user_attrs.get(HEARTBEAT)
    if not where.startswith("postgresql"):
        assert (at_claim, beat) == (None, None)
        return
    now = first.storage.now()
    assert now is not None
    assert now - 60 < at_claim < beat < now
    second.heartbeat(claim)  # another worker's, which has lost the trial, say
    assert trials_of(where)[0].user_attrs.get(HEARTBEAT) == beat


def test_a_trial_that_could_not_be_given_back_is_the_same_workers_next_one(
    queues: tuple[TrialQueue, TrialQueue], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = queues
    claim = claimed(first)

    def away() -> NoReturn:
        raise UnreachableError("the storage is away")

    with monkeypatch.context() as outage:
        outage.setattr(first.storage, "lock", away)
        with pytest.raises(UnreachableError):
            first.give_back(claim)
    assert claimed(second).trial.number == 1
    again = claimed(first)
    assert (again.trial.number, again.is_new, again.attributes.get(DEATHS)) == (0, False, None)
    assert claimed(first).trial.number == 2


def test_a_claim_whose_turn_was_lost_is_no_claim(
    postgres_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process slept, say, and another one has had the turn meanwhile."""
    where = str(postgres_server.get_uri())
    sql(where, "TRUNCATE studies RESTART IDENTITY CASCADE")
    started(where, made_study(tmp_path))
    with queue_on(where) as slow, queue_on(where) as quick:
        monkeypatch.setattr(storage, "TURN_IDLE_S", 0.3)
        read = slow.study.read_trials

        def read_slowly() -> Any:
            time.sleep(1.0)
            return read()

        monkeypatch.setattr(slow.study, "read_trials", read_slowly)
        with pytest.raises(UnreachableError, match="can't be reached"):
            slow.claim()
        monkeypatch.setattr(storage, "TURN_IDLE_S", 60.0)
        assert claimed(quick).trial.number == 0
        monkeypatch.undo()
        assert claimed(slow).trial.number == 1
        assert len(trials_of(where)) == 2


def test_of_a_claim_that_ends_half_way_nothing_is_left(
    postgres_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal ends it, say, when the trial is made and its values are drawn; others see it with its lease or not."""
    where = str(postgres_server.get_uri())
    sql(where, "TRUNCATE studies RESTART IDENTITY CASCADE")
    started(where, made_study(tmp_path))
    with queue_on(where) as first, queue_on(where) as second:
        assert claimed(first).trial.number == 0

        def stopped(*_: object, **__: object) -> NoReturn:
            assert [trial.state.name for trial in trials_of(where)] == ["RUNNING"]
            assert len(first.study.read_trials()) == 2
            raise KeyboardInterrupt

        with monkeypatch.context() as signal:
            signal.setattr(Lease, "new", stopped)
            with pytest.raises(KeyboardInterrupt):
                first.claim()
        assert states(where) == ["RUNNING"]
        assert len(first.study.read_trials()) == 1
        assert [claimed(queue).trial.number for queue in (second, first)] == [1, 2]


def test_epochs_count_in_a_study_of_several_metrics_too(where: str, tmp_path: Path) -> None:
    metrics = {"final_dice": "maximize", "parameters": "minimize"}
    started(where, made_study(tmp_path, metric=LEFT_OUT, direction=LEFT_OUT, metrics=metrics))
    for epoch in (1, 2, 3):  # three deaths, each in another epoch
        with queue_on(where, is_killed=True) as queue:
            claim = claimed(queue)
            queue.report(claim, epoch, 0.5)
    with queue_on(where) as queue:
        claim = claimed(queue)
        assert (claim.attributes[DEATHS], claim.is_condemned) == ([1, 2, 3], False)
        assert queue.tell(claim, TrialState.COMPLETE, [0.5, 1000.0])
    assert trials_of(where)[0].values == [0.5, 1000.0]


def test_what_breaks_a_constraint_is_kept_with_the_trial(where: str, tmp_path: Path) -> None:
    started(where, made_study(tmp_path))
    with queue_on(where) as queue:
        for excess in (1.0, 0.0):
            excesses = {"parameters <= 9": excess, "final_dice >= 0.5": -0.1}
            assert queue.tell(claimed(queue), TrialState.COMPLETE, [0.5], excesses=excesses)
    first, second = trials_of(where)
    assert first.constraints == {"parameters <= 9": 1.0, "final_dice >= 0.5": -0.1}
    assert (is_feasible(first), is_feasible(second)) == (False, True)


def test_a_death_with_its_supervisor_does_not_count(where: str, tmp_path: Path) -> None:
    started(where, made_study(tmp_path))
    folder = opened(where).folder
    for _ in range(4):
        with ProcessLock(folder) as supervisor, queue_on(where, supervisor=supervisor.id, is_killed=True) as queue:
            claim = claimed(queue)
            assert (claim.trial.number, claim.is_condemned, claim.attributes.get(DEATHS)) == (0, False, None)
    with ProcessLock(folder) as supervisor:
        with queue_on(where, supervisor=supervisor.id, is_killed=True) as queue:
            claimed(queue)
        with queue_on(where) as queue:
            assert claimed(queue).attributes[DEATHS] == [0]


def test_a_worker_that_ended_by_itself_costs_its_trial_nothing(where: str, tmp_path: Path) -> None:
    """As one does that waited too long for a storage that was away, so that it couldn't give the trial back."""
    started(where, made_study(tmp_path))
    for _ in range(4):
        with queue_on(where) as queue:
            claim = claimed(queue)
            assert (claim.trial.number, claim.is_condemned, claim.attributes.get(DEATHS)) == (0, False, None)


def is_killed(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def test_a_trial_that_was_made_and_never_taken_is_taken_next(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started(where, made_study(tmp_path))
    for number in range(2):  # the baseline, then a new one: by a process that is killed before it takes the lease
        with queue_on(where, is_killed=True) as queue, monkeypatch.context() as killed:
            killed.setattr("brainseg.sweep.engine.trial_queue.suggest", is_killed)
            with pytest.raises(KeyboardInterrupt):
                queue.claim()
        with queue_on(where) as queue:
            claim = claimed(queue)
            assert (claim.trial.number, claim.is_new, DEATHS in claim.attributes) == (number, True, False)
            assert number or claim.params == SMALL["baseline"]
            finish(queue, claim)


@pytest.mark.parametrize("sampler", ["tpe", "random", "grid", "cmaes", "qmc"])
def test_a_trial_whose_values_were_half_drawn_is_completed(
    tmp_path: Path, sampler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = str(tmp_path / "study.journal")
    config = made_study(tmp_path, sampler={"name": sampler}, baseline={})
    started(where, config)
    drawn = []

    def is_killed_in_between(trial: Trial, _: object) -> NoReturn:
        drawn.append(trial.suggest_float("model.dropout", 0.0, 0.5, step=0.05))
        raise KeyboardInterrupt

    with queue_on(where) as queue, monkeypatch.context() as killed:
        killed.setattr("brainseg.sweep.engine.trial_queue.suggest", is_killed_in_between)
        with pytest.raises(KeyboardInterrupt):
            queue.claim()
    with queue_on(where) as queue:
        claim = claimed(queue)
        assert claim.trial.number == 0
        assert [claim.params["model.dropout"]] == drawn
        assert claim.params["model.depth"] in (3, 4, 5)
        finish(queue, claim)


def drawn_by(where: str, config: StudyConfig, *, restart_after: int) -> list[tuple[Value, ...]]:
    """The values of all trials; a fresh worker comes after so many trials of one."""
    started(where, config)
    drawn: list[tuple[Value, ...]] = []
    while len(drawn) < config.trials:
        with queue_on(where) as queue:
            for _ in range(min(restart_after, config.trials - len(drawn))):
                claim = claimed(queue)
                drawn.append(tuple(claim.params.values()))
                finish(queue, claim)
    with queue_on(where) as queue:
        assert nothing(queue).is_over
    return drawn


@pytest.mark.parametrize(
    "sampler",
    [
        {"name": "tpe", "n_startup_trials": 3},
        {"name": "random"},
        {"name": "cmaes", "popsize": 4},
        {"name": "qmc", "scramble": True},
    ],
    ids=lambda sampler: sampler["name"],
)
def test_a_restart_changes_no_draw_and_repeats_none(tmp_path: Path, sampler: dict[str, Any]) -> None:
    config = made_study(tmp_path, sampler=sampler, space=CONTINUOUS, baseline={}, trials=8)
    drawn = drawn_by(str(tmp_path / "study.journal"), config, restart_after=3)
    assert len(set(drawn)) == 8
    assert drawn == drawn_by(str(tmp_path / "without.journal"), config, restart_after=8)


def test_a_sampler_keeps_its_state_in_either_storage(where: str, tmp_path: Path) -> None:
    config = made_study(tmp_path, sampler={"name": "cmaes", "popsize": 4}, space=CONTINUOUS, baseline={}, trials=8)
    drawn = drawn_by(where, config, restart_after=3)
    assert drawn == drawn_by(str(tmp_path / "without.journal"), config, restart_after=8)


def test_a_grid_is_visited_once_by_whatever_workers(tmp_path: Path) -> None:
    baseline = {"model.dropout": 0.2, "model.norm": "batch"}
    config = made_study(tmp_path, sampler={"name": "grid"}, space=GRID, baseline=baseline)
    drawn = drawn_by(str(tmp_path / "study.journal"), config, restart_after=2)
    assert drawn[0] == (0.2, "batch")
    assert sorted(drawn) == sorted(itertools.product((0.0, 0.2, 0.4), ("none", "batch")))
    assert drawn == drawn_by(str(tmp_path / "without.journal"), config, restart_after=6)


def test_a_trial_is_pruned_by_what_another_process_reported_some_time_ago(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pruner = {"name": "median", "n_startup_trials": 1, "n_warmup_steps": 0}
    started(where, made_study(tmp_path, pruner=pruner))
    with queue_on(where) as first, queue_on(where) as second:
        good, bad = claimed(first), claimed(second)
        for epoch in range(1, EPOCHS + 1):
            first.report(good, epoch, 0.8)
        second.report(bad, 1, 0.1)
        assert not bad.trial.should_prune()  # no trial has finished yet
        finish(first, good)
        assert not bad.trial.should_prune()  # it would have to read all running trials again
        monkeypatch.setattr(queue_study, "READ_AFTER_S", 0.0)
        assert bad.trial.should_prune()
        second.report(bad, 2, 0.9)
        assert not bad.trial.should_prune()
        assert second.tell(bad, TrialState.PRUNED)
    assert states(where) == ["COMPLETE", "PRUNED"]
