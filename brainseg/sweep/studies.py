"""What is asked of studies from any host: how far one is, which a storage has, and to stop one."""

import dataclasses
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from brainseg import compose
from brainseg.cli.tables import Console, Section, say
from brainseg.errors import TrackingError
from brainseg.sweep.engine import keys
from brainseg.sweep.engine.deadline import seconds_left
from brainseg.sweep.engine.forecast import sweep_seconds_left
from brainseg.sweep.engine.foreign import OwnStudy
from brainseg.sweep.engine.leases import host_name, this_host
from brainseg.sweep.engine.storage import JOURNAL_SUFFIX, StudyStorage, journal_path, open_storage, place_of
from brainseg.sweep.engine.stored_study import load_config
from brainseg.sweep.engine.trial_row import shown_metric, trial_row
from brainseg.sweep.launchers.engine import ENDED, WAITING, Study, Task, and_server, counted
from brainseg.sweep.launchers.known import engine_of_study
from brainseg.sweep.outcome.summary import StudySummary
from brainseg.sweep.server.address import STORAGE, at_server
from brainseg.sweep.server.job import check_server
from brainseg.tracking.mlflow.connection import UnreachableError
from brainseg.tracking.paths import tracking_paths
from brainseg.train.progress import duration

STUDIES_SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class WorkerRow:
    """A worker that holds a trial."""

    trial: int
    host: str
    pid: int
    gpu: str  # as in CUDA_VISIBLE_DEVICES; empty if that isn't set
    epoch: int  # finished
    epochs: int | None  # asked for
    silent_s: float | None  # since its last heartbeat, by the storage's clock; None on one host, where none is needed


@dataclass(frozen=True, kw_only=True)
class TimeLeft:
    """How long a study goes on."""

    seconds: float | None  # None while nothing is known
    limit_s: float | None  # until the time limit; None without one that lasts


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a scheduler was asked for."""

    launcher: str
    workers: int
    tasks: Sequence[Task] | None  # None: the scheduler can't be asked from this host


@dataclass(frozen=True, kw_only=True)
class StudyRow:
    """A study of a storage."""

    name: str
    state: str  # finished, running, stopping or stopped
    finished: int  # trials that count
    asked: int
    running: int  # trials that a worker holds
    failed: int
    best: float | None  # value of the first metric


def workers_of(storage: StudyStorage, trials: Sequence[FrozenTrial]) -> list[WorkerRow]:
    """The workers that hold these trials, in the order of the trials."""
    now = storage.now()
    rows = []
    for trial in trials:
        lease = keys.lease_of(trial)
        if trial.state != TrialState.RUNNING or lease is None:
            continue
        heartbeat = trial.user_attrs.get(keys.HEARTBEAT)
        silent_s = max(0.0, now - heartbeat) if now is not None and isinstance(heartbeat, float) else None
        rows.append(
            WorkerRow(
                trial=trial.number,
                host=host_name(lease.host),
                pid=lease.pid,
                gpu=lease.gpu,
                epoch=len(trial.intermediate_values),
                epochs=trial.user_attrs.get(keys.EPOCHS),
                silent_s=silent_s,
            )
        )
    return rows


def time_left(study: optuna.Study, storage: StudyStorage, *, workers: int) -> TimeLeft:
    """How long so many workers need for what is left, and until when they may train."""
    rows = [trial_row(trial) for trial in study.get_trials(deepcopy=False)]
    trials = keys.settings_of(study).trials
    limit_s = seconds_left(study, storage.now())
    return TimeLeft(
        seconds=sweep_seconds_left(rows, trials=trials, workers=max(workers, 1), now=time.time()),
        limit_s=limit_s if 0 < limit_s < float("inf") else None,
    )


def print_time_left(left: TimeLeft, console: Console, *, workers: int) -> None:
    """Prints a line; nothing where all is done, or nothing is known."""
    parts = []
    if left.seconds:
        by = "1 worker" if workers <= 1 else f"{workers} workers"
        parts.append(f"about {duration(left.seconds)} left for {by}{'' if workers else ', and none is at work'}")
    if left.limit_s is not None:
        parts.append(f"time limit in {duration(left.limit_s)}")
    if parts:
        say(", ".join(parts), console)


def asked_for(study: optuna.Study) -> Asked | None:
    """What a scheduler does for the study; None where `run` has never asked one."""
    stored = study.user_attrs.get(keys.LAUNCHER)
    if stored is None:
        return None
    engine = engine_of_study(stored)
    try:
        tasks = engine.tasks(Study(name=study.study_name, id=study.user_attrs[keys.STUDY_ID]))
    except UnreachableError:
        tasks = None
    return Asked(launcher=engine.name, workers=stored["workers"], tasks=tasks)


def is_awaited() -> bool:
    """Whether workers of an unfinished study in the root's own server wait in a scheduler, or may."""
    storage = open_storage(STORAGE, root=Path(), name="any")
    for name in optuna.get_all_study_names(storage.optuna):
        study = optuna.load_study(study_name=name, storage=storage.optuna)
        if _is_ours(storage, name) and not keys.is_stopped(study) and row_of(storage, name).state != "finished":
            asked = asked_for(study)
            if asked is not None and (asked.tasks is None or any(task.state != ENDED for task in asked.tasks)):
                return True
    return False


def print_asked(asked: Asked | None, console: Console, *, of_server: Sequence[Task] = ()) -> None:
    """Prints a line about what the scheduler does; nothing without one. of_server: the server's job."""
    if asked is None:
        return
    told = "it can't be asked from here" if asked.tasks is None else counted(asked.tasks)
    say(f"{asked.launcher}: {asked.workers} workers asked for, {told}{and_server(of_server)}", console)


def print_workers(workers: Sequence[WorkerRow], console: Console) -> None:
    """Prints a row a worker; nothing without one."""
    if not workers:
        return
    rows = tuple(
        (
            str(row.trial),
            row.host,
            str(row.pid),
            row.gpu,
            f"{row.epoch}" if row.epochs is None else f"{row.epoch}/{row.epochs}",
            "" if row.silent_s is None else f"{row.silent_s:.0f} s ago",
        )
        for row in workers
    )
    headings = ("trial", "host", "process", "GPU", "epochs", "last heartbeat")
    Section(title="Workers", headings=headings, rows=rows, align="rlrlrr").show(console)


def status_json(
    summary: StudySummary,
    workers: Sequence[WorkerRow],
    asked: Asked | None,
    *,
    left: TimeLeft,
    parent: str,
    is_stopping: bool,
) -> str:
    """`status --json`: the study's numbers and its workers."""
    forecast = summary.forecast
    best = summary.best[0] if summary.best else None
    content = {
        "name": summary.name,
        "state": _state(summary.finished, summary.asked, len(workers), is_stopping=is_stopping),
        "asked": summary.asked,
        "counts": dict(summary.counts),
        "left_out": [{"trial": number, "reason": why} for number, why in summary.left_out.items()],
        "metrics": [
            {
                "name": metric.name,
                "direction": metric.direction,
                "best": metric.best_value,
                "baseline": metric.baseline_value,
                "gain": metric.gain,
            }
            for metric in summary.metrics
        ],
        "best": best and {"trial": best.number, "params": dict(best.params), "run_id": best.run_id, "line": best.line},
        "seconds_left": left.seconds,
        "time_limit_s": left.limit_s,
        "forecast": forecast and {**dataclasses.asdict(forecast), "error": forecast.error},
        "parent_run": parent,
        "workers": [vars(row) for row in workers],
        "launcher": asked and dataclasses.asdict(asked),
    }
    return _json(content)


def list_studies(*, tracking: Sequence[str], where: str | None, as_json: bool, console: Console) -> int:
    """Prints the studies of a storage; by default, those with a journal in the folder of studies and those of the
    root's own server. The exit code.
    """
    rows = [row_of(storage, name) for storage, name in _studies(tracking, where)]
    if where is None and at_server(tracking, None, name=None)[1] == STORAGE:
        try:
            check_server(tracking, is_to_stop=False)
            rows += [row_of(storage, name) for storage, name in _studies(tracking, STORAGE)]
        except TrackingError as error:
            say(f"note: {error}", console)
    if as_json:
        print(_json({"studies": [vars(row) for row in rows]}))
        return 0
    if not rows:
        say("no studies here; start one with: python -m brainseg.sweep run quick", console)
        return 0
    Section(
        headings=("study", "state", "trials", "running", "failed", "best"),
        rows=tuple(
            (
                row.name,
                row.state,
                f"{row.finished}/{row.asked}",
                str(row.running),
                str(row.failed),
                "" if row.best is None else shown_metric(row.best),
            )
            for row in rows
        ),
        align="llrrrr",
    ).show(console)
    return 0


def row_of(storage: StudyStorage, name: str) -> StudyRow:
    """A study as a row of the list."""
    study = OwnStudy(study_name=name, storage=storage.optuna)
    trials = study.get_trials(deepcopy=False)
    finished = sum(trial.state in keys.COUNTED for trial in trials)
    running = len(workers_of(storage, trials))
    asked = keys.settings_of(study).trials
    values = [trial.values[0] for trial in trials if keys.is_feasible(trial)]
    better = max if study.directions[0] == StudyDirection.MAXIMIZE else min
    return StudyRow(
        name=name,
        state=_state(finished, asked, running, is_stopping=keys.is_stopped(study)),
        finished=finished,
        asked=asked,
        running=running,
        failed=sum(trial.state == TrialState.FAIL for trial in trials),
        best=better(values) if values else None,
    )


def stop_study(name: str, *, tracking: Sequence[str], where: str | None, console: Console) -> int:
    """Asks every worker of a study, on any host, to end after its epoch. The exit code.

    The wish is kept with the study until the next `run` takes it away. Raises TrackingError for an unknown study.
    """
    storage = storage_of(name, tracking, where)
    load_config(storage, name)  # an error for an unknown study
    study = optuna.load_study(study_name=name, storage=storage.optuna)
    with storage.reached():
        study.set_user_attr(keys.STOP, {"host": host_name(this_host()), "at": time.time()})
        workers = workers_of(storage, study.get_trials(deepcopy=False))
        _cancel_waiting(study, console)
    if not workers:
        say(f"{name} is stopped; no worker holds a trial", console)
        return 0
    who = "1 worker ends" if len(workers) == 1 else f"{len(workers)} workers end"
    say(f"{name}: {who} after the epoch, with a checkpoint; sweep run {name} goes on with it", console)
    print_workers(workers, console)
    return 0


def _cancel_waiting(study: optuna.Study, console: Console) -> None:
    """Takes back what still waits in a scheduler; where it can't be asked, such workers end as soon as they start."""
    asked = asked_for(study)
    waiting = [] if asked is None else [task for task in asked.tasks or () if task.state == WAITING]
    if waiting:
        engine = engine_of_study(study.user_attrs[keys.LAUNCHER])
        engine.cancel(waiting)
        say(f"{engine.name}: {len(waiting)} that waited are cancelled", console)


def _studies(tracking: Sequence[str], where: str | None) -> list[tuple[StudyStorage, str]]:
    root = tracking_paths(compose.freeze(list(tracking)).tracking).root
    journal = journal_path(root, "any")
    if place_of(where, root=root, name="any") == journal.absolute():
        names = sorted(path.name.removesuffix(JOURNAL_SUFFIX) for path in journal.parent.glob(f"*{JOURNAL_SUFFIX}"))
        opened = [(open_storage(None, root=root, name=name, create=False), name) for name in names]
    else:
        storage = open_storage(where, root=root, name="any", create=False)
        opened = [(storage, name) for name in sorted(optuna.get_all_study_names(storage.optuna))]
    return [(storage, name) for storage, name in opened if _is_ours(storage, name)]


def _is_ours(storage: StudyStorage, name: str) -> bool:
    """Whether it is a study of brainseg's, made to its end."""
    try:
        load_config(storage, name)
    except TrackingError:
        return False
    return True


def storage_of(name: str, tracking: Sequence[str], where: str | None) -> StudyStorage:
    """The storage of a study that is there. tracking: overrides. where: as `--storage` takes it."""
    root = tracking_paths(compose.freeze(list(tracking)).tracking).root
    return open_storage(where, root=root, name=name, create=False)


def _state(finished: int, asked: int, running: int, *, is_stopping: bool) -> str:
    if running:
        return "stopping" if is_stopping else "running"
    return "finished" if finished >= asked else "stopped"


def _json(content: dict[str, Any]) -> str:
    return json.dumps({"schema_version": STUDIES_SCHEMA, **content}, indent=2)
