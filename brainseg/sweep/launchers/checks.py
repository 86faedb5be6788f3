"""What workers on other hosts need: a storage, a tracking server and a folder that all of them reach."""

from collections.abc import Iterator
from pathlib import Path

from brainseg.cli.secrets import mask
from brainseg.errors import ConfigError
from brainseg.sweep.launchers.config import GROUP

FILE_STORES = ("sqlite", "file")  # schemes of tracking stores that are files of one host
LOCAL_FILE_SYSTEMS = ("btrfs", "ext2", "ext3", "ext4", "f2fs", "overlay", "ramfs", "tmpfs", "xfs", "zfs")
MOUNTS = Path("/proc/self/mounts")


def check_reach(kind: str, *, place: str | Path, uri: str) -> None:
    """Raises ConfigError for a storage or a tracking store that is for one host. place: of the study's storage."""
    if isinstance(place, Path):
        raise ConfigError(
            f"{GROUP}={kind} can't use a journal: it is for one host; name a storage: --storage postgresql://HOST/DATABASE"
        )
    if uri.partition(":")[0] in FILE_STORES or "://" not in uri:
        raise ConfigError(
            f"{GROUP}={kind} needs a tracking server, got {mask(uri)}, which is for one host; "
            "start `mlflow server` and name it: tracking.uri=http://HOST:5000"
        )


def not_shared(root: Path) -> str | None:
    """A note where other hosts don't see the folder of checkpoints; None where they may."""
    if _file_system(root) not in LOCAL_FILE_SYSTEMS:
        return None
    return (
        f"note: tracking.root={root} is not shared with the workers' hosts: "
        "a trial whose host is lost starts again from its first epoch"
    )


def _file_system(path: Path) -> str:
    """The type of the file system that holds the path; empty where the kernel doesn't tell."""
    mounts = dict(_mounts())
    folders = [path.absolute(), *path.absolute().parents]
    return next((mounts[str(folder)] for folder in folders if str(folder) in mounts), "")


def _mounts() -> Iterator[tuple[str, str]]:
    if not MOUNTS.exists():  # not Linux
        return
    for line in MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines():
        _, folder, kind, *_ = line.split(" ")
        yield folder.replace("\\040", " "), kind
