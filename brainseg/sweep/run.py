"""The story of a sweep: check, open the study, keep workers alive, record what came of it."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial
from rich.console import Console

from brainseg import compose
from brainseg.config import RunConfig, TrackingConfig
from brainseg.errors import Interrupted, SweepError
from brainseg.sweep import trial_queue as keys
from brainseg.sweep.alive import SignOfLife
from brainseg.sweep.live import LiveTable
from brainseg.sweep.parent import open_parent, record_outcome, record_progress, record_study
from brainseg.sweep.plan import check
from brainseg.sweep.secrets import TRACKING_URI
from brainseg.sweep.storage import ENVIRONMENT_KEY, StudyStorage, open_storage
from brainseg.sweep.study import load_config, open_study
from brainseg.sweep.study_file import StudyConfig
from brainseg.sweep.summary import print_status, summarize
from brainseg.sweep.supervisor import Pool, supervise, worker_pool
from brainseg.tracking.home import ENVIRONMENT_KEY as TRACKING_KEY
from brainseg.tracking.home import home_of, resolve_uri
from brainseg.tracking.mlflow_tracker import MlflowTracker
from brainseg.tracking.start import check_store, where_to_look
from brainseg.training.checkpoint import Checkpoints
from brainseg.training.precision import resolve_threads
from brainseg.training.run_data import load_run_data

UNFINISHED = "unfinished"  # the tag `state` of the parent of a study that can go on


def run_study(config: StudyConfig, *, file: Path, where: str | None, command: str) -> int:
    """Starts the study or goes on with it, until it is done. The exit code.

    where: its storage. command: what the user typed, without passwords. Raises InputError, with nothing
    written, where it can't start; SweepError where it can't be finished; Interrupted where it is stopped.
    """
    baseline = check(config)
    check_store(baseline.tracking)
    data = load_run_data(baseline)  # decoded once, for all workers
    home = home_of(baseline.tracking)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = open_storage(where, root=home.root, name=config.name)
    study = open_study(storage, config, data_fingerprint=data.slices.fingerprint)
    console = Console(markup=False, highlight=False, soft_wrap=True)
    if is_finished(study) and study.user_attrs.get(keys.OUTCOME) == len(_ended(study)):
        _tell_outcome(study, config, baseline.tracking, console)
        console.print(f"{config.name} is finished; --trials N goes on with it")
        return 0
    with _parent(storage, study, baseline.tracking, command) as parent:
        if parent is not None:
            record_study(parent, config, file=file, command=command)
        try:
            _supervise(storage, study, config, baseline, parent, console, where=where)
        except Interrupted as stopped:
            console.print(f"{stopped}; go on with: {command}")
            raise
        finally:
            _end(parent, study, config)
    _remove_checkpoints(study, home.root)
    _tell_outcome(study, config, baseline.tracking, console)
    if not is_finished(study):
        console.print(f"not finished yet; go on with: {command}")
    return 0


def is_finished(study: optuna.Study) -> bool:
    """Whether as many trials have ended well as were asked for."""
    states = [trial.state for trial in study.get_trials(deepcopy=False)]
    good = states.count(optuna.trial.TrialState.COMPLETE) + states.count(optuna.trial.TrialState.PRUNED)
    return good >= keys.settings_of(study).trials


def show_status(name: str, *, tracking: Sequence[str], where: str | None) -> int:
    """Prints what the study has found so far, and renews the plots on its parent run."""
    store = compose.freeze(list(tracking)).tracking
    storage = open_storage(where, root=home_of(store).root, name=name, create=False)
    config = dataclasses.replace(load_config(storage, name), tracking=tuple(tracking))
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.load_study(study_name=name, storage=storage.optuna)
    console = Console(markup=False, highlight=False, soft_wrap=True)
    if keys.PARENT_RUN in study.user_attrs and study.user_attrs.get(keys.OUTCOME) != len(_ended(study)):
        with _parent(storage, study, store, None) as parent:
            _end(parent, study, config)
    _tell_outcome(study, config, store, console)
    return 0


@contextlib.contextmanager
def _parent(
    storage: StudyStorage, study: optuna.Study, tracking: TrackingConfig, command: str | None
) -> Iterator[MlflowTracker | None]:
    """The parent run's tracker, open inside the block; None where another process has it."""
    tracker = open_parent(storage, study, tracking, command=command)
    if tracker is None:
        yield None
        return
    with tracker:
        yield tracker


def _supervise(
    storage: StudyStorage,
    study: optuna.Study,
    config: StudyConfig,
    baseline: RunConfig,
    parent: MlflowTracker | None,
    console: Console,
    *,
    where: str | None,
) -> None:
    home = home_of(baseline.tracking)
    environment = {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONUNBUFFERED": "1"}
    if any(item.startswith(TRACKING_URI) for item in config.tracking):
        environment[TRACKING_KEY] = resolve_uri(baseline.tracking)
    if where is not None:
        environment[ENVIRONMENT_KEY] = where
    threads = max(1, resolve_threads(None) // config.workers)
    logs = home.root / "studies" / f"{config.name}.logs"

    def on_finished(trials: Sequence[FrozenTrial]) -> None:
        if parent is not None:
            record_progress(parent, config, trials)

    def pool(sign: SignOfLife) -> Pool:
        return worker_pool(config, sign, threads=threads, logs=logs, environment=environment)

    console.print(
        f"{config.name}: {config.trials} trials, {config.workers} workers with {threads} threads each; "
        f"storage {storage.shown}; logs in {logs}"
    )
    supervise(storage, study, config, pool, LiveTable(config, console), on_finished=on_finished)
    settings = keys.settings_of(study)
    failed = [trial for trial in study.get_trials(deepcopy=False) if trial.state == optuna.trial.TrialState.FAIL]
    if len(failed) > settings.failures and not is_finished(study):
        reasons = {trial.user_attrs.get(keys.FAILURE, "unknown") for trial in failed}
        raise SweepError(
            f"{len(failed)} trials failed, and {settings.failures} are allowed: {'; '.join(sorted(reasons))}; "
            "correct the cause, or raise `failures` in the study file, and run the same command again"
        )


def _end(parent: MlflowTracker | None, study: optuna.Study, config: StudyConfig) -> None:
    """Tables and plots on the parent run."""
    if parent is None:
        return
    ended = len(_ended(study))
    record_outcome(parent, study, config)
    if not is_finished(study):
        parent.set_tags({"state": UNFINISHED})
    study.set_user_attr(keys.OUTCOME, ended)


def _ended(study: optuna.Study) -> list[FrozenTrial]:
    return [trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()]


def _remove_checkpoints(study: optuna.Study, root: Path) -> None:
    """Of trials whose worker was killed after their end was told."""
    for trial in _ended(study):
        if keys.RUN_ID in trial.user_attrs:
            Checkpoints(root, trial.user_attrs[keys.RUN_ID]).remove()


def _tell_outcome(study: optuna.Study, config: StudyConfig, tracking: TrackingConfig, console: Console) -> None:
    print_status(summarize(study, config), config, console)
    console.print(f"parent run  {study.user_attrs.get(keys.PARENT_RUN, 'none yet')}")
    console.print(f"look at it  {where_to_look(tracking)}")
