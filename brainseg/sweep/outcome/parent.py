"""The parent run of a study in MLflow: the study, its progress and outcome. The trials are its child runs."""

import contextlib
import dataclasses
import threading
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial

from brainseg.cli.secrets import mask
from brainseg.config import TrackingConfig
from brainseg.errors import ResumeError
from brainseg.keys import as_text
from brainseg.runs.artifacts import COMMAND_FILE
from brainseg.sweep.engine import keys
from brainseg.sweep.engine.leases import HEARTBEAT_S, Lease, LeaseChecker, ProcessLock
from brainseg.sweep.engine.storage import StudyStorage
from brainseg.sweep.outcome.page import sweep_html
from brainseg.sweep.outcome.plots import write_plots
from brainseg.sweep.outcome.summary import summarize, summary_markdown, trials_csv
from brainseg.sweep.study.study_file import StudyConfig
from brainseg.tracking import open_store, open_tracker
from brainseg.tracking.mlflow.connection import UnreachableError
from brainseg.tracking.mlflow.tracker import MlflowTracker
from brainseg.train.environment import record_environment

PLOTS_FOLDER = "plots"
PAGE = "sweep.html"


class ParentLease:
    """Which process writes the parent run of a study: one at a time, on whichever host."""

    def __init__(self, storage: StudyStorage, study: optuna.Study, lock: ProcessLock) -> None:
        """lock: held by this process."""
        self.storage = storage
        self.study = study
        self._lock = lock
        self._checker = LeaseChecker(storage.folder, is_for_one_host=not storage.is_shared_between_hosts)

    def take(self) -> int | None:
        """Takes it, where no living process has it: how often it has been taken. To be called within the turn."""
        attributes, now = self.study.user_attrs, self.storage.now()
        stored = attributes.get(keys.PARENT_LEASE)
        if stored is not None:
            lease = Lease(**stored)
            is_dead = self._checker.is_dead(lease, heartbeat=attributes.get(keys.PARENT_HEARTBEAT), now=now)
            if lease.worker != self._lock.id and not is_dead:
                return None
        attempt: int = attributes.get(keys.PARENT_CLAIMS, 0) + 1
        self.study.set_user_attr(keys.PARENT_CLAIMS, attempt)
        self.study.set_user_attr(keys.PARENT_HEARTBEAT, now)
        lease = Lease.new(self._lock, supervisor=None, epochs_at_claim=0)
        self.study.set_user_attr(keys.PARENT_LEASE, dataclasses.asdict(lease))
        return attempt

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Tells the others, inside the block, that this process lives; releases the lease afterwards."""
        done = threading.Event()

        def heartbeat() -> None:
            while not done.wait(HEARTBEAT_S):
                with contextlib.suppress(Exception):  # a storage that is away for a moment; the next heartbeat tells
                    if self._is_ours():
                        self.study.set_user_attr(keys.PARENT_HEARTBEAT, self.storage.now())

        thread = threading.Thread(target=heartbeat, name="brainseg-parent", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
            self.release()

    def release(self) -> None:
        """Leaves it to others; where the storage is away, they see by the heartbeat that this process has ended."""
        with contextlib.suppress(UnreachableError), self.storage.reached():
            if self._is_ours():
                self.study.set_user_attr(keys.PARENT_LEASE, None)

    def _is_ours(self) -> bool:
        stored = self.study.user_attrs.get(keys.PARENT_LEASE)
        return stored is not None and stored["worker"] == self._lock.id


def open_parent(
    lease: ParentLease, tracking: TrackingConfig, *, command: str | None, above: Mapping[str, str] | None = None
) -> MlflowTracker | None:
    """Opens the study's parent run, and makes it if there is none; None while another process writes it.

    above: tags of a new one, which name the run that it is listed under.
    The lease is this process's then, to be `kept`.
    """
    study = lease.study
    identity = {"sweep": study.study_name, "sweep_id": study.user_attrs[keys.STUDY_ID], "sweep_role": "parent"}
    tags = identity | ({"source": command} if command else {})
    with lease.storage.lock():
        attempt = lease.take()
        if attempt is None:
            return None
        run_id = study.user_attrs.get(keys.PARENT_RUN)
        if run_id is None:
            # A process that was killed before it stored the id may have made it.
            found = open_store(tracking).find(identity)
            run_id = found[0] if found else None
            tracker = open_tracker(
                tracking, run_name=study.study_name, tags={**(above or {}), **tags}, run_id=run_id, attempt=attempt
            )
            study.set_user_attr(keys.PARENT_RUN, tracker.run_id)
            return tracker
    try:
        return open_tracker(tracking, run_name=study.study_name, tags=tags, run_id=run_id, attempt=attempt)
    except ResumeError:
        lease.release()
        return None


def record_study(tracker: MlflowTracker, config: StudyConfig, *, file: Path | None, command: str) -> None:
    """Records the study as it was started. file: the study file, or None if it isn't the one of the start."""
    tracker.log_params(
        {
            "metrics": ", ".join(f"{metric} ({direction})" for metric, direction in config.metrics.items()),
            "trials": config.trials,
            "sampler": config.sampler.name,
            "sampler_seed": config.sampler.seed,
            "pruner": config.pruner.name,
            **({"constraints": ", ".join(config.constraints)} if config.constraints else {}),
            **({"repeat": as_text(config.repeat)} if config.repeat else {}),
            "space": ", ".join(parameter.key for parameter in config.space),
            "overrides": mask(" ".join(config.overrides)),
        }
    )
    if file is not None:
        tracker.log_text(file.read_text(encoding="utf-8"), "study.yaml")
    tracker.log_text(f"{command}\n", COMMAND_FILE)
    record_environment(tracker)


def record_progress(tracker: MlflowTracker, config: StudyConfig, trials: Sequence[FrozenTrial]) -> None:
    """Records the best value so far, over the number of finished trials."""
    feasible = [trial for trial in trials if keys.is_feasible(trial)]
    if len(config.metrics) > 1 or not feasible:
        return
    finished = sum(trial.state in keys.COUNTED for trial in trials)
    ((metric, direction),) = config.metrics.items()
    best = (max if direction == "maximize" else min)(trial.values[0] for trial in feasible)
    tracker.log_metrics({f"best_{metric}": best}, epoch=finished)


def record_outcome(tracker: MlflowTracker, study: optuna.Study, config: StudyConfig) -> list[str]:
    """Records best trials, importance, tables and plots; returns a line for each plot that couldn't be drawn."""
    summary = summarize(study, config)
    tracker.log_text(trials_csv(study.get_trials(deepcopy=False), config), "trials.csv")
    tracker.set_tags({"description": summary_markdown(summary, config)})
    failed = write_plots(study, summary, lambda name, save: tracker.log_made(f"{PLOTS_FOLDER}/{name}", save))
    tracker.log_text(sweep_html(study, summary, made=datetime.now()), f"{PLOTS_FOLDER}/{PAGE}")
    return failed
