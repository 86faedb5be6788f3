"""What a study's storage keeps: the names of the user attributes of trials and of studies, and what some of them hold.

Trials are plain Optuna trials; what belongs to their training is kept in their user attributes.
"""

from dataclasses import dataclass

import optuna
from optuna.trial import FrozenTrial, TrialState

from brainseg.sweep.engine.leases import Lease

# User attributes of a trial.
LEASE = "lease"  # who trains it, or None
HEARTBEAT = "beat"  # when its worker was last heard of, by the storage's clock, for processes on other hosts
CLAIMS = "claims"  # how often a worker has taken it: the attempt at which the last of them writes its run
BEGUN = "begun"  # the last attempt that has finished an epoch, so that nobody needs the checkpoints of those before
RUN_ID = "run_id"  # its MLflow run; of several, the latest
RUNS = "runs"  # of a trial of several runs, those that have finished: {"run_id":, "values": of each metric, "seconds":}
SPREAD = "spread"  # metric -> standard deviation over the trial's runs
LINE = "line"  # what can be pasted behind `python -m brainseg.train`
EPOCHS = "epochs"  # how many it was asked for
THREADS = "threads"  # that its first worker computed on
DEATHS = "deaths"  # how many epochs were finished at each death of its worker
ATTEMPTS = "attempts"  # how often it has failed
RAISED = "raised"  # host -> when the trial raised there before it had finished an epoch there
FAILURE = "failure"  # why, the last time
PRUNED = "pruned"  # {"epoch": ..., "reason": ...}: decided, and to be repeated after a kill
SECONDS = "seconds"  # of training, in the end
MEMORY = "memory_mib"  # the most that its worker has held by then
WEIGHTS = "weights"  # how many its model has
UNWRITTEN = "unwritten"  # parts of its record that could be written nowhere: its checkpoint is kept

# User attributes of a study.
STUDY_ID = "id"  # by which its runs are found in MLflow
DEFINITION = "definition"  # what it is; written last, when all else is in place
SETTINGS = "settings"  # what may change: StudySettings
PARENT_RUN = "parent_run_id"
PARENT_LEASE = "parent_lease"  # which supervisor writes that run, or None
PARENT_HEARTBEAT = "parent_beat"  # when it was last heard of, by the storage's clock
PARENT_CLAIMS = "parent_claims"  # how often a supervisor has taken it
OUTCOME = "outcome_recorded"  # how many finished trials the parent run's tables and plots know of
PLUGINS = "plugins"  # modules that its start had: for messages, and never imported because they stand here
TRACKING = "tracking"  # overrides of tracking.*, without passwords
SOFTWARE = "software"  # versions of brainseg and TensorFlow that its workers must have, and the commit of the start
PRECISION = "precision"  # what train.precision=auto was resolved to, by its first worker
LAUNCHER = "launcher"  # what starts its workers (keys of LauncherConfig), and how many the latest `run` asked for
DEADLINE = "deadline"  # when its time limit ends, by the storage's clock; None without one
STOP = "stop"  # who has asked to stop it, and when; None once `run` goes on with it
PLACES = "places"  # overrides that say where the data lies, of the latest start

COUNTED = (TrialState.COMPLETE, TrialState.PRUNED)  # towards the total


@dataclass(frozen=True, kw_only=True)
class StudySettings:
    """What may change from one start of a sweep to the next; every worker reads it before each trial."""

    trials: int  # total of those that are `COUNTED`
    failures: int  # failed trials allowed
    retries: int  # further attempts of a trial that raised


def lease_of(trial: FrozenTrial) -> Lease | None:
    """Who trains the trial, if anyone."""
    stored = trial.user_attrs.get(LEASE)
    return None if stored is None else Lease(**stored)


def is_feasible(trial: FrozenTrial) -> bool:
    """Whether the trial is complete and keeps every constraint of the study."""
    return trial.state == TrialState.COMPLETE and max(trial.constraints.values(), default=0.0) <= 0.0


def is_stopped(study: optuna.Study) -> bool:
    """Whether somebody has asked to stop the study."""
    return study.user_attrs.get(STOP) is not None


def settings_of(study: optuna.Study) -> StudySettings:
    """The study's settings as they are now."""
    return StudySettings(**study.user_attrs[SETTINGS])
