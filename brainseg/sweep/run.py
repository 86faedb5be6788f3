"""The story of a sweep: check, open the study, keep workers running, record the outcome."""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console

from brainseg import compose
from brainseg.cli.literal import numbered
from brainseg.config import RunConfig, TrackingConfig
from brainseg.data.load import RunData
from brainseg.errors import Interrupted, SweepError
from brainseg.model.runtime import resolve_threads
from brainseg.sweep.engine import keys
from brainseg.sweep.engine.deadline import set_deadline
from brainseg.sweep.engine.host import move_to_this_software, with_experiment, with_store
from brainseg.sweep.engine.leases import ProcessLock
from brainseg.sweep.engine.leftovers import clear_up, delete_leftovers
from brainseg.sweep.engine.live import LiveTable
from brainseg.sweep.engine.storage import StudyStorage, open_storage, place_of
from brainseg.sweep.engine.stored_study import going_on, open_study
from brainseg.sweep.launchers.checks import check_reach, not_shared, too_many
from brainseg.sweep.launchers.config import LauncherConfig
from brainseg.sweep.launchers.engine import Engine, Workers, counted, missing, workers_for
from brainseg.sweep.launchers.known import engine_of
from brainseg.sweep.launchers.local import supervise, worker_pool
from brainseg.sweep.launchers.view import View
from brainseg.sweep.launchers.watch import Watch
from brainseg.sweep.outcome.parent import ParentLease, open_parent, record_progress, record_study
from brainseg.sweep.outcome.standing import (
    count_finished,
    is_finished,
    is_over,
    is_recorded,
    record_end,
    record_unless_done,
)
from brainseg.sweep.server.address import STORAGE, server_folder
from brainseg.sweep.server.job import ensure_server, server_study
from brainseg.sweep.status import print_outcome, quiet_console
from brainseg.sweep.study.plan import check, threads_of_trials
from brainseg.sweep.study.study_file import StudyConfig, is_carried
from brainseg.sweep.study.weights import check_weights
from brainseg.tracking.mlflow.connection import UnreachableError, check_store
from brainseg.tracking.mlflow.surroundings import Place, place_of_runs
from brainseg.tracking.mlflow.tracker import MlflowTracker
from brainseg.tracking.paths import kept_private, resolve_uri, tracking_paths
from brainseg.train.run_data import load_run_data
from brainseg.train.signals import StopRequest, stop_on_signals


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """An open study, and what belongs to it."""

    config: StudyConfig
    where: str | None  # as it was named
    storage: StudyStorage
    study: optuna.Study
    lock: ProcessLock
    lease: ParentLease
    tracking: TrackingConfig
    above: Mapping[str, str]  # tags of the parent run that name its own parent, if it has one
    launcher: LauncherConfig
    workers: Workers
    hours: float | None  # of the command line, for this start
    console: Console


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A study as its storage has it."""

    config: StudyConfig
    baseline: RunConfig
    study: optuna.Study
    is_changed: bool  # its file or conf/ says something else by now


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A study after its workers have ended, or go on without this process."""

    config: StudyConfig
    study: optuna.Study
    tracking: TrackingConfig
    was_over: bool  # nothing was left to do
    note: str = ""  # how far it came in its time, where that has ended it


def run_study(
    config: StudyConfig,
    *,
    launcher: LauncherConfig,
    file: Path,
    asked: Sequence[str],
    hours: float | None,
    where: str | None,
    command: str,
) -> int:
    """Starts the study or goes on with it, until it is done, and prints what it has found. The exit code.

    For the arguments and errors see `train_study`.
    """
    done = train_study(config, launcher=launcher, file=file, asked=asked, hours=hours, where=where, command=command)
    console = quiet_console()
    print_outcome(done.study, done.config, done.tracking, console)
    if done.was_over:
        console.print(f"{config.name} is finished; --trials N goes on with it")
    elif not is_finished(done.study):
        console.print(f"{done.note}not finished yet; go on with: {command}")
    return 0


def train_study(
    config: StudyConfig,
    *,
    launcher: LauncherConfig,
    file: Path | None,
    asked: Sequence[str],
    hours: float | None = None,
    where: str | None,
    command: str,
) -> Trained:
    """Starts the study or goes on with it, until it is done, or the user looks away from a scheduler's workers.

    file, asked: its file, if it has one, and the overrides of the command line, both of which are in `config`. hours:
    the time limit of the command line; None: the file's. where: its storage. command: what the user typed, without
    passwords. Raises InputError, with nothing written, if it can't start; SweepError if it can't be finished;
    Interrupted if its workers are stopped.
    """
    console = quiet_console()
    with stop_on_signals() as stop, kept_private(compose.freeze(config.tracking).tracking):
        config, baseline, surroundings = _ready(config, launcher=launcher, where=where, console=console)
        data = load_run_data(baseline)  # decoded once, for all workers
        storage = open_storage(where, root=tracking_paths(baseline.tracking).root, name=config.name)
        stored = _stored(config, baseline, data, storage, file=file, asked=asked, console=console)
        config, baseline, study = stored.config, stored.baseline, stored.study
        share = launcher.cpus or max(1, resolve_threads(None) // config.workers)
        workers = workers_for(
            config,
            baseline.tracking,
            study_id=study.user_attrs[keys.STUDY_ID],
            threads=threads_of_trials(baseline, share=share),
            where=where,
        )
        was_over = is_over(study) and is_recorded(study)
        # From here on a signal ends the workers, by `supervise`, and what follows still runs.
        with stop.deferred(), storage.reached(), ProcessLock(storage.folder) as lock:
            sweep = Sweep(
                config=config,
                where=where,
                storage=storage,
                study=study,
                lock=lock,
                lease=ParentLease(storage, study, lock),
                tracking=baseline.tracking,
                above=surroundings.tags,
                launcher=launcher,
                workers=workers,
                hours=hours,
                console=console,
            )
            with _host_cleared_up(sweep, command=command):
                file = None if stored.is_changed else file
                note = "" if was_over else _run_recorded(sweep, stop, file=file, command=command)
    return Trained(config=config, study=study, tracking=baseline.tracking, was_over=was_over, note=note)


def _ready(
    config: StudyConfig, *, launcher: LauncherConfig, where: str | None, console: Console
) -> tuple[StudyConfig, RunConfig, Place]:
    """Checks all that needs no data, before minutes are spent on that: the study, its places, and the launcher.

    The study with the places of its records, its baseline, and what its parent run stands in. Raises InputError.
    """
    engine = engine_of(launcher)
    baseline = check(config)
    config = with_store(config, baseline.tracking)
    place = place_of(where, root=tracking_paths(baseline.tracking).root, name=config.name)
    if engine is not None:
        check_reach(launcher.kind, place=place, uri=resolve_uri(baseline.tracking))
        threads = threads_of_trials(baseline, share=launcher.cpus or 1)
        engine.check(workers_for(config, baseline.tracking, study_id="", threads=threads, where=where), config.workers)
    if where == STORAGE:
        ensure_server(launcher, config.tracking, console)
    check_store(baseline.tracking)
    check_weights(config)
    surroundings = place_of_runs(baseline.tracking, is_single=False)
    config = with_experiment(config, surroundings.tracking)
    return config, dataclasses.replace(baseline, tracking=surroundings.tracking), surroundings


def _stored(
    config: StudyConfig,
    baseline: RunConfig,
    data: RunData,
    storage: StudyStorage,
    *,
    file: Path | None,
    asked: Sequence[str],
    console: Console,
) -> Stored:
    """The study, new or as it is stored, which goes on with this brainseg and where it was stopped."""
    for warning in too_many(config.workers, uri=resolve_uri(baseline.tracking), connections=storage.connections()):
        console.print(warning)
    config, changes = going_on(storage, config, asked=asked, is_carried=file is not None and is_carried(file))
    if changes:
        console.print(
            f"note: {config.name} goes on as it was started; its file or conf/ has changed since: "
            f"{'; '.join(changes)}; --new NAME starts another study"
        )
        baseline = check(config)
        data = load_run_data(baseline)
    study = open_study(storage, config, data_fingerprint=data.slices.fingerprint)
    if (note := move_to_this_software(study)) is not None:
        console.print(note)
    if keys.is_stopped(study):
        study.set_user_attr(keys.STOP, None)
        console.print(f"note: {config.name} was stopped by `sweep stop`, and goes on now")
    return Stored(config=config, baseline=baseline, study=study, is_changed=bool(changes))


@contextlib.contextmanager
def _host_cleared_up(sweep: Sweep, *, command: str) -> Iterator[None]:
    """Clears up before and after what is done inside, and says how to go on where a signal ends that."""
    delete_leftovers(sweep.study, tracking_paths(sweep.tracking).checkpoints)
    try:
        yield
    except Interrupted as stopped:
        sweep.console.print(f"{stopped}; go on with: {command}")
        raise
    finally:
        with contextlib.suppress(UnreachableError), sweep.storage.reached():  # else the next start does it
            clear_up(sweep.study, sweep.tracking, sweep.console.print)


def _run_recorded(sweep: Sweep, stop: StopRequest, *, file: Path | None, command: str) -> str:
    """Runs the sweep inside its parent run, and records the outcome there, however the sweep ends. As `_train`.

    file: the study file; None if it is no longer the one that the study was started by.
    """
    parent = open_parent(sweep.lease, sweep.tracking, command=command, above=sweep.above)
    if parent is None:  # another supervisor of this study writes it
        try:
            return _train(sweep, None)
        finally:
            # That one may have ended before the study.
            record_unless_done(sweep.study, sweep.config, sweep.lease, sweep.tracking, sweep.console)
    recorded, note = 0, ""
    try:
        with sweep.lease.kept(), parent:
            record_study(parent, sweep.config, file=file, command=command)
            stop.check()
            try:
                if not is_over(sweep.study):
                    note = _train(sweep, parent)
            finally:
                recorded = record_end(parent, sweep.study, sweep.config, sweep.console)
    finally:
        sweep.study.set_user_attr(keys.OUTCOME, recorded)  # not before the parent run has ended
    return note


def _train(sweep: Sweep, parent: MlflowTracker | None) -> str:
    """Runs workers until the study is finished, or the user looks away from a scheduler's workers.

    Says how many trials have ended, where the time limit has ended the workers before the study. Raises SweepError if
    too many trials have failed.
    """
    config, study = sweep.config, sweep.study

    def on_finished(trials: Sequence[FrozenTrial]) -> None:
        if parent is not None:
            record_progress(parent, config, trials)

    limit_min = config.time_limit_min if sweep.hours is None else 60 * sweep.hours
    with sweep.storage.reached():
        set_deadline(study, sweep.storage, limit_min=limit_min, is_asked=sweep.hours is not None)
    before = count_finished(study)
    table = LiveTable(config, sweep.console)
    view = View(sweep.storage, study, table, on_finished, supervisor=sweep.lock.id)
    engine = engine_of(sweep.launcher)
    is_seen_to_end = True
    if engine is None:
        _supervise(sweep, view, table)
    else:
        is_seen_to_end = _watch(sweep, engine, view, table)
    settings = keys.settings_of(study)
    failed = study.get_trials(deepcopy=False, states=[TrialState.FAIL])
    if len(failed) > settings.failures and not is_finished(study):
        reasons = {trial.user_attrs.get(keys.FAILURE, "unknown") for trial in failed}
        raise SweepError(
            f"{len(failed)} trials failed, and {settings.failures} are allowed: {'; '.join(sorted(reasons))}; "
            "correct the cause, or raise `failures` in the study file, and run the same command again"
        )
    if is_finished(study) or not is_seen_to_end or study.user_attrs.get(keys.DEADLINE) is None:
        return ""
    done = count_finished(study)
    return f"{numbered(done - before, 'trial')} ended within the time limit, {settings.trials - done} are to come; "


def _supervise(sweep: Sweep, view: View, table: LiveTable) -> None:
    """Runs workers as processes of this machine."""
    config, workers = sweep.config, sweep.workers
    pool = worker_pool(workers, sweep.launcher, sweep.lock, count=config.workers)
    sweep.console.print(
        f"{config.name}: {numbered(config.trials, 'trial')}, {numbered(config.workers, 'worker')} "
        f"with {numbered(workers.threads, 'thread')} each; storage {sweep.storage.shown}; logs in {workers.logs}"
    )
    supervise(pool, view, table)


def _watch(sweep: Sweep, engine: Engine, view: View, table: LiveTable) -> bool:
    """Submits the workers that are missing, and shows what becomes of them; False if the user looks away before."""
    config, workers, study = sweep.config, sweep.workers, sweep.study
    launcher = sweep.launcher
    asked = {"kind": launcher.kind, "address": launcher.address, "workers": config.workers}
    study.set_user_attr(keys.LAUNCHER, asked)
    if (note := not_shared(tracking_paths(sweep.tracking).root)) is not None:
        sweep.console.print(note)
    numbers = missing(engine.tasks(workers.study), config.workers)
    submitted = f", {numbered(len(numbers), 'worker')} as {engine.start(workers, numbers)}" if numbers else ""
    sweep.console.print(
        f"{config.name}: {numbered(config.trials, 'trial')}{submitted}; storage {sweep.storage.shown}; "
        f"logs in {workers.logs}"
    )
    server = server_study(server_folder(config.tracking)) if sweep.where == STORAGE else None
    watch = Watch(engine, workers.study, table, count=config.workers, logs=workers.logs, server=server)

    def is_done() -> bool:
        with sweep.storage.reached():
            return is_over(study)

    if watch.until(is_done, view):
        return True
    name = config.name
    try:
        now = f"{engine.name}: {counted(engine.tasks(workers.study))}; they go on without this terminal"
    except UnreachableError as error:
        now = str(error).partition(";")[0]
    sweep.console.print(
        f"{now}; look again: sweep run {name} launcher={sweep.launcher.kind}; stop them: sweep stop {name}"
    )
    return False
