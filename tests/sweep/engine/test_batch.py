"""Trials in PostgreSQL, read and written in few statements: as Optuna itself reads and writes them."""

import contextlib
import math
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import FrozenTrial, TrialState, create_trial
from queue_processes import claimed, finish, opened, queue_on, started
from sqlalchemy import event
from sqlalchemy.engine import Engine
from study_files import made_study

from brainseg.sweep.engine.keys import LINE, RUN_ID
from brainseg.sweep.engine.trial_queue import Claim, TrialQueue

DISTRIBUTIONS = {
    "z": FloatDistribution(1e-5, 1.0, log=True),
    "step": FloatDistribution(0.0, 0.5, step=0.1),
    "depth": IntDistribution(3, 9, step=2),
    "loss": CategoricalDistribution(["dice", None, True, 2.5]),
}
ATTRIBUTES = {"text": 'Grüße "x": %s :y', "none": None, "nested": {"a": [1, 2.5, "b"]}, "nan": math.nan}


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def own(postgres: str) -> RDBStorage:
    """Optuna's own storage on an empty database with Optuna's tables."""
    opened(postgres)
    return RDBStorage(postgres.replace("postgresql:", "postgresql+psycopg2:"))


def some_trials() -> list[FrozenTrial]:
    """Trials in every state, with values of every kind."""
    drawn = {"z": 0.1, "step": 0.30000000000000004, "depth": 7, "loss": None}
    whole = {"params": drawn, "distributions": DISTRIBUTIONS, "user_attrs": ATTRIBUTES, "system_attrs": ATTRIBUTES}
    reports = {0: 1.0, 1: 1 / 3, 5: math.inf, 7: -math.inf, 9: math.nan}
    return [
        create_trial(state=TrialState.COMPLETE, value=2.0, intermediate_values=reports, **whole),
        create_trial(state=TrialState.COMPLETE, value=math.inf),
        create_trial(state=TrialState.PRUNED, value=-math.inf, intermediate_values={3: 1e-300}),
        create_trial(state=TrialState.FAIL),
        create_trial(state=TrialState.WAITING, system_attrs={"fixed_params": {"z": 0.5}}),
        create_trial(state=TrialState.RUNNING, **whole),
    ]


def told(trials: list[FrozenTrial]) -> list[dict[str, str]]:
    """All that is in them but the ids; a NaN equals a NaN. PostgreSQL gives Optuna attributes in any order."""

    def plain(value: Any) -> Any:
        return sorted(value.items()) if isinstance(value, dict) else value

    return [
        {name: repr(plain(value)) for name, value in sorted(vars(each).items()) if name != "_trial_id"}
        for each in trials
    ]


def test_trials_are_read_as_optuna_reads_them(own: RDBStorage, postgres: str) -> None:
    study = optuna.create_study(storage=own, study_name="study")
    study.add_trials(some_trials())
    expected = own.get_all_trials(study._study_id)
    storage = opened(postgres)
    assert told(storage.optuna.get_all_trials(study._study_id)) == told(expected)
    assert told([storage.optuna.get_trial(trial._trial_id) for trial in expected]) == told(expected)
    with storage.together():
        assert told(storage.optuna.get_all_trials(study._study_id)) == told(expected)
    with pytest.raises(KeyError, match="no trial has the id 99"):
        storage.optuna.get_trial(99)


def test_trials_are_written_as_optuna_writes_them(own: RDBStorage, postgres: str) -> None:
    theirs, ours = (optuna.create_study(storage=own, study_name=name)._study_id for name in ("theirs", "ours"))
    storage, given = opened(postgres), some_trials()

    def write(store: BaseStorage, study: int) -> None:
        for trial in given:
            store.create_new_trial(study, trial)
        asked = store.create_new_trial(study)
        for name, value in (("z", 0.01), ("loss", 3)):
            store.set_trial_param(asked, name, value, DISTRIBUTIONS[name])
        for key, content in ATTRIBUTES.items():
            store.set_trial_user_attr(asked, key, content)
            store.set_trial_system_attr(asked, key, 0)
            store.set_trial_system_attr(asked, key, content)  # once more
        for step, value in enumerate((math.nan, math.inf, 0.25)):
            store.set_trial_intermediate_value(asked, step, value)
        assert store.set_trial_state_values(asked, TrialState.COMPLETE, [0.5])
        (waiting,) = (trial for trial in store.get_all_trials(study) if trial.state == TrialState.WAITING)
        assert store.set_trial_state_values(waiting._trial_id, TrialState.RUNNING)
        assert not store.set_trial_state_values(waiting._trial_id, TrialState.RUNNING)

    write(own, theirs)
    with storage.lock():
        write(storage.optuna, ours)
        seen = storage.optuna.get_all_trials(ours)
    written, expected = own.get_all_trials(ours), own.get_all_trials(theirs)
    assert told(seen) == told(written)
    for trial in (*written[4:], *expected[4:]):  # popped and told at two moments
        assert trial.datetime_start is not None
        assert trial.datetime_start <= (trial.datetime_complete or datetime.now())
        trial.datetime_start = trial.datetime_complete = None
    assert told(written) == told(expected)


def test_what_a_trial_is_given_is_seen_at_once_by_who_gives_it_and_by_others_at_the_end(postgres: str) -> None:
    storage, other = opened(postgres), opened(postgres)
    study = optuna.create_study(storage=storage.optuna, study_name="study")
    number = study.ask()._trial_id
    with storage.together():
        storage.optuna.set_trial_user_attr(number, "note", (1, 2))
        assert storage.optuna.get_trial(number).user_attrs == {"note": [1, 2]}
        assert other.optuna.get_trial(number).user_attrs == {}
    assert other.optuna.get_trial(number).user_attrs == {"note": [1, 2]}
    with contextlib.suppress(ZeroDivisionError), storage.together():
        storage.optuna.set_trial_user_attr(number, "note", 3)
        raise ZeroDivisionError
    assert other.optuna.get_trial(number).user_attrs == storage.optuna.get_trial(number).user_attrs == {"note": [1, 2]}


def test_a_trial_that_another_program_has_ended_takes_no_further_values(postgres: str) -> None:
    storage, other = opened(postgres), opened(postgres)
    study = optuna.create_study(storage=storage.optuna, study_name="study")
    ended, ending = study.ask()._trial_id, study.ask()._trial_id
    other.optuna.set_trial_state_values(ended, TrialState.FAIL)
    with storage.lock():
        with pytest.raises(UpdateFinishedTrialError):
            storage.optuna.set_trial_user_attr(ended, "note", 1)
        storage.optuna.set_trial_user_attr(ending, "note", 1)
        other.optuna.set_trial_state_values(ending, TrialState.FAIL)
        with pytest.raises(UpdateFinishedTrialError):
            storage.optuna.set_trial_state_values(ending, TrialState.COMPLETE, [1.0])
    assert [trial.user_attrs for trial in study.get_trials()] == [{}, {"note": 1}]


def test_a_claim_an_epoch_and_an_end_are_few_statements(postgres: str, tmp_path: Path) -> None:
    started(postgres, made_study(tmp_path))
    statements: list[str] = []

    def note(connection: object, cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)

    def count(action: Callable[[], object]) -> int:
        statements.clear()
        action()
        return len(statements)

    def report(queue: TrialQueue, claim: Claim) -> None:
        with queue.storage.together():
            assert (queue.is_mine(claim), queue.is_stopped) == (True, False)
            queue.report(claim, 1, 0.5)

    claims: list[Claim] = []
    with queue_on(postgres) as queue:
        finish(queue, claimed(queue))
        event.listen(Engine, "before_cursor_execute", note)
        try:
            assert count(lambda: claims.append(claimed(queue))) <= 10, statements
            (claim,) = claims
            assert count(lambda: queue.remember(claim, {RUN_ID: "1", LINE: "a=1"})) == 2, statements
            assert count(lambda: queue.heartbeat(claim)) == 3, statements
            assert count(lambda: report(queue, claim)) == 3, statements
            assert count(lambda: queue.tell(claim, TrialState.COMPLETE, [0.5])) <= 8, statements
        finally:
            event.remove(Engine, "before_cursor_execute", note)
