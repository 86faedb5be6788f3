"""How long a worker waits for a store that is away, and what it says and does then."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import optuna
import pytest
from study_files import made_study

from brainseg.errors import AwayError
from brainseg.sweep.engine import patience as patience_module
from brainseg.sweep.engine import trial_runs as runs_module
from brainseg.sweep.engine import worker as worker_module
from brainseg.sweep.engine.epoch_watch import StopAfterEpoch
from brainseg.sweep.engine.patience import Patience, patiently
from brainseg.sweep.engine.trial_queue import Claim, NoTrial
from brainseg.sweep.engine.worker import Worker
from brainseg.tracking.mlflow.connection import UnreachableError
from brainseg.tracking.spool.spool import open_spool, spooled_runs

AWAY = UnreachableError("the storage postgresql://host/db can't be reached (no route); start it")


class Sleeps:
    """A clock that goes on while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 5.0
        self.slept: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def test_the_pauses_double_up_to_a_minute_and_end_after_ten() -> None:
    sleeps, said = Sleeps(), []
    patience = Patience(said.append, sleep=sleeps, clock=lambda: sleeps.now)
    for _ in range(15):
        patience.wait(AWAY)
    with pytest.raises(AwayError) as error:
        patience.wait(AWAY)
    assert sleeps.slept == [1, 2, 4, 8, 16, 32, *[60] * 8, 57]
    assert said == ["the storage postgresql://host/db can't be reached (no route); waits for it"]
    assert str(error.value) == (
        "the storage postgresql://host/db can't be reached (no route), for 10 minutes; start it again later"
    )
    assert error.value.exit_code == 75


def test_after_a_success_the_patience_is_new() -> None:
    sleeps, said = Sleeps(), []
    patience = Patience(said.append, sleep=sleeps, clock=lambda: sleeps.now)
    for _ in range(3):
        patience.wait(AWAY)
    patience.worked()
    patience.wait(AWAY)
    assert sleeps.slept == [1, 2, 4, 1]
    assert len(said) == 2


class Queue:
    """A queue whose storage is away so often before it answers."""

    def __init__(self, away: int = 0) -> None:
        self.away = away
        self.storage: Any = self
        self.study = optuna.create_study()
        self.claims = 0
        self.told: list[str] = []

    @contextlib.contextmanager
    def reached(self) -> Iterator[None]:
        yield

    def rehearse(self) -> None:
        """It has nothing to rehearse."""

    def _asked(self) -> None:
        if self.away > 0:
            self.away -= 1
            raise AWAY

    def claim(self) -> NoTrial:
        self.claims += 1
        self._asked()
        return NoTrial(is_over=True, reason="3 of 3 trials are finished")

    def tell(self) -> bool:
        self._asked()
        self.told.append("complete")
        return True

    def give_back(self, claim: Claim) -> NoReturn:
        raise AWAY

    def heartbeat(self, claim: Claim) -> None:
        pass


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience_module, "FIRST_PAUSE_S", 0.001)


def worker_on(queue: Any, tmp_path: Path) -> Worker:
    return Worker(queue, made_study(tmp_path), threads=1, stop=StopAfterEpoch())


@pytest.mark.usefixtures("impatient")
def test_a_worker_whose_storage_is_away_waits_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    queue = Queue(away=3)
    assert worker_on(queue, tmp_path).work() == "3 of 3 trials are finished"
    assert queue.claims == 4
    assert capsys.readouterr().out.count("; waits for it") == 1


@pytest.mark.usefixtures("impatient")
def test_a_storage_that_goes_away_before_the_first_claim_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    storage: Any = Queue()
    storage.folder = tmp_path / "alive"
    away = iter([AWAY, AWAY])

    def opened(*_: object, **__: object) -> Queue:
        for error in away:
            raise error
        return Queue()

    monkeypatch.setattr(worker_module, "_admitted", lambda *_: (storage, made_study(tmp_path)))
    monkeypatch.setattr(worker_module, "TrialQueue", opened)
    assert worker_module.run_worker("study", overrides=[], where=None, threads=1, supervisor=None, listens=False) == 0
    assert capsys.readouterr().out.splitlines() == [
        "the storage postgresql://host/db can't be reached (no route); waits for it",
        "3 of 3 trials are finished",
    ]


@pytest.mark.heavy
@pytest.mark.usefixtures("impatient")
def test_a_worker_does_not_end_before_the_records_on_its_host_are_delivered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    queue: Any = Queue()
    queue.folder = tmp_path / "alive"
    config = made_study(tmp_path, overrides=[f"tracking.root={tmp_path}"])
    away = iter([AWAY])

    def answering(*_: object) -> None:
        for error in away:
            raise error

    monkeypatch.setattr(worker_module, "_admitted", lambda *_: (queue, config))
    monkeypatch.setattr(worker_module, "TrialQueue", lambda *_, **__: queue)
    monkeypatch.setattr(runs_module, "check_store", answering)
    open_spool(tmp_path / "spool", "of a killed worker").close()
    assert worker_module.run_worker("study", overrides=[], where=None, threads=1, supervisor=None, listens=False) == 0
    assert spooled_runs(tmp_path / "spool") == []
    assert capsys.readouterr().out.count("; waits for it") == 1


@pytest.mark.usefixtures("impatient")
def test_what_a_trained_trial_has_come_to_is_told_however_long_the_turn_is_taken() -> None:
    queue = Queue(away=3)
    assert patiently(queue.tell, lambda line: None)
    assert queue.told == ["complete"]


def test_giving_a_trial_back_hides_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first one says what is wrong."""
    first = UnreachableError("MLflow is away")

    def run(claim: Claim, threads: int) -> NoReturn:
        raise first

    worker = worker_on(Queue(), tmp_path)
    monkeypatch.setattr(worker._runs, "train", run)
    monkeypatch.setattr(worker_module, "forget_models", lambda: None)
    claim: Any = Claim(trial=_Numbered(), params={}, attributes={}, attempt=1, is_new=True, is_condemned=False)  # type: ignore[arg-type]
    with pytest.raises(UnreachableError) as error:
        worker._train(claim, 1)
    assert error.value is first
    assert "trial 7 can't be given back now: the storage" in capsys.readouterr().out


class _Numbered:
    number = 7
