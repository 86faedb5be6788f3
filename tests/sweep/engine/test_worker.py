"""What a worker goes on from: the run and the checkpoint of an earlier one, wherever that was."""

import dataclasses
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from made_studies import study_config

from brainseg import compose
from brainseg.sweep.engine.epoch_watch import StopAfterEpoch
from brainseg.sweep.engine.keys import PARENT_RUN, STUDY_ID
from brainseg.sweep.engine.trial_queue import Claim
from brainseg.sweep.engine.trial_runs import TrialRuns, _as_here
from brainseg.tracking import open_tracker
from brainseg.tracking.mlflow.connection import UnreachableError


class Study:
    user_attrs = {STUDY_ID: "s", PARENT_RUN: "p"}  # noqa: RUF012


class Queue:
    study = Study()


class Numbered:
    number = 3


TRIAL = {"sweep": "quick", "sweep_id": "s", "trial": "3", "parent": "p"}


def run_of(run_id: str | None, root: Path, **tracking: Any) -> str | None:
    """The run with which a worker goes on whose study names this one."""
    trial: Any = Numbered()
    attributes = {} if run_id is None else {"run_id": run_id}
    claim = Claim(trial=trial, params={}, attributes=attributes, attempt=2, is_new=False, is_condemned=False)
    queue: Any = Queue()
    runs = TrialRuns(queue, study_config(), stop=StopAfterEpoch())
    config = compose.freeze([f"tracking.root={root}", *(f"tracking.{key}={value}" for key, value in tracking.items())])
    return runs._run_of(claim, config)


@pytest.fixture
def root(tmp_path: Path, empty_store: Path) -> Path:
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    return tmp_path


def test_a_run_that_began_offline_elsewhere_is_found_by_its_tags_or_begun_anew(root: Path) -> None:
    assert run_of("local-0123456789abcdef", root) is None
    with open_tracker(compose.freeze([f"tracking.root={root}"]).tracking, run_name="r", tags=TRIAL) as tracker:
        pass
    assert run_of("local-0123456789abcdef", root) == tracker.run_id
    assert run_of(None, root) == tracker.run_id  # its worker was killed before it could tell
    assert run_of("1" * 32, root) == "1" * 32


@pytest.mark.usefixtures("not_asked_again")
def test_a_run_that_began_offline_here_goes_on(tmp_path: Path) -> None:
    away = {"uri": "http://127.0.0.1:1", "offline": "true"}
    config = compose.freeze([f"tracking.root={tmp_path}", *(f"tracking.{key}={value}" for key, value in away.items())])
    with open_tracker(config.tracking, run_name="r", tags=TRIAL) as tracker:
        pass
    assert run_of(tracker.run_id, tmp_path, **away) == tracker.run_id
    assert run_of("local-0123456789abcdef", tmp_path, **away) is None
    with pytest.raises(UnreachableError):
        run_of("local-0123456789abcdef", tmp_path, uri="http://127.0.0.1:1")


def test_a_trial_goes_on_where_the_data_is_now_and_with_the_precision_of_its_run() -> None:
    """A resume may change neither by itself."""
    stored = compose.freeze(["data=folder", "data.root=/old", "train.epochs=3"])
    stored = dataclasses.replace(stored, data=dataclasses.replace(stored.data, channels="grey"))
    overrides = ["data=folder", "data.root=/new", "data.cache_dir=/c", "train.epochs=3", "train.precision=float32"]
    asked = compose.freeze(overrides)
    resumed = compose.resumed(_as_here(stored, asked), asked, overrides)
    assert (resumed.data.root, resumed.data.cache_dir) == ("/new", "/c")
    assert (resumed.data.channels, resumed.train.precision) == ("grey", "float32")


def test_auto_on_a_resume_stands_for_what_the_run_found() -> None:
    stored = compose.freeze(["data=folder", "data.root=/d"])
    stored = dataclasses.replace(stored, data=dataclasses.replace(stored.data, channels="grey"))
    for overrides in (["data=folder", "data.root=/d"], ["data=folder", "data.root=/d", "data.channels=auto"]):
        assert compose.resumed(stored, compose.freeze(overrides), overrides).data.channels == "grey"


@pytest.mark.parametrize("stopped_by", [None, signal.SIGTERM])
def test_a_signal_while_a_trial_is_recorded_ends_the_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopped_by: int | None
) -> None:
    monkeypatch.chdir(tmp_path)
    tracker = SimpleNamespace(run_id="a", undelivered=0)
    monkeypatch.setattr("brainseg.train.experiment.prepare", lambda *_: None)
    result = SimpleNamespace(stopped_by=stopped_by, unwritten=())
    monkeypatch.setattr("brainseg.train.experiment.run", lambda *_, **__: result)
    monkeypatch.setattr(TrialRuns, "_run_of", lambda *_: None)
    monkeypatch.setattr("brainseg.sweep.engine.trial_runs._as_told", lambda _: {})
    monkeypatch.setattr(TrialRuns, "_going_on", lambda self, config, *_: (config, None))
    monkeypatch.setattr(TrialRuns, "_open_tracker", lambda *_: tracker)
    monkeypatch.setattr(TrialRuns, "_complete", lambda *_: True)
    monkeypatch.setattr("brainseg.sweep.engine.trial_runs.EpochWatch", lambda *_, **__: None)
    config, stop = study_config(), StopAfterEpoch()
    params = dict(config.baseline or {})
    claim = Claim(
        trial=Numbered(),  # type: ignore[arg-type]
        params=params,
        attributes={"line": "known"},
        attempt=1,
        is_new=True,
        is_condemned=False,
    )
    queue: Any = SimpleNamespace(remember=lambda *_: None)
    TrialRuns(queue, config, stop=stop).train(claim, 1)
    assert stop.is_requested == (stopped_by is not None)
