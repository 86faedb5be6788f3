"""Who is alive: by the lock on a file where it can be seen, else by a heartbeat that changes."""

import contextlib
import dataclasses
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from queue_processes import CONTEXT, PATIENCE_S, ended, in_process

from brainseg.sweep.engine import leases
from brainseg.sweep.engine.leases import STALE_S, Lease, LeaseChecker, ProcessLock, this_host


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of process locks; each process makes it where it isn't there."""
    return tmp_path / "alive"


@contextlib.contextmanager
def lease_in(folder: Path, /, **changes: Any) -> Iterator[Lease]:
    """A lease whose holder lives inside the block."""
    with ProcessLock(folder) as lock:
        lease = Lease.new(lock, supervisor=None, epochs_at_claim=0)
        yield dataclasses.replace(lease, **changes)


class Clock:
    """Seconds, as a test sets them."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_worker_lives_as_long_as_it_holds_its_file(folder: Path) -> None:
    checker = LeaseChecker(folder)
    with lease_in(folder) as lease:
        assert not checker.is_dead(lease, heartbeat=None)
    assert checker.is_dead(lease, heartbeat=None)
    assert list(folder.iterdir()) == []


def live_until_killed(folder: Path, connection: Any) -> None:
    with ProcessLock(folder) as lock:
        connection.send(Lease.new(lock, supervisor=lock.id, epochs_at_claim=3))
        connection.recv()


def killed_worker(folder: Path) -> Lease:
    """The lease of a process that was killed; it named itself as its supervisor."""
    here, there = CONTEXT.Pipe()
    process = in_process(live_until_killed, folder, there)
    assert here.poll(PATIENCE_S)
    lease: Lease = here.recv()
    assert not LeaseChecker(folder).is_dead(lease, heartbeat=None)
    assert not LeaseChecker(folder).is_supervisor_dead(lease)
    process.kill()
    assert ended(process) == [-signal.SIGKILL]
    return lease


def test_a_killed_worker_is_dead_at_once_and_so_is_its_supervisor(folder: Path) -> None:
    lease = killed_worker(folder)
    assert (lease.host, lease.epochs_at_claim) == (this_host(), 3)
    assert lease.pid != os.getpid()
    assert LeaseChecker(folder).is_dead(lease, heartbeat=None)
    assert LeaseChecker(folder).is_supervisor_dead(lease)


def test_the_next_process_sweeps_up_after_the_dead_and_leaves_the_living(folder: Path) -> None:
    dead = killed_worker(folder)
    assert len(list(folder.iterdir())) == 1
    with ProcessLock(folder) as first, ProcessLock(folder) as second:
        assert sorted(folder.iterdir()) == sorted([first.path, second.path])
        assert LeaseChecker(folder).is_dead(dead, heartbeat=None)


def test_a_worker_without_a_supervisor_has_no_dead_one(folder: Path) -> None:
    with lease_in(folder) as lease:
        pass
    assert not LeaseChecker(folder).is_supervisor_dead(lease)


def test_a_living_supervisor_is_not_dead(folder: Path) -> None:
    with ProcessLock(folder) as supervisor:
        with lease_in(folder, supervisor=supervisor.id) as lease:
            pass
        assert LeaseChecker(folder).is_dead(lease, heartbeat=None)
        assert not LeaseChecker(folder).is_supervisor_dead(lease)


def test_a_worker_on_another_host_lives_as_long_as_its_beat_changes(folder: Path) -> None:
    clock = Clock()
    checker = LeaseChecker(folder, clock=clock)
    with lease_in(folder, host="elsewhere", folder="/of/another/host", worker="w") as lease:
        for beat in (None, 1, 2):
            assert not checker.is_dead(lease, heartbeat=beat)
            clock.now += 10 * STALE_S
        assert not checker.is_dead(lease, heartbeat=3)
        clock.now += STALE_S
        assert not checker.is_dead(lease, heartbeat=3)
        clock.now += 1
        assert checker.is_dead(lease, heartbeat=3)
        assert not checker.is_dead(lease, heartbeat=4)  # it was only slow
        assert not checker.is_supervisor_dead(dataclasses.replace(lease, supervisor="s"))


def test_the_file_tells_wherever_the_folder_is_mounted(folder: Path, tmp_path: Path) -> None:
    folder.mkdir()
    mounted = tmp_path / "mounted"
    mounted.symlink_to(folder, target_is_directory=True)
    checker = LeaseChecker(mounted)
    with lease_in(folder, host="container", folder="/not/here") as lease:
        for _ in range(2):
            assert not checker.is_dead(lease, heartbeat=None)
    lost = killed_worker(folder)
    assert checker.is_dead(dataclasses.replace(lost, host="container", folder="/not/here"), heartbeat=None)


def test_another_host_of_the_same_name_and_folder_is_judged_by_its_beat(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.mkdir()
    clock = Clock()
    checker = LeaseChecker(folder, clock=clock)
    with lease_in(folder, host="localhost/another-boot", worker="w") as lease:
        assert not checker.is_dead(lease, heartbeat=1)
        clock.now += STALE_S + 1
        assert checker.is_dead(lease, heartbeat=1)
    monkeypatch.setattr(leases, "this_host", lambda: "localhost/another-boot")
    assert LeaseChecker(folder).is_dead(lease, heartbeat=1)  # there, the file is known to be gone


def test_a_file_that_this_user_may_not_try_tells_nothing(folder: Path) -> None:
    clock = Clock()
    checker = LeaseChecker(folder, clock=clock)
    with lease_in(folder, worker="w") as lease:
        (folder / "w.alive").mkdir()  # refused even to root
        assert not checker.is_dead(lease, heartbeat=1)
        clock.now += STALE_S + 1
        assert not checker.is_dead(lease, heartbeat=2)
        clock.now += STALE_S + 1
        assert checker.is_dead(lease, heartbeat=2)
