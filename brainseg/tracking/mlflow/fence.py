"""The fence: a run that several processes have held is written by the latest attempt alone.

The tag `attempt` of the run is the number of that attempt. Who holds the run sets it before anything else; who writes
compares it with its own, so that a host that was cut off and comes back changes nothing.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path

from filelock import FileLock, Timeout

from brainseg.parsing import parse_json
from brainseg.tracking.paths import HOLDER, HOLDER_LOCK
from brainseg.tracking.rules import ATTEMPT
from brainseg.tracking.spool.spool import DamagedSpoolError, Spool, peek

FENCE_S = 2.0  # for so long a reading of the tag counts: a batch of records costs one


class SupersededError(Exception):
    """A later attempt writes the run: this process may write nothing more."""


def attempt_in(tags: Mapping[str, str]) -> int:
    """The attempt that the tags name; 0 where they name none."""
    text = tags.get(ATTEMPT, "")
    return int(text) if text.isdecimal() else 0


def attempt_of(spool: Spool) -> int:
    """The latest attempt that has written to the spool, whichever process it was; 0 for runs outside of a study."""
    try:
        records, _ = peek(spool.folder.parent, spool.run_id)
    except (OSError, DamagedSpoolError):  # deleted, say
        return 0
    return max((attempt_in(record.body.get("tags", {})) for record in records if record.kind == "begin"), default=0)


def discard_spool(spool: Spool, *, attempt: int) -> None:
    """Deletes what this attempt has spooled; on a shared folder, where the later one writes there, closes it alone."""
    if attempt_of(spool) <= attempt:
        spool.delete()
    else:
        spool.close()


def discard_checkpoint(folder: Path, *, attempt: int) -> None:
    """Deletes a checkpoint of this attempt or an earlier one, unless a process still trains from it.

    On a shared folder the later attempt goes on from it, and has written its own number there.
    """
    if not folder.is_dir() or attempt_in_checkpoint(folder) > attempt:
        return
    try:
        with FileLock(folder / HOLDER_LOCK, timeout=0):
            shutil.rmtree(folder, ignore_errors=True)
    except (Timeout, OSError):
        return


def attempt_in_checkpoint(folder: Path) -> int:
    """The attempt that last went on from a checkpoint; 0 where it isn't known."""
    try:
        return int(parse_json((folder / HOLDER).read_text()).get("attempt") or 0)
    except (OSError, ValueError, AttributeError):
        return 0
