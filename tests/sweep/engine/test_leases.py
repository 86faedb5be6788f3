"""Who is alive: by the lock on a file where it can be seen, else by a heartbeat that changes."""

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from queue_processes import CONTEXT, PATIENCE_S, ended, in_process

from brainseg.sweep.engine.leases import (
    CONFIRM_S,
    STALE_S,
    Lease,
    LeaseChecker,
    ProcessLock,
    machine_at_work,
    this_host,
)


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


@pytest.mark.heavy
def test_a_killed_worker_is_dead_at_once_and_so_is_its_supervisor(folder: Path) -> None:
    lease = killed_worker(folder)
    assert (lease.host, lease.epochs_at_claim) == (this_host(), 3)
    assert lease.pid != os.getpid()
    assert LeaseChecker(folder).is_dead(lease, heartbeat=None)
    assert LeaseChecker(folder).is_supervisor_dead(lease)


@pytest.mark.heavy
def test_the_next_process_sweeps_up_after_the_dead_and_leaves_the_living(folder: Path) -> None:
    dead = killed_worker(folder)
    assert len(list(folder.iterdir())) == 1
    with ProcessLock(folder) as first, ProcessLock(folder) as second:
        assert sorted(folder.glob("*.alive")) == sorted([first.path, second.path])
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


def test_a_worker_of_version_0_1_on_another_host_lives_as_long_as_its_beat_changes(folder: Path) -> None:
    clock = Clock()
    checker = LeaseChecker(folder, clock=clock)
    with lease_in(folder, place="") as lease:
        for beat in (None, 1, 2):
            assert not checker.is_dead(lease, heartbeat=beat, now=0.0)
            clock.now += 10 * STALE_S
        assert not checker.is_dead(lease, heartbeat=3)
        clock.now += STALE_S
        assert not checker.is_dead(lease, heartbeat=3)
        clock.now += 1
        assert checker.is_dead(lease, heartbeat=3)
        assert not checker.is_dead(lease, heartbeat=4)  # it was only slow
        assert not checker.is_supervisor_dead(dataclasses.replace(lease, supervisor="s"))


def test_a_beat_that_is_old_by_the_storages_clock_has_a_moment_to_come_again(folder: Path) -> None:
    clock = Clock()
    checker = LeaseChecker(folder, clock=clock)
    with lease_in(folder, place="elsewhere") as lease:
        assert not checker.is_dead(lease, heartbeat=500.0, now=500.0 + STALE_S)
        assert not checker.is_silent(lease)
        clock.now += 10 * STALE_S  # this process looks rarely, and learns nothing from its own clock
        assert not checker.is_dead(lease, heartbeat=900.0, now=901.0 + STALE_S)
        assert checker.is_silent(lease)
        clock.now += CONFIRM_S + 1
        assert not checker.is_dead(lease, heartbeat=1060.0, now=1082.0)  # the storage was away for everybody
        assert not checker.is_silent(lease)
        assert not checker.is_dead(lease, heartbeat=1060.0, now=1061.0 + STALE_S)
        clock.now += CONFIRM_S + 1
        assert checker.is_dead(lease, heartbeat=1060.0, now=1092.0 + STALE_S)


def test_a_reader_that_comes_late_takes_a_lost_trial_after_one_more_look(folder: Path) -> None:
    clock = Clock()
    checker = LeaseChecker(folder, clock=clock)
    with lease_in(folder, place="elsewhere") as lease:
        assert not checker.is_dead(lease, heartbeat=0.0, now=STALE_S + 1)
        clock.now += CONFIRM_S + 1
        assert checker.is_dead(lease, heartbeat=0.0, now=STALE_S + CONFIRM_S + 2)


@pytest.mark.parametrize("changed", ["machine", "mount", "processes", "folder"])
def test_a_lock_counts_in_its_own_place_alone(folder: Path, changed: str) -> None:
    """A living worker whose file isn't here, or seems free, is not dead."""
    clock = Clock()
    checker = LeaseChecker(folder, clock=clock)
    with lease_in(folder, worker="unseen") as lease:
        assert checker.is_dead(lease, heartbeat=5.0, now=6.0)  # in its place, the file is known to be gone
        parts = dict(zip(["machine", "mount", "processes", "folder"], lease.place.split(" "), strict=True))
        far = dataclasses.replace(lease, place=" ".join((parts | {changed: "another"}).values()))
        assert not checker.is_dead(far, heartbeat=5.0, now=6.0)
        assert not checker.was_killed(far)


def test_with_a_journal_the_file_tells_wherever_the_folder_is_mounted(folder: Path) -> None:
    checker = LeaseChecker(folder, is_for_one_host=True)
    with lease_in(folder, place="before the host was started again") as lease:
        assert not checker.is_dead(lease, heartbeat=None)
    assert checker.is_dead(lease, heartbeat=None)


def test_a_worker_that_ended_by_itself_was_not_killed(folder: Path) -> None:
    checker = LeaseChecker(folder)
    with lease_in(folder) as lease:
        pass
    assert checker.is_dead(lease, heartbeat=None)
    assert not checker.was_killed(lease)


@pytest.mark.heavy
def test_that_a_worker_was_killed_is_known_after_the_next_one_has_started(folder: Path) -> None:
    lease = dataclasses.replace(killed_worker(folder), supervisor=None)
    checker = LeaseChecker(folder)
    assert checker.was_killed(lease)
    with ProcessLock(folder):
        assert checker.was_killed(lease)


def test_files_of_other_places_are_left_alone(folder: Path) -> None:
    folder.mkdir()
    far, old, ancient = folder / "far.alive", folder / "old.alive", folder / "ancient.alive"
    far.write_text("gpu07/boot mnt:[1] pid:[1] 1:2")  # free here: locks aren't handed on
    old.write_text("")  # of version 0.1
    ancient.write_text("gpu07/boot mnt:[1] pid:[1] 1:2")
    os.utime(ancient, (0, 0))
    with ProcessLock(folder):
        assert far.exists()
        assert not old.exists()
        assert not ancient.exists()


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


def test_another_machine_at_work_is_seen_by_its_file(folder: Path) -> None:
    with ProcessLock(folder) as lock:
        assert machine_at_work(folder) is None
        boot = lock.place.partition(" ")[0].partition("/")[2]
        theirs = folder / "theirs.alive"
        theirs.write_text("gpu07/another-boot mnt:[1] pid:[1] 1:2")
        assert machine_at_work(folder) == "gpu07"
        os.utime(theirs, (time.time() - STALE_S - 60,) * 2)
        assert machine_at_work(folder) is None
        theirs.write_text(f"container/{boot} mnt:[1] pid:[1] 1:2")  # the same kernel, which knows its locks
        assert machine_at_work(folder) is None


def wait_in_a_namespace(folder: str) -> str:
    """What a process prints that claims nothing: its lease, once it holds its lock."""
    return f"""
import dataclasses, json, sys
from pathlib import Path
from brainseg.sweep.engine.leases import Lease, ProcessLock
with ProcessLock(Path({folder!r})) as lock:
    print(json.dumps(dataclasses.asdict(Lease.new(lock, supervisor=None, epochs_at_claim=0))), flush=True)
    sys.stdin.read()
"""


@pytest.mark.heavy
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount another file system over a folder")
def test_a_living_worker_in_another_container_with_this_hosts_name_is_not_dead(folder: Path) -> None:
    """Both see a folder of this path, each on a file system of its own."""
    folder.mkdir()
    inside = f"mount -t tmpfs tmpfs '{folder}' && exec '{sys.executable}' -c \"$CODE\""
    container = subprocess.Popen(
        ["unshare", "-mu", "sh", "-c", inside],
        env=os.environ | {"CODE": wait_in_a_namespace(str(folder))},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert container.stdout is not None
        lease = Lease(**json.loads(container.stdout.readline() or pytest.skip("no namespaces here")))
        assert (lease.host, lease.folder) == (this_host(), str(folder))
        with ProcessLock(folder):
            assert not LeaseChecker(folder).is_dead(lease, heartbeat=1.0, now=2.0)
    finally:
        container.communicate()
