"""Until when a study may train: kept with the study, so that every worker obeys it, on whichever host it runs."""

import time

import optuna

from brainseg.sweep.engine import keys
from brainseg.sweep.engine.leases import LeaseChecker
from brainseg.sweep.engine.storage import StudyStorage


def seconds_left(study: optuna.Study, now: float | None) -> float:
    """Seconds until the study's time limit; infinite without one.

    now: unix seconds by the storage's clock; None takes this host's.
    """
    deadline: float | None = study.user_attrs.get(keys.DEADLINE)
    return float("inf") if deadline is None else deadline - _clock(now)


def set_deadline(study: optuna.Study, storage: StudyStorage, *, limit_min: float | None, is_asked: bool) -> None:
    """Has the time limit begin now; None takes it away.

    is_asked: whether the user has named it with this start. If not, one that lasts is kept while workers train: this
    start joins them.
    """
    now = storage.now()
    if not is_asked and 0 < seconds_left(study, now) < float("inf") and _is_trained(study, storage, now):
        return
    study.set_user_attr(keys.DEADLINE, None if limit_min is None else _clock(now) + 60 * limit_min)


def _is_trained(study: optuna.Study, storage: StudyStorage, now: float | None) -> bool:
    """Whether a living worker holds a trial."""
    checker = LeaseChecker(storage.folder, is_for_one_host=not storage.is_shared_between_hosts)
    leases = [
        (lease, trial.user_attrs.get(keys.HEARTBEAT))
        for trial in study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.RUNNING])
        if (lease := keys.lease_of(trial)) is not None
    ]
    return any(not checker.is_dead(lease, heartbeat=heartbeat, now=now) for lease, heartbeat in leases)


def _clock(now: float | None) -> float:
    return time.time() if now is None else now
