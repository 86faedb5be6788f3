"""The time limit of a study: who sets it, and what the queue gives out until then; the same in both storages."""

import time
from pathlib import Path

import pytest
from queue_processes import claimed, finish, opened, queue_on, started
from study_files import made_study

from brainseg.sweep.engine.deadline import seconds_left, set_deadline
from brainseg.sweep.engine.keys import CLAIMS, DEADLINE, EPOCHS, SECONDS
from brainseg.sweep.engine.trial_queue import NoTrial, TrialQueue

TOO_LATE = NoTrial(is_over=True, reason="no further trial would end before the time limit")
OVER = NoTrial(is_over=True, reason="the time limit is reached")


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def limit(where: str, minutes: float | None, *, is_asked: bool = True) -> float:
    """Starts the study with a time limit; how many seconds it lasts."""
    storage = opened(where)
    study = started(where, made_study(Path.cwd()))
    set_deadline(study, storage, limit_min=minutes, is_asked=is_asked)
    return seconds_left(study, storage.now())


def finished_in(queue: TrialQueue, seconds: float) -> None:
    """Finishes the next trial, which has trained for so long."""
    claim = claimed(queue)
    queue.remember(claim, {SECONDS: seconds, CLAIMS: 2})  # what training took counts, of an interrupted one
    finish(queue, claim)


def test_a_time_limit_counts_from_the_start_that_names_it(where: str) -> None:
    assert limit(where, None) == float("inf")
    assert 3500 < limit(where, 60) <= 3600
    with queue_on(where) as worker:
        assert 3500 < worker.seconds_left <= 3600
    assert limit(where, None) == float("inf")


def test_a_start_that_joins_living_workers_leaves_their_time_limit(where: str) -> None:
    limit(where, 60)
    with queue_on(where) as worker:
        claimed(worker)
        assert 3500 < limit(where, 600, is_asked=False) <= 3600
        assert 3500 < limit(where, None, is_asked=False) <= 3600
        assert 35000 < limit(where, 600) <= 36000
    limit(where, 60)
    assert limit(where, None, is_asked=False) == float("inf")  # it has died


def test_nothing_is_given_out_after_the_time_limit(where: str) -> None:
    limit(where, 1e-4)
    time.sleep(0.01)
    with queue_on(where) as worker:
        assert worker.claim() == OVER
    assert limit(where, None) == float("inf")
    with queue_on(where) as worker:
        assert claimed(worker).trial.number == 0


def test_no_trial_begins_that_would_end_after_the_time_limit(where: str) -> None:
    limit(where, 10)
    with queue_on(where) as first, queue_on(where) as second:
        running = claimed(second)  # before anything is known
        finished_in(first, 590.0)
        assert claimed(first).trial.number == 2  # as long as one has ten minutes
        limit(where, 5)
        assert first.claim() == TOO_LATE
        second.remember(running, {CLAIMS: 2, SECONDS: 590.0})
        finish(second, running)
        assert second.claim() == TOO_LATE
        limit(where, 15)
        assert claimed(second).trial.number == 3


def test_a_trial_that_goes_on_begins_where_its_rest_fits(where: str) -> None:
    limit(where, 10)
    with queue_on(where) as worker:
        finished_in(worker, 500.0)
        half = claimed(worker)
        worker.remember(half, {EPOCHS: 4})
        for epoch in (1, 2):
            worker.report(half, epoch, 0.5)
        worker.give_back(half)
        limit(where, 5)
        again = claimed(worker)
        assert again.trial.number == half.trial.number
        worker.give_back(again)
        limit(where, 4)
        assert worker.claim() == TOO_LATE


def test_a_past_time_limit_is_no_reason_to_stop_a_new_start(where: str) -> None:
    limit(where, 1)
    started(where, made_study(Path.cwd())).set_user_attr(DEADLINE, 1.0)
    with queue_on(where) as worker:
        assert worker.claim() == OVER
        assert limit(where, None, is_asked=False) == float("inf")
        assert claimed(worker).trial.number == 0
