"""Who writes the parent run: one supervisor at a time, on whichever host."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from study_files import made_study

from brainseg.config import TrackingConfig
from brainseg.sweep.engine import leases
from brainseg.sweep.engine.keys import PARENT_HEARTBEAT, PARENT_LEASE, PARENT_RUN
from brainseg.sweep.engine.leases import STALE_S, ProcessLock
from brainseg.sweep.engine.storage import open_storage
from brainseg.sweep.engine.stored_study import open_study
from brainseg.sweep.outcome.parent import ParentLease, open_parent
from brainseg.tracking import open_store


@contextlib.contextmanager
def supervisor(where: str, tmp_path: Path) -> Iterator[ParentLease]:
    """One more supervisor of the small study."""
    storage = open_storage(where, root=tmp_path, name="study")
    study = open_study(storage, made_study(tmp_path), data_fingerprint="data")
    with ProcessLock(storage.folder) as lock:
        yield ParentLease(storage, study, lock)


def taken(lease: ParentLease) -> int | None:
    with lease.storage.lock():
        return lease.take()


def test_the_parent_run_belongs_to_one_supervisor_until_it_ends(where: str, tmp_path: Path) -> None:
    with supervisor(where, tmp_path) as first, supervisor(where, tmp_path) as second:
        assert taken(first) == 1
        assert taken(second) is None
        with first.kept():
            assert taken(second) is None
        assert taken(second) == 2
        first.release()  # it isn't its own any more
        assert taken(first) is None
    with supervisor(where, tmp_path) as third:
        assert taken(third) == 3  # the second has ended without a word


def test_a_supervisor_on_another_host_keeps_the_parent_run_by_its_heartbeat(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with supervisor(where, tmp_path) as far, supervisor(where, tmp_path) as near:
        if not far.storage.is_shared_between_hosts:
            return
        assert taken(far) == 1
        study = near.study
        study.set_user_attr(PARENT_LEASE, study.user_attrs[PARENT_LEASE] | {"worker": "unseen", "place": "another"})
        assert taken(near) is None
        study.set_user_attr(PARENT_HEARTBEAT, study.user_attrs[PARENT_HEARTBEAT] - STALE_S - 60)
        assert taken(near) is None  # it may just have been cut off, like everybody
        monkeypatch.setattr(leases, "CONFIRM_S", 0.0)
        assert taken(near) == 2


def test_a_second_supervisor_neither_opens_nor_ends_the_parent_run_of_the_first(
    tmp_path: Path, empty_store: Path
) -> None:
    """Each has a `tracking.root` of its own, as on two hosts."""
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    here, there = (TrackingConfig(root=str(tmp_path / name), uri=uri) for name in ("here", "there"))
    where = str(tmp_path / "study.journal")
    with supervisor(where, tmp_path) as first, supervisor(where, tmp_path) as second:
        parent = open_parent(first, here, command="python -m brainseg.sweep run study")
        assert parent is not None
        with first.kept(), parent:
            assert open_parent(second, there, command=None) is None
            assert open_store(here).read(parent.run_id).status == "RUNNING"
        assert first.study.user_attrs[PARENT_RUN] == parent.run_id
        again = open_parent(second, there, command=None)
        assert again is not None
        with second.kept(), again:
            pass
    record = open_store(here).read(parent.run_id)
    assert (again.run_id, record.status, record.tags["attempt"]) == (parent.run_id, "FINISHED", "2")


def test_a_new_parent_run_is_listed_under_the_run_above_it(tmp_path: Path, empty_store: Path) -> None:
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    tracking = TrackingConfig(root=str(tmp_path))
    with supervisor(str(tmp_path / "study.journal"), tmp_path) as lease:
        parent = open_parent(lease, tracking, command="python -m brainseg.sweep run study", above={"parent": "above"})
        assert parent is not None
        with lease.kept(), parent:
            pass
    tags = open_store(tracking).read(parent.run_id).tags
    assert (tags["parent"], tags["sweep_role"]) == ("above", "parent")
