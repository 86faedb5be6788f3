"""What `sweep` asks of a cluster's scheduler, which keeps workers alive without the process that submitted them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from brainseg.config import TrackingConfig
from brainseg.sweep.engine.storage import ENVIRONMENT_KEY
from brainseg.sweep.study.study_file import StudyConfig
from brainseg.sweep.study.study_rules import key_of, places_in
from brainseg.tracking.paths import ENVIRONMENT_KEY as TRACKING_KEY
from brainseg.tracking.paths import resolve_uri, tracking_paths

WAITING, RUNNING, ENDED = "waiting", "running", "ended"


@dataclass(frozen=True, kw_only=True)
class Study:
    """By what the jobs of a study are known, from any host of the cluster."""

    name: str
    id: str  # of its storage: another storage may have a study of the same name


@dataclass(frozen=True, kw_only=True)
class Workers:
    """The workers that a study asks for."""

    study: Study
    threads: int  # of the CPU, each
    arguments: Sequence[str]  # of `python -m brainseg.sweep`; none of them is secret
    environment: Mapping[str, str]  # beside the submitter's own; may hold passwords
    logs: Path  # folder


def workers_for(
    config: StudyConfig, tracking: TrackingConfig, *, study_id: str, threads: int, where: str | None
) -> Workers:
    """The workers of a study, with `threads` CPU threads each. where: the study's storage, if it was named."""
    arguments = ["worker", config.name, "--threads", str(threads)]
    arguments += [item for item in config.tracking if key_of(item) != "tracking.uri"]
    arguments += places_in(config.overrides)  # as this start has them: the study's own may be those of another host
    environment = {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONUNBUFFERED": "1"}
    if any(key_of(item) == "tracking.uri" for item in config.tracking):
        environment[TRACKING_KEY] = resolve_uri(tracking)
    if where is not None:
        environment[ENVIRONMENT_KEY] = where
    return Workers(
        study=Study(name=config.name, id=study_id),
        threads=threads,
        arguments=arguments,
        environment=environment,
        logs=tracking_paths(tracking).root / "studies" / f"{config.name}.logs",
    )


@dataclass(frozen=True, kw_only=True)
class Task:
    """A worker as the scheduler sees it."""

    job: str  # its id for the scheduler
    number: int  # from 1
    state: str  # WAITING, RUNNING or ENDED
    reason: str = ""  # why it waits, or how it ended, in the scheduler's words
    host: str = ""
    log: str = ""  # name of its file in the folder of logs, or a path on its host
    words: str = ""  # its last line, where the log is on its host


class Engine(Protocol):
    """A scheduler."""

    @property
    def name(self) -> str:
        """For messages."""

    def check(self, workers: Workers, count: int) -> None:
        """Raises InputError, with nothing submitted, where it can't take so many of these workers."""

    def shown(self, workers: Workers, count: int) -> str:
        """What would be submitted, to be read."""

    def start(self, workers: Workers, numbers: Sequence[int]) -> str:
        """Submits workers of these numbers; says as what. Raises SweepError."""

    def tasks(self, study: Study) -> list[Task]:
        """The workers of the study that wait, run, or ended a moment ago. Raises UnreachableError."""

    def cancel(self, tasks: Sequence[Task]) -> None:
        """Takes waiting tasks back."""


def missing(tasks: Sequence[Task], count: int) -> list[int]:
    """The numbers up to `count` that no waiting or running task has."""
    taken = {task.number for task in tasks if task.state != ENDED}
    return [number for number in range(1, count + 1) if number not in taken]


def counted(tasks: Sequence[Task]) -> str:
    """`11 run, 5 wait (Priority)`."""
    states = Counter(task.state for task in tasks)
    reasons = sorted({task.reason for task in tasks if task.state == WAITING and task.reason})
    runs = "1 runs" if states[RUNNING] == 1 else f"{states[RUNNING]} run"
    waits = "1 waits" if states[WAITING] == 1 else f"{states[WAITING]} wait"
    return f"{runs}, {waits}" + (f" ({', '.join(reasons)})" if reasons else "")


def and_server(tasks: Sequence[Task]) -> str:
    """`; the server waits (Priority)`, to go behind what is said of the workers; empty without a job of a server."""
    return "".join(f"; the server {told(task)}" for task in tasks if task.state != ENDED)


def told(task: Task) -> str:
    """`waits (Priority)` or `runs on n1`."""
    return f"waits ({task.reason})" if task.state == WAITING else f"runs on {task.host}"
