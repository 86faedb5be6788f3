"""How a supervisor deals with workers that die: when they start again, and when it gives up."""

import io
import os
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any, cast

import pytest
from made_studies import made_trial, study_config
from optuna.exceptions import StorageInternalError
from optuna.trial import FrozenTrial
from rich.console import Console
from study_files import made_study

from brainseg.compose import freeze
from brainseg.errors import SweepError
from brainseg.model.gpus import Gpu
from brainseg.sweep.engine.leases import ProcessLock
from brainseg.sweep.engine.live import LiveTable
from brainseg.sweep.engine.storage import open_storage
from brainseg.sweep.launchers.config import launcher_config
from brainseg.sweep.launchers.engine import workers_for
from brainseg.sweep.launchers.local import KILLS_ALLOWED, Pool, Slot, StopRequests, supervise, worker_pool
from brainseg.sweep.launchers.view import View
from brainseg.sweep.study.study_file import StudyConfig

CRASHES = "echo some line; echo 'error: no disk'; exit 3"
SLEEPS = "exec sleep 100"


def pool_of(script: str, tmp_path: Path) -> Pool:
    """A pool of one worker, which is this shell script."""
    return Pool(command=["sh", "-c", script], environment=dict(os.environ), slots=[Slot(tmp_path / "worker-1.log")])


def pool_for(config: StudyConfig, lock: ProcessLock, *asked: str) -> Pool:
    """A study's workers, which don't run yet. asked: overrides of the launcher."""
    workers = workers_for(config, freeze(config.tracking).tracking, study_id="0", threads=1, where=None)
    return worker_pool(workers, launcher_config(asked), lock, count=config.workers)


def ended(pool: Pool) -> "subprocess.Popen[str]":
    """The pool's process, once it has ended."""
    process = pool.slots[0].process
    assert process is not None
    process.wait(timeout=240)
    return process


@pytest.mark.heavy
def test_a_worker_that_crashes_again_and_again_starts_after_longer_and_longer_pauses(tmp_path: Path) -> None:
    pool = pool_of(CRASHES, tmp_path)
    assert pool.keep_alive(0.0, restart=True) == []
    ended(pool)
    told = "worker 1 ended with an error: error: no disk; it starts again"
    assert pool.keep_alive(1.0, restart=True) == [told]
    ended(pool)
    assert pool.keep_alive(2.0, restart=True) == [f"{told} in 10 s"]
    assert pool.slots[0].process is None
    assert pool.is_busy(restart=True)
    assert pool.keep_alive(11.9, restart=True) == []
    assert pool.slots[0].process is None
    assert pool.keep_alive(12.0, restart=True) == []
    ended(pool)
    assert pool.keep_alive(13.0, restart=True) == [f"{told} in 30 s"]
    assert pool.keep_alive(43.0, restart=True) == []
    ended(pool)
    expected = f"worker 1 ended with an error 4 times in a row: error: no disk; see {tmp_path / 'worker-1.log'}"
    with pytest.raises(SweepError, match=re.escape(expected)):
        pool.keep_alive(44.0, restart=True)


@pytest.mark.heavy
def test_a_trial_that_got_further_wipes_out_the_crashes_of_its_worker(tmp_path: Path) -> None:
    pool = pool_of(CRASHES, tmp_path)
    pool.keep_alive(0.0, restart=True)
    for _ in range(6):
        process = ended(pool)
        pool.forgive([process.pid])
        (line,) = pool.keep_alive(0.0, restart=True)
        assert line.endswith("it starts again")
    ended(pool)
    pool.forgive([-1])
    assert pool.keep_alive(0.0, restart=True)[0].endswith("it starts again in 10 s")


@pytest.mark.heavy
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_worker_that_was_killed_starts_again_at_once(tmp_path: Path, number: int) -> None:
    pool = pool_of(SLEEPS, tmp_path)
    pool.keep_alive(0.0, restart=True)
    for _ in range(KILLS_ALLOWED - 1):
        pool.send(number)
        ended(pool)
        assert pool.keep_alive(0.0, restart=True) == ["worker 1 was killed; it starts again"]
    pool.send(number)
    ended(pool)
    with pytest.raises(SweepError, match=f"worker 1 was killed {KILLS_ALLOWED} times before an epoch was over"):
        pool.keep_alive(0.0, restart=True)


@pytest.mark.heavy
def test_a_worker_that_ended_after_a_checkpoint_counts_as_killed(tmp_path: Path) -> None:
    pool = pool_of("exit 143", tmp_path)
    pool.keep_alive(0.0, restart=True)
    ended(pool)
    assert pool.keep_alive(0.0, restart=True) == ["worker 1 was killed; it starts again"]
    pool.end()


@pytest.mark.heavy
def test_a_worker_that_broke_down_is_no_killed_one(tmp_path: Path) -> None:
    pool = pool_of("kill -s SEGV $$", tmp_path)
    pool.keep_alive(0.0, restart=True)
    ended(pool)
    assert pool.keep_alive(0.0, restart=True) == ["worker 1 ended with an error: signal SIGSEGV; it starts again"]
    pool.end()


@pytest.mark.heavy
def test_a_worker_that_found_nothing_to_do_stays_away(tmp_path: Path) -> None:
    pool = pool_of("exit 0", tmp_path)
    pool.keep_alive(0.0, restart=True)
    ended(pool)
    assert pool.keep_alive(0.0, restart=True) == []
    assert not pool.is_busy(restart=True)


@pytest.mark.heavy
def test_a_stopping_pool_starts_nothing_again(tmp_path: Path) -> None:
    pool = pool_of(CRASHES, tmp_path)
    pool.keep_alive(0.0, restart=True)
    ended(pool)
    assert pool.keep_alive(0.0, restart=False) == []
    assert not pool.is_busy(restart=False)


@pytest.mark.heavy
def test_no_worker_lives_after_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("brainseg.sweep.launchers.local.PATIENCE_S", 0.2)
    pool = pool_of("trap '' TERM; echo ready; while :; do sleep 0.05; done", tmp_path)
    pool.keep_alive(0.0, restart=True)
    log = pool.slots[0].log
    while "ready" not in log.read_text():
        time.sleep(0.01)
    pool.end()
    assert ended(pool).returncode == -signal.SIGKILL


@pytest.mark.heavy
def test_workers_are_asked_to_finish_their_epoch_by_their_standard_input(tmp_path: Path) -> None:
    pool = pool_of('read line; echo "got $line"', tmp_path)
    pool.keep_alive(0.0, restart=True)
    pool.finish_epochs()
    assert ended(pool).returncode == 0
    assert pool.slots[0].log.read_text() == "got stop\n"
    pool.end()


class SoonLate:
    """A study whose time is over once its workers have been looked at."""

    limit_s = float("inf")

    def look(self) -> list[int]:
        self.limit_s = 0.0
        return []


@pytest.mark.heavy
def test_at_the_time_limit_the_workers_are_asked_to_finish_their_epoch_and_that_is_said(tmp_path: Path) -> None:
    pool, out, view = pool_of('read line; echo "got $line"', tmp_path), io.StringIO(), SoonLate()
    supervise(pool, cast(View, view), LiveTable(study_config(), Console(file=out, width=500)))
    (line,) = out.getvalue().splitlines()
    assert line == "the time limit is reached: the current epochs are finished first; Ctrl-C again stops at once"
    assert pool.slots[0].log.read_text() == "got stop\n"


class Away:
    """A study whose storage doesn't answer at first."""

    def __init__(self, times: int, trials: list[FrozenTrial]) -> None:
        self._left = times
        self._trials = trials
        self._storage, self._study_id = self, 0
        self.user_attrs: dict[str, Any] = {}

    def get_trials(self, deepcopy: bool) -> list[FrozenTrial]:
        self._left -= 1
        if self._left >= 0:
            raise StorageInternalError("the server is shutting down")
        return self._trials

    def get_all_trials(self, study_id: int, deepcopy: bool) -> list[FrozenTrial]:
        return self._trials


def test_a_storage_that_is_away_is_waited_for_and_said_once(tmp_path: Path) -> None:
    out = io.StringIO()
    storage = open_storage(None, root=tmp_path, name="quick")
    trials = [made_trial(0, "COMPLETE", values=[0.5])]
    told: list[int] = []
    table = LiveTable(study_config(), Console(file=out, width=500))
    study: Any = Away(2, trials)
    view = View(storage, study, table, lambda trials: told.append(len(trials)), supervisor="s")
    assert view.look() == []
    assert view.look() == []
    assert told == []
    view.look()
    assert told == [1]
    first, second = out.getvalue().splitlines()
    assert first.endswith("can't be reached (the server is shutting down); the sweep waits for it")
    assert second.startswith("quick: 1 of 12 trials finished")


def test_the_processes_are_told_whose_trials_got_further(tmp_path: Path) -> None:
    """Of this supervisor alone: on another host, another process has that number."""

    def lease(pid: int, supervisor: str | None = "ours") -> dict[str, Any]:
        keys = {"worker": "w", "folder": "f", "host": "h", "claimed_at": 0.0, "epochs_at_claim": 0}
        return {**keys, "pid": pid, "supervisor": supervisor}

    trials = [made_trial(number, "RUNNING", curve=[0.5], lease=lease(100 + number)) for number in range(3)]
    trials += [
        made_trial(3 + number, "RUNNING", curve=[0.5], lease=lease(103 + number, supervisor))
        for number, supervisor in enumerate(["theirs", None])
    ]
    study: Any = Away(0, trials)
    storage = open_storage(None, root=tmp_path, name="quick")
    table = LiveTable(study_config(), Console(file=io.StringIO()))
    view = View(storage, study, table, lambda trials: None, supervisor="ours")
    assert sorted(view.look()) == [100, 101, 102]
    assert view.look() == []
    trials[1] = made_trial(1, "RUNNING", curve=[0.5, 0.6], lease=lease(101))
    trials[2] = made_trial(2, "FAIL", curve=[0.5], lease=lease(102))
    assert sorted(view.look()) == [101, 102]


def test_workers_get_the_data_where_it_is_today(tmp_path: Path) -> None:
    """The study may have stored another place, from before the folder was moved."""
    config = made_study(tmp_path, overrides=["data=folder", "data.root=/new", "train.epochs=2", "tracking.root=runs"])
    with ProcessLock(tmp_path / "alive") as lock:
        pool = pool_for(config, lock)
    assert pool.command[-5:-3] == ["tracking.root=runs", "data.root=/new"]


def test_the_workers_take_turns_on_the_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    two = tuple(Gpu(id=name, name="NVIDIA", memory_mib=1024, driver="1") for name in ("3", "5"))
    monkeypatch.setattr("brainseg.sweep.launchers.local.gpus", lambda: two)
    config = made_study(tmp_path, workers=3)
    with ProcessLock(tmp_path / "alive") as lock:
        pool = pool_for(config, lock)
    assert [slot.gpu for slot in pool.slots] == ["3", "5", "3"]
    assert [slot.gpu for slot in pool_for(config, lock, "launcher.gpus=2").slots] == ["3,5"] * 3
    assert [slot.gpu for slot in pool_for(config, lock, "launcher.gpus=0").slots] == [""] * 3
    monkeypatch.setattr("brainseg.sweep.launchers.local.gpus", tuple)
    with ProcessLock(tmp_path / "alive") as lock:
        pool = pool_for(config, lock)
    assert [slot.gpu for slot in pool.slots] == [None, None, None]


def test_sigterm_leaves_no_time_to_finish_an_epoch():
    stop = StopRequests()
    stop.handle(signal.SIGINT, None)
    assert (stop.times, stop.signal) == (1, signal.SIGINT)  # the epochs are finished first
    at_once = StopRequests()
    at_once.handle(signal.SIGTERM, None)
    assert (at_once.times, at_once.signal) == (2, signal.SIGTERM)
