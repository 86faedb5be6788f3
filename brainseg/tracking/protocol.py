"""The interfaces of tracking: `Tracker` writes a run, `RunStore` reads runs, `ModelRegistry` names models."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

# The artifact path of the `.keras` file inside a run's recorded model.
MODEL_FILE = "model/data/model.keras"
# The tag of the versions that a `ModelRegistry` has made, with brainseg's own version; people make others by hand.
MADE_BY = "brainseg"


@dataclass(frozen=True, kw_only=True)
class DatasetInfo:
    """The data of a run as the MLflow UI shows it."""

    name: str  # phantom, or the folder's name
    fingerprint: str  # brainseg's own: of every slice and mask at its stored size
    source: str  # where it was read from
    slices: int
    patients: int | None


class Tracker(Protocol):
    """Writes one run's record. Opened by `with`, which sets the run's final state on leaving it:
    FINISHED, also on `Pruned`; FAILED on any other exception; KILLED on `Interrupted`, KeyboardInterrupt or
    SystemExit.

    The tag `state` is running, then finished, pruned, failed or killed; a caller that sets its own inside
    the block and leaves the block without an exception keeps it. The tag `failure` is what failed, in one
    line; a run that is opened again loses it.

    No method waits for the store, and none raises because the store is down or the disk is full: what
    couldn't be delivered is spooled, and what couldn't even be spooled is named by `unwritten`.
    Every call is idempotent: the same metric of the same epoch is recorded once, so that a resumed
    run may repeat what it isn't sure of. Callers may not log outside the `with` block (RuntimeError).
    """

    @property
    def run_id(self) -> str:
        """The run's id for its whole life: what `resume=` takes and what its checkpoints lie under.

        MLflow's own, except for a run that started offline: `local-...`, which MLflow then has as the tag
        `local_id`. A store takes either.
        """
        ...

    @property
    def attempt(self) -> int:
        """Which of the trackers that have held this run one after the other, from 1; 0 where no other may take it over.

        Once a later one is open, on whichever host, this one writes nothing more: its records are dropped, and so is
        what of them waits in the spool. The tag `attempt` says which is the latest.
        """
        ...

    @property
    def store(self) -> str:
        """The store's URI without credentials; the run manifest of a checkpoint keeps it."""
        ...

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Records configuration values; one that was recorded already keeps its value."""
        ...

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Records tags; a later value replaces an earlier one.

        Four of them are shown by every store in its own way: `source` (the command line that started the run),
        `git_commit`, `parent` (the id of the run that this one is listed under) and `description` (Markdown).
        """
        ...

    def log_dataset(self, dataset: DatasetInfo) -> None:
        """Records which data the run uses."""
        ...

    def log_metrics(self, metrics: Mapping[str, float], *, epoch: int) -> None:
        """Records values of one epoch (counted from 1), in one batch. Raises ValueError for NaN and infinity."""
        ...

    def log_text(self, text: str, name: str) -> None:
        """Records a small text file under the artifact path `name` (`config.yaml`, `environment/packages.txt`).

        The name is relative and stays inside the run, else ValueError.
        """
        ...

    def log_file(self, path: Path, folder: str = "") -> None:
        """Records a copy of a file, under its own name, in the artifact folder; the caller may delete it afterwards."""
        ...

    def log_made(self, name: str, make: Callable[[Path], None]) -> None:
        """Records a file under the artifact path `name`; `make` writes it at the path that it is given.

        Called at once. It may write beside that path, and leaves nothing there.
        """
        ...

    def log_model(self, source: Path | Callable[[Path], None]) -> None:
        """Records a `.keras` file as the run's model `model`, with its signature.

        source: the file, which the caller may delete afterwards, or what writes it, as for `log_made`.
        A run has one model: a later file takes the place of an earlier one. Read it back as `MODEL_FILE`.
        """
        ...

    @property
    def unwritten(self) -> tuple[str, ...]:
        """What couldn't be recorded anywhere, a line each; complete once the `with` block has been left."""
        ...

    @property
    def undelivered(self) -> int:
        """How many records wait in the spool for `brainseg.tracking sync`; known after the `with` block."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """What a store knows of a run."""

    run_id: str
    name: str
    status: str  # RUNNING, FINISHED, FAILED or KILLED
    params: Mapping[str, str]
    tags: Mapping[str, str]
    metrics: Mapping[str, Mapping[int, float]]  # key -> epoch -> value
    dataset: DatasetInfo | None  # None where the run hasn't recorded it


@dataclass(frozen=True, kw_only=True)
class RunFilter:
    """Conditions on the runs of a list, all of which must hold."""

    experiment: str | None = None  # its name; None: in any
    id_start: str = ""  # of MLflow's id, or of the local one
    params: Mapping[str, str] = field(default_factory=dict)  # as they were recorded
    tags: Mapping[str, str] = field(default_factory=dict)
    parents: bool = False  # the parent runs of studies and of `train -m`, and no others; else all others


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """A run as a list shows it, with the last value of each metric."""

    run_id: str  # the local one where it started offline
    name: str
    status: str  # RUNNING, FINISHED, FAILED or KILLED
    params: Mapping[str, str]
    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    total: float | None  # over all epochs, of the metric that was asked for; None where the run hasn't it


@dataclass(frozen=True, kw_only=True)
class RunList:
    """Runs by the tag `state`: the finished ones, the best first, and all others, the newest first."""

    finished: tuple[RunSummary, ...]  # those without the metric come last; of equal ones the older first
    others: tuple[RunSummary, ...]
    more_finished: bool  # there are more than the limit allows
    more_others: bool


# Run id -> metric -> epoch -> value.
Curves = Mapping[str, Mapping[str, Mapping[int, float]]]


class RunStore(Protocol):
    """Reads runs, and adds evaluations to them.

    An unknown run raises `UnknownRunError`, and an artifact that it doesn't have `NoArtifactError`, naming it and the
    store (passwords masked). One that can't be fetched is another `TrackingError`, which says why.
    """

    def read(self, run_id: str) -> RunRecord:
        """The record of one run."""
        ...

    def find(self, tags: Mapping[str, str]) -> list[str]:
        """The ids of the runs that carry all of these tags, the oldest first."""
        ...

    def aliases(self) -> Sequence[str]:
        """The aliases of all registered models, `NAME@ALIAS` each, sorted."""
        ...

    def run_of_alias(self, alias: str) -> str:
        """The id of the run whose model one of `aliases` names; empty for a version without a run."""
        ...

    def overview(self, which: RunFilter, *, rank_by: str, total_of: str, limit: int | None) -> RunList:
        """The runs that a tracker has written, ranked by a metric of which more is better.

        total_of: the metric that is added up over all epochs. limit: of either list; None for all runs.
        An unknown experiment raises TrackingError; a store in memory has but one, whatever its name.
        """
        ...

    def curves(self, run_ids: Sequence[str], keys: Sequence[str]) -> Curves:
        """Reads the history of these metrics in many runs at once; a metric that a run lacks is left out.

        Faster than `read`, which asks for one run and metric at a time.
        """
        ...

    def text(self, run_id: str, name: str) -> str:
        """A text artifact."""
        ...

    def file(self, run_id: str, name: str, folder: Path) -> Path:
        """Fetches an artifact (a file or a folder) to `folder/name` and returns that path."""
        ...

    def add(self, run_id: str, folder: Path, *, to: str, tags: Mapping[str, str]) -> None:
        """Adds the files of `folder` (its subfolders too) to a run, as the artifact folder `to`, and tags.

        The artifact folder has just these files afterwards, whatever was there before; a later value of a tag
        replaces an earlier one. Status, end time and metrics of the run stay as they are, and so does its
        state: ValueError for the tags `state` and `failure`. Raises TrackingError for a run that still waits
        in the spool.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class ModelVersion:
    """A version of a registered model."""

    name: str  # of the registered model
    version: str
    run_id: str  # MLflow's own; empty for one that was registered without a run
    tags: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class NewVersion:
    """A version to register."""

    name: str  # of the registered model, which is made if there is none
    artifact: str  # the artifact folder of its run that holds the model
    tags: Mapping[str, str]
    description: str  # Markdown


class ModelRegistry(Protocol):
    """Models of runs as versions of registered models. An unknown run raises `TrackingError`."""

    def name_for(self, run_id: str) -> str:
        """The name of the run's experiment: what its registered model is called unless another is named."""
        ...

    def of_run(self, run_id: str) -> Sequence[ModelVersion]:
        """The versions that `register` has made of the run, under any name, the oldest first.

        What was made by hand doesn't count.
        """
        ...

    def with_alias(self, name: str, alias: str) -> ModelVersion | None:
        """The version of the registered model that the alias names."""
        ...

    def with_number(self, name: str, number: str) -> ModelVersion | None:
        """The version `number` of the registered model."""
        ...

    def register(self, run_id: str, new: NewVersion) -> ModelVersion:
        """Makes a version of an artifact folder of the run, with the tag `MADE_BY`; each call makes another one."""
        ...

    def set_alias(self, alias: str, version: ModelVersion) -> None:
        """Moves the alias of its registered model to this version."""
        ...
