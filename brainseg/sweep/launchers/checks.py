"""What many workers, and those on other hosts, need of a storage, a tracking store and the folder of checkpoints."""

import contextlib
import os
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from brainseg.cli.secrets import mask
from brainseg.errors import ConfigError
from brainseg.sweep.launchers.config import GROUP

FILE_STORES = ("sqlite", "file")  # schemes of tracking stores that are files of one host
LOCAL_FILE_SYSTEMS = ("btrfs", "ext2", "ext3", "ext4", "f2fs", "overlay", "ramfs", "tmpfs", "xfs", "zfs")
MOUNTS = Path("/proc/self/mounts")
PROCESSES = Path("/proc")
SQLITE_WORKERS = 12  # that may write to MLflow on SQLite: with 16, its rate falls to a third of that of 8
MLFLOWS_PORT = "5000"  # if none is given
LOCAL_HOSTS = ("127.0.0.1", "localhost", "[::1]")


def check_reach(kind: str, *, place: str | Path, uri: str) -> None:
    """Raises ConfigError for a storage or a tracking store that is for one host. place: of the study's storage."""
    if isinstance(place, Path):
        raise ConfigError(
            f"{GROUP}={kind} can't use a journal: it is for one host; "
            "name a storage, --storage postgresql://HOST/DATABASE, or start another study with --new NAME"
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


def too_many(workers: int, *, uri: str, connections: int | None) -> Iterator[str]:
    """Notes where so many workers are more than a store takes. uri: of MLflow's. connections: that the storage takes.

    What a server keeps its records in, it tells nobody: that of one on this host is read from its command line.
    """
    if workers > SQLITE_WORKERS and (uri.startswith("sqlite:") or _is_server_on_sqlite(uri)):
        yield (
            f"note: MLflow keeps its records in SQLite, which is slow from about {SQLITE_WORKERS} workers on, and "
            f"{workers} are asked for: run `mlflow server --backend-store-uri postgresql://HOST/DATABASE`, "
            "and name it: tracking.uri=http://HOST:5000"
        )
    if connections is not None and workers >= connections:
        yield (
            f"note: the storage takes {connections} connections, and {workers} workers are asked for, which hold one "
            f"each: those without wait; `ALTER SYSTEM SET max_connections = {2 * workers}`, and restart PostgreSQL"
        )


def _is_server_on_sqlite(uri: str) -> bool:
    """Whether an `mlflow server` of this host listens at the address and keeps its records in SQLite."""
    address = re.fullmatch(r"https?://(?:.*@)?(.+?)(?::(\d+))?/*", uri)
    if address is None or address[1] not in (*LOCAL_HOSTS, os.uname().nodename):
        return False
    for file in PROCESSES.glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # ended
            words = re.split("[\0=]", file.read_text(errors="replace"))
            given = dict(pairwise(words))
            is_server = any(Path(word).name == "mlflow" and given[word] in ("server", "ui") for word in given)
            port = given.get("--port", given.get("-p", MLFLOWS_PORT))
            if is_server and port == address[2] and given.get("--backend-store-uri", "sqlite").startswith("sqlite"):
                return True
    return False


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
