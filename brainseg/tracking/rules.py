"""Rules that every tracker and store follows: valid metrics, names and tags, and how a run ends."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from brainseg.errors import Interrupted, Pruned, TrackingError

STATE = "state"  # tag: running, finished, pruned, failed or killed; a caller may set its own, such as infeasible
FAILURE = "failure"  # tag: one line on what ended a failed run
ATTEMPT = "attempt"  # tag: which of the processes that have held the run, one after the other, may write it
RUNNING = "RUNNING"


class UnknownRunError(TrackingError):
    """The store has no run of this id."""


class NoArtifactError(TrackingError):
    """The run has no artifact of this name; one that can't be fetched is another error."""


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a run ended."""

    status: str  # FINISHED, FAILED or KILLED
    state: str  # the same for people: finished, pruned, failed or killed
    failure: str | None  # one line, for FAILED alone


def ending_of(error: BaseException | None) -> Ending:
    """How a run ends whose `with` block raised `error`, or None."""
    if error is None:
        return Ending(status="FINISHED", state="finished", failure=None)
    if isinstance(error, Pruned):
        return Ending(status="FINISHED", state="pruned", failure=None)
    if isinstance(error, (Interrupted, KeyboardInterrupt, SystemExit)):
        return Ending(status="KILLED", state="killed", failure=None)
    text = " ".join(str(error).split())
    return Ending(status="FAILED", state="failed", failure=f"{type(error).__name__}: {text}" if text else repr(error))


def checked_metrics(metrics: Mapping[str, float], *, epoch: int) -> dict[str, float]:
    """The metrics as plain floats. Raises ValueError for a value that isn't finite or an epoch below 0."""
    if epoch < 0:
        raise ValueError(f"epoch must be at least 0, got {epoch}")
    values = {key: float(value) for key, value in metrics.items()}
    for key, value in values.items():
        if not math.isfinite(value):
            raise ValueError(f"{key} must be finite to be recorded, got {value} in epoch {epoch}")
    return values


def checked_name(name: str) -> str:
    """An artifact path, relative and without `..`. Raises ValueError for any other."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise ValueError(f"an artifact needs a relative path inside the run, got {name!r}")
    return str(path)


def checked_folder(folder: str) -> str:
    """An artifact folder, `` for the top one. Raises ValueError for a path that leaves the run."""
    return checked_name(folder) if folder else ""


def checked_additions(tags: Mapping[str, str]) -> dict[str, str]:
    """Checks tags that are added to a run that has ended. Raises ValueError for `state` and `failure`."""
    for tag in (STATE, FAILURE):
        if tag in tags:
            raise ValueError(f"the tag {tag!r} says how a run ended and is set by its tracker alone")
    return dict(tags)


def files_below(folder: Path) -> dict[str, Path]:
    """Path below the folder (`figures/curves.png`) -> file, for all files in it, sorted."""
    return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
