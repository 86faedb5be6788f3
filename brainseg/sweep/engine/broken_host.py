"""A host on which trials raise before their first epoch while other hosts train: its fault, not the trials'."""

import time
from collections.abc import Mapping, Sequence

from optuna.trial import FrozenTrial, TrialState

from brainseg.sweep.engine import keys
from brainseg.sweep.engine.leases import Lease, this_host

RAISED_ALLOWED = 2  # trials on one host, with none in between that finished an epoch there


def raised_here(trial: FrozenTrial) -> Sequence[float]:
    """When the trial raised on this host before it finished an epoch there, in seconds since 1970 by its clock."""
    times: Sequence[float] = trial.user_attrs.get(keys.RAISED, {}).get(this_host(), ())
    return times


def with_raise_here(trial: FrozenTrial) -> Mapping[str, Sequence[float]]:
    """RAISED of a trial that raises on this host now, before it has finished an epoch."""
    return {**trial.user_attrs.get(keys.RAISED, {}), this_host(): [*raised_here(trial), time.time()]}


def without_raises_here(trial: FrozenTrial) -> Mapping[str, object]:
    """RAISED and ATTEMPTS of a trial as if it had never raised on this host."""
    elsewhere = {host: times for host, times in trial.user_attrs[keys.RAISED].items() if host != this_host()}
    return {keys.RAISED: elsewhere, keys.ATTEMPTS: trial.user_attrs[keys.ATTEMPTS] - len(raised_here(trial))}


def has_trained(trial: FrozenTrial, lease: Lease) -> bool:
    """Whether the holder of the trial's lease has finished an epoch of it."""
    return len(trial.intermediate_values) > lease.epochs_at_claim


def trains_elsewhere(trials: Sequence[FrozenTrial]) -> bool:
    """Whether another host trains, and has come further than its trial's start."""
    leases = ((trial, keys.lease_of(trial)) for trial in trials if trial.state == TrialState.RUNNING)
    return any(lease is not None and lease.host != this_host() and has_trained(trial, lease) for trial, lease in leases)


def is_broken(trials: Sequence[FrozenTrial]) -> bool:
    """Whether RAISED_ALLOWED trials raised on this host, which has trained none since, while another host trains."""
    raised = [time for trial in trials for time in raised_here(trial)[:1]]
    if len(raised) < RAISED_ALLOWED or not trains_elsewhere(trials):
        return False
    leases = ((trial, keys.lease_of(trial)) for trial in trials)
    return not any(
        lease is not None and lease.host == this_host() and lease.claimed_at > min(raised) and has_trained(trial, lease)
        for trial, lease in leases
    )
