"""Tells people and programs how far a study is, and what it has found."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import optuna
from rich.console import Console

from brainseg import compose
from brainseg.config import TrackingConfig
from brainseg.runs.archive import read_archive
from brainseg.sweep.archive.study import archived_study
from brainseg.sweep.engine import keys
from brainseg.sweep.engine.foreign import OwnStudy
from brainseg.sweep.engine.leases import ProcessLock
from brainseg.sweep.engine.stored_study import load_config
from brainseg.sweep.outcome.parent import ParentLease
from brainseg.sweep.outcome.standing import is_recorded, record_unless_done
from brainseg.sweep.outcome.summary import print_status, summarize
from brainseg.sweep.server.address import STORAGE
from brainseg.sweep.server.job import server_tasks
from brainseg.sweep.studies import (
    TimeLeft,
    asked_for,
    print_asked,
    print_time_left,
    print_workers,
    status_json,
    storage_of,
    time_left,
    workers_of,
)
from brainseg.sweep.study.study_file import StudyConfig
from brainseg.sweep.study.study_rules import merged
from brainseg.tracking.mlflow.connection import where_to_look
from brainseg.tracking.paths import kept_private


def show_status(name: str, *, tracking: Sequence[str], where: str | None, as_json: bool) -> int:
    """Prints what the study has found so far and who works on it, and updates the plots on its parent run."""
    console = quiet_console(stderr=as_json)
    store = compose.freeze(list(tracking)).tracking
    storage = storage_of(name, tracking, where)
    stored = load_config(storage, name)
    config = dataclasses.replace(stored, tracking=tuple(tracking))
    study = OwnStudy(study_name=name, storage=storage.optuna)
    if keys.PARENT_RUN in study.user_attrs and not is_recorded(study):
        with kept_private(_tracking_of(stored, tracking)), ProcessLock(storage.folder) as lock:
            record_unless_done(study, config, ParentLease(storage, study, lock), store, console)
    workers = workers_of(storage, study.get_trials(deepcopy=False))
    left = time_left(study, storage, workers=len(workers))
    if as_json:
        parent = study.user_attrs.get(keys.PARENT_RUN, "")
        asked = asked_for(study)
        is_stopping = keys.is_stopped(study)
        summary = summarize(study, config)
        print(status_json(summary, workers, asked, left=left, parent=parent, is_stopping=is_stopping))
        return 0
    print_outcome(study, config, store, console)
    print_time_left(left, console, workers=len(workers))
    print_asked(asked_for(study), console, of_server=server_tasks(tracking) if where == STORAGE else ())
    print_workers(workers, console)
    return 0


def show_archived(path: Path, *, as_json: bool) -> int:
    """Prints what an exported study has found. Raises InputError for a file that can't be read."""
    archive = read_archive(path)
    config, study = archived_study(archive, archive.study)
    summary = summarize(study, config)
    if as_json:
        parent = study.user_attrs.get(keys.PARENT_RUN, "")
        left = TimeLeft(seconds=None, limit_s=None)
        print(status_json(summary, [], None, left=left, parent=parent, is_stopping=False))
    else:
        print_status(summary, config, quiet_console())
    return 0


def record_if_over(name: str, *, tracking: Sequence[str], where: str | None) -> None:
    """Records the study's outcome on its parent run, where no worker is left and nobody has done it."""
    storage = storage_of(name, tracking, where)
    with storage.reached():
        study = OwnStudy(study_name=name, storage=storage.optuna)
        if workers_of(storage, study.get_trials(deepcopy=False)) or is_recorded(study):
            return
        config = load_config(storage, name)
        store = _tracking_of(config, tracking)
        with kept_private(store), ProcessLock(storage.folder) as lock:
            record_unless_done(study, config, ParentLease(storage, study, lock), store, quiet_console())


def _tracking_of(stored: StudyConfig, tracking: Sequence[str]) -> TrackingConfig:
    """Where and how the study's records are kept. tracking: overrides of the command line, which go before its own."""
    return compose.freeze(merged(stored.tracking, tracking)).tracking


def quiet_console(*, stderr: bool = False) -> Console:
    """For a command's words; Optuna says no more than warnings. stderr: since the command's answer is JSON."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return Console(markup=False, highlight=False, soft_wrap=True, stderr=stderr)


def print_outcome(study: optuna.Study, config: StudyConfig, tracking: TrackingConfig, console: Console) -> None:
    """Prints the summary, and where the parent run is."""
    print_status(summarize(study, config), config, console)
    parent = study.user_attrs.get(keys.PARENT_RUN)
    console.print(f"parent run  {parent or 'none yet'}")
    console.print(f"look at it  {where_to_look(tracking, run_id=parent)}")
