"""A small training to measure sweeps with, and the processes that run it."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import yaml
from optuna.trial import FrozenTrial

from brainseg.errors import TrackingError
from brainseg.sweep.engine.storage import open_storage

# A phantom on which an epoch takes about half a second and one core.
SMALL = (
    "data.phantom_patients=24",
    "data.image_size=48",
    "data.augment=none",
    "model.depth=3",
    "model.base_filters=8",
    "train.precision=float32",
    "tracking.predictions=0",
)
TIMEOUT_S = 3600.0
POLL_S = 0.1
# A line for each epoch at once, also of a process that is killed.
ENVIRONMENT = {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONUNBUFFERED": "1"}


def unequal_trials(count: int, *, epochs: Sequence[int]) -> list[dict[str, Any]]:
    """Trials that differ in dropout, alternately short and long, in the order of Hydra's grid."""
    return [
        {"model.dropout": number // len(epochs) / 20, "train.epochs": epochs[number % len(epochs)]}
        for number in range(count)
    ]


def write_study(folder: Path, name: str, *, workers: int, space: Mapping[str, Any], **content: Any) -> Path:
    """Writes the file of a study that draws trials at random, unless they are enqueued, and never prunes."""
    path = folder / f"{name}.yaml"
    study = {
        "metric": "val_dice_image",
        "direction": "maximize",
        "workers": workers,
        "overrides": list(SMALL),
        "space": space,
        "sampler": {"name": "random", "seed": 0},
        "pruner": {"name": "none"},
    }
    path.write_text(yaml.safe_dump(study | content, sort_keys=False), encoding="utf-8")
    return path


def write_list(folder: Path, name: str, trials: Sequence[Mapping[str, Any]], *, workers: int) -> Path:
    """Writes the file of a study of exactly these trials."""
    space = {key: {"type": "categorical", "choices": sorted({trial[key] for trial in trials})} for key in trials[0]}
    return write_study(
        folder, name, workers=workers, space=space, trials=len(trials), enqueue=[dict(trial) for trial in trials]
    )


def sweep_command(study: Path, root: Path) -> list[str]:
    """The command that starts the study or resumes it."""
    return [sys.executable, "-m", "brainseg.sweep", "run", str(study), f"tracking.root={root}"]


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command line, a folder to run it in, and a log to which every start appends."""

    words: Sequence[str]
    folder: Path
    log: Path  # in a folder that is deleted afterwards

    @contextlib.contextmanager
    def started(self) -> Iterator["subprocess.Popen[bytes]"]:
        """Starts the process; at the end of the block it is killed with its children if it still runs."""
        with self.log.open("ab") as log:
            # What a killed process leaves in its temporary folder goes with the log's folder.
            environment = {**os.environ, **ENVIRONMENT, "TMPDIR": str(self.log.parent)}
            process = subprocess.Popen(self.words, cwd=self.folder, env=environment, stdout=log, stderr=log)
        try:
            yield process
        finally:
            if process.poll() is None:
                kill_all_of(process)

    def finish(self) -> float:
        """Runs it to its end and gives the seconds. Raises RuntimeError if it fails."""
        begun = time.monotonic()
        with self.started() as process:
            code = process.wait(TIMEOUT_S)
        if code:
            raise RuntimeError(f"{' '.join(self.words)} ended with {code}:\n{self.log.read_text()[-2000:]}")
        return time.monotonic() - begun

    def kill_when(self, is_due: Callable[[], bool]) -> float:
        """Runs it until `is_due`, kills it with everything that it has started, and gives the seconds."""
        begun = time.monotonic()
        with self.started() as process:
            while not is_due():
                if process.poll() is not None:
                    raise RuntimeError(f"{' '.join(self.words)} has ended before it could be killed; see {self.log}")
                time.sleep(POLL_S)
            kill_all_of(process)
        return time.monotonic() - begun


def kill_all_of(process: "subprocess.Popen[bytes]") -> None:
    """Kills the process and its descendants by SIGKILL, as when a machine stops.

    Not by its process group: the workers of a sweep have their own.
    """
    for pid in [process.pid, *_descendants(process.pid)]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


def _descendants(pid: int) -> list[int]:
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            # "pid (name) state parent ...", and a name may hold anything
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    found = [pid]
    for parent in found:
        found += [child for child, its_parent in parents.items() if its_parent == parent]
    return found[1:]


def trials_of(root: Path, name: str) -> list[FrozenTrial]:
    """The trials in the study's storage; empty until the study exists."""
    try:
        storage = open_storage(None, root=root, name=name, create=False)
        return optuna.load_study(study_name=name, storage=storage.optuna).get_trials()
    except (TrackingError, KeyError):
        return []
