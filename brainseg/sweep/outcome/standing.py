"""How far a study is, and its outcome on its parent run."""

import optuna
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console

from brainseg.config import TrackingConfig
from brainseg.sweep.engine import keys
from brainseg.sweep.outcome.parent import ParentLease, open_parent, record_outcome
from brainseg.sweep.study.study_file import StudyConfig
from brainseg.tracking.mlflow.tracker import MlflowTracker

UNFINISHED = "unfinished"  # the tag `state` of the parent of a study that can go on


def is_finished(study: optuna.Study) -> bool:
    """Whether as many trials are complete or pruned as were asked for."""
    return count_finished(study) >= keys.settings_of(study).trials


def is_over(study: optuna.Study) -> bool:
    """Whether no trial is left for a worker."""
    return is_finished(study) and not study.get_trials(deepcopy=False, states=[TrialState.RUNNING])


def is_recorded(study: optuna.Study) -> bool:
    """Whether the parent run has the outcome of all trials that have ended."""
    return study.user_attrs.get(keys.OUTCOME) == len(ended_trials(study))


def count_finished(study: optuna.Study) -> int:
    """How many trials count towards the total."""
    return len(study.get_trials(deepcopy=False, states=keys.COUNTED))


def ended_trials(study: optuna.Study) -> list[FrozenTrial]:
    """Complete, pruned and failed ones."""
    return [trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()]


def record_unless_done(
    study: optuna.Study, config: StudyConfig, lease: ParentLease, tracking: TrackingConfig, console: Console
) -> None:
    """Updates the parent run, unless it is up to date or another process writes it."""
    parent = None if is_recorded(study) else open_parent(lease, tracking, command=None)
    if parent is not None:
        with lease.kept(), parent:
            recorded = record_end(parent, study, config, console)
        study.set_user_attr(keys.OUTCOME, recorded)


def record_end(parent: MlflowTracker, study: optuna.Study, config: StudyConfig, console: Console) -> int:
    """Records tables and plots on the parent run; returns of how many ended trials."""
    ended = len(ended_trials(study))
    for line in record_outcome(parent, study, config):
        console.print(line)
    if not is_finished(study):
        parent.set_tags({"state": UNFINISHED})
    return ended
