"""A disk that is full before a run begins is one line, and no fault of what was typed."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from disks import small_disk

from brainseg.config import TrackingConfig
from brainseg.errors import DiskError
from brainseg.tracking import open_tracker

pytestmark = pytest.mark.heavy


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1,500 KiB."""
    with small_disk(tmp_path / "disk", "1500k") as folder:
        yield folder


def test_a_disk_without_room_for_the_database(disk: Path) -> None:
    (disk / "others").write_bytes(bytes(1_400 * 1024))
    with pytest.raises(DiskError, match=r"^tracking\.root must be a folder that can be written to, got .*/disk "):
        open_tracker(TrackingConfig(root=str(disk)), run_name="first", tags={})
    assert [each.name for each in disk.iterdir() if each.suffix != ".lock"] == ["others"]


def test_a_disk_without_room_for_the_spool(disk: Path, empty_store: Path) -> None:
    shutil.copy(empty_store, disk / "mlflow.db")
    said = r"^tracking\.root must have room for the spool, got .*/disk/spool \(No space left on device\); free some"
    with pytest.raises(DiskError, match=said):
        open_tracker(TrackingConfig(root=str(disk)), run_name="first", tags={})
    assert not list((disk / "spool").iterdir())
