"""What a run needs to go on after it was killed: one file, replaced as a whole.

    <root>/checkpoints/<run>/run.json          the run manifest: configuration, data, machine, store
    <root>/checkpoints/<run>/last.npz          weights, optimizer, random states, history, progress
    <root>/checkpoints/<run>/best-<epoch>.npz  weights of the best epoch that last.npz knows of
    <root>/checkpoints/<run>/lease.json        held by the process that trains

A file is written under a temporary name, flushed to the disk and renamed, so that the previous one
stays until the new one is complete.
"""

import contextlib
import dataclasses
import json
import math
import os
import shutil
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Self

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from brainseg.config import PRECISIONS, RunConfig
from brainseg.config_file import from_yaml
from brainseg.errors import CheckpointError, ConfigError, ResumeError, RunBusyError
from brainseg.keys import in_range, one_of
from brainseg.parsing import ParseError, parse_json, read_npz
from brainseg.tracking.mlflow.fence import attempt_in_checkpoint
from brainseg.tracking.paths import HOLDER, HOLDER_LOCK, MANIFEST

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

CHECKPOINT_SCHEMA = 1
LAST = "last.npz"
# Type of a field -> the types that its value may have in JSON.
_OF_JSON: Mapping[Any, tuple[type, ...]] = {str: (str,), int: (int,), float: (float, int)}
# A checkpoint holds the weights, those of the best epoch, and AdamW's two means of the gradients.
COPIES = 4
BYTES_A_WEIGHT = 4


@dataclass(frozen=True, kw_only=True)
class RunManifest:
    """How a run was started: what a resume must find again. Stored as `MANIFEST`."""

    config_yaml: str  # the whole configuration, as the run's config.yaml
    data_fingerprint: str
    split_json: str
    precision: str  # as resolved: float32 or mixed_bfloat16
    threads: int  # as resolved
    store: str = ""  # where its record goes, without credentials; empty in those of version 0.1
    schema_version: int = CHECKPOINT_SCHEMA


@dataclass(frozen=True, kw_only=True)
class TrainingProgress:
    """How far a run has come, and what it has measured so far."""

    epoch: int = 1  # the epoch in progress, from 1
    step: int = 0  # steps of it that are done
    loss_sum: float = 0.0  # over those steps
    dice_sum: float = 0.0
    seconds: float = 0.0  # spent on them
    history: tuple[Mapping[str, float], ...] = ()  # metrics of each finished epoch
    best_epoch: int = 0  # 0: none yet
    best_score: float = -1.0  # val_dice_image of that epoch


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingState:
    """All that decides how a training goes on."""

    progress: TrainingProgress
    variables: Sequence[NDArray[Any]]  # of the model (weights, random states), then of the optimizer
    best: Sequence[NDArray[Any]]  # the model's variables after its best epoch; empty before the first one


class Checkpoints:
    """The checkpoint folder of one run."""

    def __init__(self, root: Path, run_id: str) -> None:
        self.folder = root / "checkpoints" / run_id
        self._run_id = run_id
        self._best_epoch = 0  # whose weights this object has written or read
        self._lock = FileLock(self.folder / HOLDER_LOCK)  # one object, which may take it more than once

    def begin(self, manifest: RunManifest) -> None:
        """Records how the run starts; makes the folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._replacing(MANIFEST) as file:
            file.write(json.dumps(dataclasses.asdict(manifest), indent=1).encode())

    @property
    def have_begun(self) -> bool:
        """Whether there is something to go on from."""
        return (self.folder / MANIFEST).exists()

    @property
    def have_weights(self) -> bool:
        """Whether the run came as far as its first checkpoint."""
        return (self.folder / LAST).exists()

    def manifest(self) -> RunManifest:
        """How the run was started.

        Raises ResumeError where there is nothing to go on from, CheckpointError where it is damaged.
        """
        try:
            stored = parse_json((self.folder / MANIFEST).read_text())
        except FileNotFoundError as error:
            raise ResumeError(
                f"resume={self._run_id}: there is no checkpoint of this run in {self.folder.parent}; "
                "check the id and tracking.root (finished runs keep no checkpoint)"
            ) from error
        except (OSError, ValueError) as error:
            raise self._unreadable(MANIFEST, error) from error
        version = stored.get("schema_version") if isinstance(stored, dict) else CHECKPOINT_SCHEMA
        if version != CHECKPOINT_SCHEMA:
            raise ResumeError(
                f"resume={self._run_id}: its checkpoint has schema_version {version}, and this "
                f"brainseg reads {CHECKPOINT_SCHEMA}; resume with the brainseg that started it"
            )
        try:
            manifest = RunManifest(**_fields_of(RunManifest, stored))
            one_of("precision", manifest.precision, [name for name in PRECISIONS if name != "auto"])
            in_range("threads", manifest.threads, low=1)
        except (ValueError, ConfigError) as error:
            raise self._unreadable(MANIFEST, error) from error
        return manifest

    def stored_config(self) -> RunConfig:
        """The configuration that the run was started, or last resumed, with. Raises ResumeError like `manifest`."""
        text = self.manifest().config_yaml
        try:
            return from_yaml(text, where=f"the checkpoint of run {self._run_id}")
        except ConfigError as error:
            raise CheckpointError(str(error)) from error

    def save(self, state: TrainingState) -> None:
        """Stores where the run stands. Raises OSError where the disk is full; the previous checkpoint is whole then."""
        progress = state.progress
        if state.best and progress.best_epoch != self._best_epoch:
            # Under the epoch's name: the best weights that last.npz refers to stay until it is replaced.
            self._write_arrays(_best_name(progress.best_epoch), "", state.best)
            self._best_epoch = progress.best_epoch
        self._write_arrays(LAST, json.dumps(dataclasses.asdict(progress)), state.variables)
        for old in self.folder.glob("best-*.npz"):
            if old.name != _best_name(progress.best_epoch):
                old.unlink()

    def load(self) -> TrainingState | None:
        """The last stored state, or None where the run was killed before its first checkpoint.

        Raises CheckpointError for a file that can't be read, and for progress that no training has. Whether the arrays
        are those of a training, `Trainer.restore` tells.
        """
        if not self.have_weights:
            return None
        text, variables = self._read_arrays(LAST)
        try:
            stored = _fields_of(TrainingProgress, parse_json(text))
            progress = TrainingProgress(**stored | {"history": tuple(stored.get("history", ()))})
            _check_progress(progress)
        except (ValueError, ConfigError) as error:
            raise self._unreadable(LAST, error) from error
        best = self._read_arrays(_best_name(progress.best_epoch))[1] if progress.best_epoch else []
        self._best_epoch = progress.best_epoch
        return TrainingState(progress=progress, variables=variables, best=best)

    def remove(self) -> None:
        """Deletes the folder: the run is finished, and its record has the model."""
        shutil.rmtree(self.folder, ignore_errors=True)

    @contextlib.contextmanager
    def lease(self, *, attempt: int = 0) -> Iterator[Self]:
        """Held while a process trains the run; the kernel releases it when that process dies.

        attempt: at which it does so, for those whose attempts came before; 0 outside of a study. Raises RunBusyError
        where another process holds it, naming it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._locked():
            latest = max(attempt, attempt_in_checkpoint(self.folder))
            holder = {"pid": os.getpid(), "host": socket.gethostname(), "attempt": latest}
            (self.folder / HOLDER).write_text(json.dumps(holder))
            yield self

    @contextlib.contextmanager
    def reserved(self) -> Iterator[Self]:
        """Held by a resume from before it opens the record until the run is over; this object's lease fits inside.

        Raises RunBusyError where another process holds the lease, ResumeError where one has finished the run.
        """
        self.manifest()
        with self._locked():
            self.manifest()  # the process that held it may have ended the run just now
            yield self

    def check_free(self) -> None:
        """Raises RunBusyError where a process holds the lease; writes nothing."""
        if (self.folder / HOLDER_LOCK).exists():
            with self._locked():
                pass

    def _locked(self) -> contextlib.AbstractContextManager[object]:
        try:
            return self._lock.acquire(timeout=0)
        except Timeout as error:
            raise RunBusyError(
                f"resume={self._run_id}: the run is alive, in {self._holder()}; wait for it, or stop it first"
            ) from error

    def _holder(self) -> str:
        try:
            holder = parse_json((self.folder / HOLDER).read_text())
            return f"process {holder['pid']} on {holder['host']}"
        except (OSError, ValueError, KeyError, TypeError):
            return "another process"

    def _write_arrays(self, name: str, text: str, arrays: Sequence[NDArray[Any]]) -> None:
        numbered = {f"{number:05d}": array for number, array in enumerate(arrays)}
        with self._replacing(name) as file:
            np.savez(file, text=np.array(text), **numbered)  # type: ignore[arg-type]  # names are no options

    def _read_arrays(self, name: str) -> tuple[str, list[NDArray[Any]]]:
        try:
            stored = read_npz(self.folder / name)
            return str(stored.pop("text")), [stored[key] for key in sorted(stored)]
        except (ParseError, KeyError) as error:
            raise self._unreadable(name, error) from error

    def _unreadable(self, name: str, error: Exception) -> CheckpointError:
        reason = " ".join(str(error.__cause__ or error).split())
        return CheckpointError(f"resume={self._run_id}: {self.folder / name} can't be read ({reason}); start a new run")

    @contextlib.contextmanager
    def _replacing(self, name: str) -> Iterator[BinaryIO]:
        """A file to write, which takes the place of `name` once it is complete and on the disk."""
        temporary = self.folder / f"{name}.tmp"
        try:
            with temporary.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.folder / name)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def _fields_of(kind: "type[DataclassInstance]", stored: Any) -> dict[str, Any]:
    """The fields of a dataclass in JSON. Raises ValueError where one is unknown, is missing or has another type.

    What a list holds is not looked at.
    """
    if not isinstance(stored, dict):
        raise ValueError(f"it must be a JSON object, got {type(stored).__name__}")
    fields = {item.name: item for item in dataclasses.fields(kind)}
    lacking = [name for name, item in fields.items() if name not in stored and item.default is dataclasses.MISSING]
    if lacking:
        raise ValueError(f"it has no {lacking[0]!r}")
    for name, value in stored.items():
        if name not in fields:
            raise ValueError(f"it has an unknown field {name!r}")
        wanted = _OF_JSON.get(fields[name].type, (list,))
        if not isinstance(value, wanted) or isinstance(value, bool):
            raise ValueError(f"{name} must be {wanted[0].__name__}, got {value!r}")
    return stored


def _check_progress(progress: TrainingProgress) -> None:
    """Raises ConfigError or ValueError for progress that no training has."""
    in_range("epoch", progress.epoch, low=1)
    in_range("step", progress.step, low=0)
    for name in ("loss_sum", "dice_sum", "seconds", "best_score"):
        if not math.isfinite(value := getattr(progress, name)):
            raise ValueError(f"{name} must be finite, got {value}")
    finished, history = progress.epoch - 1, progress.history
    if len(history) != finished:
        raise ValueError(f"history must have {finished} epochs before epoch {progress.epoch}, got {len(history)}")
    if not all(map(_are_metrics, history)):
        raise ValueError("history must have finite metrics of each epoch, val_dice_image among them")
    if not min(1, finished) <= progress.best_epoch <= finished:
        raise ValueError(
            f"best_epoch must be one of the {finished} before epoch {progress.epoch}, got {progress.best_epoch}"
        )


def _are_metrics(epoch: Any) -> bool:
    return (
        isinstance(epoch, dict)
        and "val_dice_image" in epoch
        and all(isinstance(value, float | int) and math.isfinite(value) for value in epoch.values())
    )


def _best_name(epoch: int) -> str:
    return f"best-{epoch:05d}.npz"
