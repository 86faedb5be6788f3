"""The in-memory twin of the MLflow tracker and store, for tests and for use as a library."""

import copy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, Self

import brainseg
from brainseg.cli.output import temporary_folder
from brainseg.errors import ResumeError
from brainseg.tracking.listing import listed, summary_of
from brainseg.tracking.paths import EXPERIMENT
from brainseg.tracking.protocol import (
    MADE_BY,
    MODEL_FILE,
    Curves,
    DatasetInfo,
    ModelVersion,
    NewVersion,
    RunFilter,
    RunList,
    RunRecord,
)
from brainseg.tracking.rules import (
    ATTEMPT,
    FAILURE,
    RUNNING,
    STATE,
    NoArtifactError,
    UnknownRunError,
    checked_additions,
    checked_folder,
    checked_metrics,
    checked_name,
    ending_of,
    files_below,
)


class MemoryTracker:
    """A `Tracker` that keeps the record in its attributes; entering it again goes on with the same run."""

    def __init__(
        self,
        *,
        run_name: str = "run",
        tags: Mapping[str, str] | None = None,
        run_id: str = "memory",
        attempt: int = 0,
    ) -> None:
        self.attempt = attempt
        self.name = run_name
        self.status = RUNNING
        self.params: dict[str, str] = {}
        self.tags: dict[str, str] = dict(tags or {})
        self.metrics: list[tuple[int, dict[str, float]]] = []  # (epoch, values), in the order of recording
        self.texts: dict[str, str] = {}  # artifact path -> text
        self.files: dict[str, bytes] = {}  # artifact path -> content; the model is `MODEL_FILE`
        self.dataset: DatasetInfo | None = None
        self._run_id = run_id
        self._inside = False
        self._own_state: str | None = None

    @property
    def run_id(self) -> str:
        return self._run_id

    @property
    def store(self) -> str:
        return "memory"

    @property
    def state(self) -> str:
        """The tag `state`: running, finished, failed, killed, or what the caller set."""
        return self.tags[STATE]

    @property
    def unwritten(self) -> tuple[str, ...]:
        return ()

    @property
    def undelivered(self) -> int:
        return 0

    def log_params(self, params: Mapping[str, Any]) -> None:
        self._check_inside()
        self.params = {key: str(value) for key, value in params.items()} | self.params

    def set_tags(self, tags: Mapping[str, str]) -> None:
        self._check_inside()
        self.tags.update(tags)
        self._own_state = tags.get(STATE, self._own_state)

    def log_dataset(self, dataset: DatasetInfo) -> None:
        self._check_inside()
        self.dataset = dataset

    def log_metrics(self, metrics: Mapping[str, float], *, epoch: int) -> None:
        self._check_inside()
        values = checked_metrics(metrics, epoch=epoch)
        for recorded_epoch, recorded in self.metrics:
            if recorded_epoch == epoch:
                recorded.update({key: value for key, value in values.items() if key not in recorded})
                return
        self.metrics.append((epoch, values))

    def log_text(self, text: str, name: str) -> None:
        self._check_inside()
        self.texts[checked_name(name)] = text

    def log_file(self, path: Path, folder: str = "") -> None:
        self._check_inside()
        self.files[str(PurePosixPath(checked_folder(folder), path.name))] = path.read_bytes()

    def log_made(self, name: str, make: Callable[[Path], None]) -> None:
        self._check_inside()
        self.files[checked_name(name)] = _made(make, name)

    def log_model(self, source: Path | Callable[[Path], None]) -> None:
        self._check_inside()
        self.files[MODEL_FILE] = source.read_bytes() if isinstance(source, Path) else _made(source, MODEL_FILE)

    def __enter__(self) -> Self:
        self._inside = True
        self._own_state = None
        self.begin({})
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        ending = ending_of(error)
        state = self._own_state if error is None and self._own_state else ending.state
        self.end(status=ending.status, state=state, failure=ending.failure)
        self._inside = False

    def begin(self, tags: Mapping[str, str]) -> None:
        """Marks the run as running, as when it is opened or resumed."""
        self.status = RUNNING
        self.tags.pop(FAILURE, None)
        self.tags.update(tags)
        self.tags[STATE] = RUNNING.lower()

    def end(self, *, status: str, state: str, failure: str | None) -> None:
        """Sets the run's final state."""
        self.status = status
        self.tags[STATE] = state
        if failure is not None:
            self.tags[FAILURE] = failure

    def record(self) -> RunRecord:
        metrics: dict[str, dict[int, float]] = {}
        for epoch, values in self.metrics:
            for key, value in values.items():
                metrics.setdefault(key, {})[epoch] = value
        return RunRecord(
            run_id=self._run_id,
            name=self.name,
            status=self.status,
            params=dict(self.params),
            tags=dict(self.tags),
            metrics=metrics,
            dataset=self.dataset,
        )

    def content(self, name: str) -> bytes:
        """A text or file artifact. Raises KeyError where there is none of this name."""
        return self.texts[name].encode() if name in self.texts else self.files[name]

    def _check_inside(self) -> None:
        if not self._inside:
            raise RuntimeError("a tracker may be used only inside its with block")


class MemoryStore:
    """A `RunStore` over the trackers that it opened."""

    def __init__(self, *, called: str = "memory") -> None:
        """called: where the runs are, for messages."""
        self._called = called
        self.trackers: dict[str, MemoryTracker] = {}
        self.registered: dict[str, str] = {}  # NAME@ALIAS -> run id

    def open_tracker(
        self, *, run_name: str, tags: Mapping[str, str] | None = None, run_id: str | None = None, attempt: int = 0
    ) -> MemoryTracker:
        """Opens a new run, or an earlier one to continue.

        Raises UnknownRunError, and ResumeError where a later attempt holds the run.
        """
        if run_id is None:
            run_id = f"memory-{len(self.trackers) + 1}"
            self.trackers[run_id] = MemoryTracker(run_name=run_name, run_id=run_id, attempt=attempt)
        tracker = self._tracker(run_id)
        if tracker.attempt > attempt > 0:
            raise ResumeError(f"run {run_id} is written by its attempt {tracker.attempt}, and this one is {attempt}")
        if attempt > tracker.attempt:  # what the tracker before still writes goes nowhere
            self.trackers[run_id] = tracker = copy.deepcopy(tracker)
            tracker.attempt = attempt
        tracker.begin({**(tags or {}), **({ATTEMPT: str(attempt)} if attempt else {})})
        return tracker

    def read(self, run_id: str) -> RunRecord:
        return self._tracker(run_id).record()

    def find(self, tags: Mapping[str, str]) -> list[str]:
        return [run_id for run_id, tracker in self.trackers.items() if tags.items() <= tracker.tags.items()]

    def aliases(self) -> Sequence[str]:
        return sorted(self.registered)

    def run_of_alias(self, alias: str) -> str:
        return self.registered[alias]

    def overview(self, which: RunFilter, *, rank_by: str, total_of: str, limit: int | None) -> RunList:
        """All runs count as of one experiment, whatever its name."""
        summaries = [summary_of(tracker.record(), total_of=total_of) for tracker in self.trackers.values()]
        return listed(summaries, which, rank_by=rank_by, limit=limit)

    def curves(self, run_ids: Sequence[str], keys: Sequence[str]) -> Curves:
        metrics = {run_id: self.read(run_id).metrics for run_id in run_ids}
        return {run_id: {key: own[key] for key in keys if key in own} for run_id, own in metrics.items()}

    def text(self, run_id: str, name: str) -> str:
        return self._content(run_id, name).decode()

    def file(self, run_id: str, name: str, folder: Path) -> Path:
        tracker = self._tracker(run_id)
        inside = [path for path in (*tracker.texts, *tracker.files) if path == name or path.startswith(f"{name}/")]
        if not inside:
            raise no_artifact(run_id, name, self._called)
        for path in inside:
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(tracker.content(path))
        return folder / name

    def add(self, run_id: str, folder: Path, *, to: str, tags: Mapping[str, str]) -> None:
        tracker, to, added = self._tracker(run_id), checked_name(to), checked_additions(tags)
        for artifacts in (tracker.texts, tracker.files):
            for path in [path for path in artifacts if path.startswith(f"{to}/")]:
                del artifacts[path]
        tracker.files.update({f"{to}/{name}": path.read_bytes() for name, path in files_below(folder).items()})
        tracker.tags.update(added)

    def _content(self, run_id: str, name: str) -> bytes:
        try:
            return self._tracker(run_id).content(name)
        except KeyError:
            raise no_artifact(run_id, name, self._called) from None

    def _tracker(self, run_id: str) -> MemoryTracker:
        if run_id not in self.trackers:
            raise UnknownRunError(f"no run {run_id!r} in {self._called}; it has {', '.join(self.trackers) or 'none'}")
        return self.trackers[run_id]


class MemoryRegistry:
    """A `ModelRegistry` over the runs of a `MemoryStore`, which are of the experiment `brainseg`."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self.versions: list[tuple[ModelVersion, NewVersion]] = []  # the oldest first
        self.aliases: dict[str, ModelVersion] = {}  # by NAME@ALIAS

    def name_for(self, run_id: str) -> str:
        self._store.read(run_id)
        return EXPERIMENT

    def of_run(self, run_id: str) -> Sequence[ModelVersion]:
        self._store.read(run_id)
        return [version for version, _ in self.versions if version.run_id == run_id]

    def with_alias(self, name: str, alias: str) -> ModelVersion | None:
        return self.aliases.get(f"{name}@{alias}")

    def register(self, run_id: str, new: NewVersion) -> ModelVersion:
        self._store.read(run_id)
        tags = {**new.tags, MADE_BY: brainseg.__version__}
        number = 1 + sum(version.name == new.name for version, _ in self.versions)
        version = ModelVersion(name=new.name, version=str(number), run_id=run_id, tags=tags)
        self.versions.append((version, new))
        return version

    def set_alias(self, alias: str, version: ModelVersion) -> None:
        """Sets the alias, in the store as well."""
        self.aliases[f"{version.name}@{alias}"] = version
        self._store.registered[f"{version.name}@{alias}"] = version.run_id


def _made(make: Callable[[Path], None], name: str) -> bytes:
    with temporary_folder() as folder:
        path = folder / PurePosixPath(name).name
        make(path)
        return path.read_bytes()


def no_artifact(run_id: str, name: str, where: str) -> NoArtifactError:
    """The error for an artifact that a run doesn't have."""
    return NoArtifactError(f"run {run_id} has no artifact {name!r} in {where}; look at its artifacts in the MLflow UI")
