"""What is made once for all workers and sessions, and copied for each."""

import hashlib
import pickle
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from filelock import FileLock

T = TypeVar("T")
ROOT = Path(__file__).parents[2]
# What decides how a run ends: made anew when any of it changes.
SOURCES = ("brainseg/**/*.py", "conf/**/*.yaml", "tests/support/*.py", "requirements*.lock")
KEPT_S = 24 * 3600.0  # for those of other sources, which another session may be reading


def source_key() -> str:
    """A hash of the source, the versions of all libraries, and the Python that runs."""
    digest = hashlib.sha256(sys.version.encode())
    for path in sorted(path for pattern in SOURCES for path in ROOT.glob(pattern)):
        digest.update(str(path.relative_to(ROOT)).encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def shared(folder: Path, name: str, make: Callable[[Path], T]) -> T:
    """A copy of what `make` returns, which may write below the folder that it is given; that stays where it is.

    The first to ask makes it, with the others waiting; a session that was killed meanwhile leaves nothing that counts.
    """
    home = folder / source_key() / name
    home.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(home.with_suffix(".lock")):
        result = home / "result.pickle"
        if not result.exists():
            shutil.rmtree(home, ignore_errors=True)
            home.mkdir()
            written = result.with_suffix(".tmp")
            written.write_bytes(pickle.dumps(make(home)))
            written.replace(result)
            _clean(folder)
        copy: T = pickle.loads(result.read_bytes())  # noqa: S301  # our own file
    return copy


def _clean(folder: Path) -> None:
    """Removes what was made from other sources, a day ago or longer."""
    for path in folder.iterdir():
        if path.name != source_key() and path.stat().st_mtime < time.time() - KEPT_S:
            shutil.rmtree(path)
