"""The trial queue: reclaims trials of dead workers, asks the sampler, reports results.

All state is in the study's storage, so that any number of workers, started by any means, share one queue, and a worker
that dies loses nothing.
"""

import contextlib
import copy
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from optuna.exceptions import UpdateFinishedTrialError
from optuna.samplers import RandomSampler
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from brainseg.errors import SweepError
from brainseg.sweep.engine import keys
from brainseg.sweep.engine.broken_host import (
    RAISED_ALLOWED,
    has_trained,
    is_broken,
    raised_here,
    trains_elsewhere,
    with_raise_here,
    without_raises_here,
)
from brainseg.sweep.engine.deadline import seconds_left
from brainseg.sweep.engine.forecast import whole_s
from brainseg.sweep.engine.foreign import refusal
from brainseg.sweep.engine.leases import HEARTBEAT_S, Lease, LeaseChecker, ProcessLock, host_name, this_host
from brainseg.sweep.engine.queue_study import QueueStudy
from brainseg.sweep.engine.storage import StudyStorage
from brainseg.sweep.engine.trial_row import trial_row
from brainseg.sweep.study.parameter import Value
from brainseg.sweep.study.pruners import build_pruner
from brainseg.sweep.study.samplers import build_sampler, sampler_to_tell
from brainseg.sweep.study.space import suggest
from brainseg.sweep.study.study_file import StudyConfig

DEATHS_ALLOWED = 3  # without a new epoch between them
IDLE_S = 0.5  # at least, between two claims, while trials are running that may come back
IDLE_SHARE = 20  # times as long as a claim takes
UNCONSTRAINED: Mapping[str, float] = {}


def idle_s(claim_s: float) -> float:
    """How long to wait for a trial before the next claim, after one that has found none and took so long.

    The longer others wait for the turn, the longer: many workers without a trial leave it to those that have one.
    """
    return min(max(IDLE_S, IDLE_SHARE * claim_s), HEARTBEAT_S)


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A trial that this worker holds."""

    trial: Trial
    params: Mapping[str, Value]  # the active ones, in the order of the space
    attributes: Mapping[str, Any]  # user attributes when it was claimed
    attempt: int  # how often it has been claimed, this time included
    is_new: bool  # never held by a worker before
    is_condemned: bool  # its workers have died too often: to be closed as failed


@dataclass(frozen=True, kw_only=True)
class NoTrial:
    """Why `claim` found no trial."""

    is_over: bool  # False: trials are running, and one may come back
    reason: str


class TrialQueue:
    """The queue as one worker sees it."""

    def __init__(
        self, storage: StudyStorage, config: StudyConfig, *, epochs: int, lock: ProcessLock, supervisor: str | None
    ) -> None:
        """epochs: of a trial. lock: held by this process. supervisor: id of its supervisor's lock, if any."""
        self.storage = storage
        self._config = config
        self._lock = lock
        self._supervisor = supervisor
        self._checker = LeaseChecker(storage.folder, is_for_one_host=not storage.is_shared_between_hosts)
        self._not_given_back: set[int] = set()  # numbers of trials
        self.study = QueueStudy(
            study_name=config.name,
            storage=storage.optuna,
            sampler=RandomSampler(seed=0),
            pruner=build_pruner(config, epochs=epochs),
        )

    def claim(self) -> Claim | NoTrial:
        """Claims the next trial: one that lost its worker, or a new one until the total is reached."""
        with self.storage.lock():
            found = self._next()
        if isinstance(found, Claim):
            self._not_given_back.discard(found.trial.number)  # the turn was held to its end
        return found

    def _next(self) -> Claim | NoTrial:
        if self.is_stopped:
            return NoTrial(is_over=True, reason="the study was stopped by `sweep stop`")
        now = self.storage.now()
        if seconds_left(self.study, now) <= 0:
            return NoTrial(is_over=True, reason="the time limit is reached")
        trials = self.study.read_trials()
        settings = keys.settings_of(self.study)
        running = [trial for trial in trials if trial.state == TrialState.RUNNING]
        free = self._reclaim(running, now)
        states = [trial.state for trial in trials]
        finished, failed = sum(state in keys.COUNTED for state in states), states.count(TrialState.FAIL)
        if failed > settings.failures:
            return NoTrial(is_over=True, reason=f"{failed} trials failed, and {settings.failures} are allowed")
        if free and trains_elsewhere(running):
            free = [trial for trial in free if not raised_here(trial)]  # another host may do better
        in_time = [trial for trial in free if self._fits(trials, now, trial)]
        if in_time:
            return self._hold(self._trial_of(in_time[0]), now)
        silent = [trial.number for trial in running if self._is_silent(trial)]
        if silent:  # whether they are dead shows in a moment: else this worker would look again after its next trial
            return NoTrial(is_over=False, reason=f"the worker of trial {silent[0]} is silent")
        is_more = finished + len(running) < settings.trials
        if free or (is_more and not self._fits(trials, now)):
            return NoTrial(is_over=True, reason="no further trial would end before the time limit")
        if is_more:
            waiting = next(filter(self._pop, (trial for trial in trials if trial.state == TrialState.WAITING)), None)
            return self._hold_new(now) if waiting is None else self._hold(self._trial_of(waiting), now)
        if running:
            return NoTrial(is_over=False, reason=f"{len(running)} trials are still running")
        return NoTrial(is_over=True, reason=f"{finished} of {settings.trials} trials are finished")

    def _fits(self, trials: Sequence[FrozenTrial], now: float | None, trial: FrozenTrial | None = None) -> bool:
        """Whether a trial (a new one, by default) would end before the time limit, trained to its end from here."""
        left_s = seconds_left(self.study, now)
        whole = None if left_s == float("inf") else whole_s([trial_row(each) for each in trials])
        if whole is None:
            return True
        row = None if trial is None else trial_row(trial)
        done = row.epoch / row.epochs if row is not None and row.epochs else 0.0
        return whole * (1 - done) <= left_s

    @property
    def seconds_left(self) -> float:
        """Until the study's time limit; infinite without one."""
        return seconds_left(self.study, self.storage.now())

    @property
    def is_stopped(self) -> bool:
        """Whether somebody has asked to stop the study."""
        return keys.is_stopped(self.study)

    def is_mine(self, claim: Claim) -> bool:
        """Whether this process still holds the trial: another one may have taken it for dead."""
        return self._mine(self._frozen(claim))

    def remember(self, claim: Claim, values: Mapping[str, Any]) -> None:
        """Stores user attributes of the trial."""
        with self.storage.together():
            for key, value in values.items():
                claim.trial.set_user_attr(key, value)

    def heartbeat(self, claim: Claim) -> None:
        """Stores the trial's heartbeat, by which processes on other hosts see that this worker lives."""
        with self.storage.together():
            now = self.storage.now()
            if now is not None and self.is_mine(claim):  # else it would speak for another worker
                self.storage.optuna.set_trial_user_attr(claim.trial._trial_id, keys.HEARTBEAT, now)

    @property
    def data_fingerprint(self) -> str:
        """The fingerprint of the data that every trial is trained on."""
        return str(self.study.user_attrs[keys.DEFINITION]["data_fingerprint"])

    def report(self, claim: Claim, epoch: int, value: float) -> None:
        """Stores the val_dice_image of an epoch, which pruners and the table read."""
        if len(self.study.directions) == 1:
            claim.trial.report(value, epoch)  # which its `should_prune` goes by
        else:  # refused by the trial's own method
            self.storage.optuna.set_trial_intermediate_value(claim.trial._trial_id, epoch, value)

    def stops(self, claim: Claim, runs: Sequence[Mapping[str, Any]]) -> bool:
        """Whether the pruner stops a trial of several runs after these, by what the best trial's runs came to."""
        metric = next(iter(self._config.metrics))

        def by_run(trial: FrozenTrial, runs: Sequence[Mapping[str, Any]]) -> FrozenTrial:
            seen = copy.copy(trial)
            seen.intermediate_values = {place: run["values"][metric] for place, run in enumerate(runs)}
            return seen

        try:
            best = self.study.best_trial
        except ValueError:  # none yet
            return False
        study: Any = SimpleNamespace(
            best_trial=by_run(best, best.user_attrs[keys.RUNS]), direction=self.study.direction
        )
        return self.study.pruner.prune(study, by_run(self._frozen(claim), runs))

    def run_of(self, claim: Claim) -> str | None:
        """The trial's MLflow run, if one has been opened."""
        run_id: str | None = self._frozen(claim).user_attrs.get(keys.RUN_ID)
        return run_id

    def is_begun_after(self, claim: Claim) -> bool:
        """Whether a later holder of the trial has finished an epoch."""
        return bool(self._frozen(claim).user_attrs.get(keys.BEGUN, 0) > claim.attempt)

    def reported(self, claim: Claim) -> Mapping[int, float]:
        """Epoch -> value, for every epoch in the storage."""
        return self._frozen(claim).intermediate_values

    def give_back(self, claim: Claim) -> None:
        """Releases the trial, which goes on with the worker that claims it next.

        Where the storage is away, this raises, and the trial is free for this worker's own next claim.
        """
        self._not_given_back.add(claim.trial.number)
        with self.storage.lock():
            if self._mine(self._frozen(claim)):
                claim.trial.set_user_attr(keys.LEASE, None)
        self._not_given_back.remove(claim.trial.number)

    def tell(
        self,
        claim: Claim,
        state: TrialState,
        values: Sequence[float] | None = None,
        *,
        excesses: Mapping[str, float] = UNCONSTRAINED,
    ) -> bool:
        """Stores the trial's final state; False if another process has taken it meanwhile.

        excesses: constraint -> how far the trial is beyond what it allows.
        """
        with self.storage.lock():
            if not self._mine(self._frozen(claim)):
                return False
            stored = claim.trial.constraints  # some, where a worker was killed in the middle of this
            for constraint, excess in excesses.items():
                if constraint not in stored:
                    claim.trial.set_constraint(constraint, excess)
            self._end(claim, state, values)
            return True

    def fail(self, claim: Claim, reason: str, *, may_retry: bool) -> bool:
        """Records a failure: the trial is tried again as often as the study allows, then FAILED. Whether that is final.

        Nothing happens if the trial has ended already, or if another process has taken it. Raises SweepError where it
        is this host's fault (`is_broken`): the trial is free, and no trial counts what it raised here.
        """
        with self.storage.lock():
            trial = self._frozen(claim)
            if trial.state.is_finished() or not self._mine(trial):
                return trial.state.is_finished()
            attempts = trial.user_attrs.get(keys.ATTEMPTS, 0) + 1
            self.remember(claim, {keys.FAILURE: reason, keys.ATTEMPTS: attempts})
            is_hosts_fault = may_retry and self._is_hosts_fault(trial)
            is_final = not is_hosts_fault and (not may_retry or attempts > keys.settings_of(self.study).retries)
            if is_final:
                self._end(claim, TrialState.FAIL)
            else:
                claim.trial.set_user_attr(keys.LEASE, None)
        if is_hosts_fault:
            raise SweepError(
                f"{RAISED_ALLOWED} trials raised on host {host_name(this_host())} before their first epoch, while "
                f"other hosts train: {reason}; repair it, or keep workers off it; no trial counts this"
            )
        return is_final

    def _is_hosts_fault(self, trial: FrozenTrial) -> bool:
        """Whether this host is broken, now that the trial has raised; if so, no trial counts what it raised here."""
        lease = keys.lease_of(trial)
        if not self.storage.is_shared_between_hosts or lease is None or has_trained(trial, lease):
            return False
        store = self.storage.optuna
        store.set_trial_user_attr(trial._trial_id, keys.RAISED, with_raise_here(trial))
        trials = self.study.read_trials()
        if not is_broken(trials):
            return False
        for each in trials:
            if raised_here(each) and not each.state.is_finished():
                for key, value in without_raises_here(each).items():
                    store.set_trial_user_attr(each._trial_id, key, value)
        return True

    def _end(self, claim: Claim, state: TrialState, values: Sequence[float] | None = None) -> None:
        self.study.sampler = sampler_to_tell()
        self.study.tell(claim.trial, values, state, skip_if_finished=True)

    def _reclaim(self, running: Sequence[FrozenTrial], now: float | None) -> list[FrozenTrial]:
        """The running trials that nobody trains, the longest waiting first."""
        free = []
        for trial in running:
            lease = keys.lease_of(trial)
            if lease is None or (lease.worker == self._lock.id and trial.number in self._not_given_back):
                free.append(trial)
            elif self._checker.is_dead(lease, heartbeat=trial.user_attrs.get(keys.HEARTBEAT), now=now):
                self._record_death(trial, lease)
                free.append(trial)
        return sorted(free, key=lambda trial: trial.number)

    def _is_silent(self, trial: FrozenTrial) -> bool:
        lease = keys.lease_of(trial)
        return lease is not None and self._checker.is_silent(lease)

    def _record_death(self, trial: FrozenTrial, lease: Lease) -> None:
        """Frees the trial; counts its worker's death where that may be the trial's fault, for memory say.

        A worker that is lost together with its host, or ended because the storage was away, says nothing about it.
        """
        if self._checker.was_killed(lease):
            deaths = [*trial.user_attrs.get(keys.DEATHS, ()), len(trial.intermediate_values)]
            self.storage.optuna.set_trial_user_attr(trial._trial_id, keys.DEATHS, deaths)
        self.storage.optuna.set_trial_user_attr(trial._trial_id, keys.LEASE, None)

    def _pop(self, trial: FrozenTrial) -> bool:
        """Takes a waiting trial, or ends it with the reason if its values aren't in the space."""
        store, trial_id = self.storage.optuna, trial._trial_id
        reason = refusal(trial, self._config.space)
        mark, value = (keys.FAILURE, reason) if reason else (keys.CLAIMS, 0)
        with contextlib.suppress(UpdateFinishedTrialError):  # ended by another program, which doesn't take turns
            store.set_trial_user_attr(trial_id, mark, value)
            if not store.set_trial_state_values(trial_id, TrialState.RUNNING):
                store.set_trial_user_attr(trial_id, mark, None)  # the other program has popped it
            elif not reason:
                return True
            else:
                store.set_trial_state_values(trial_id, TrialState.FAIL)
        return False

    def _trial_of(self, frozen: FrozenTrial) -> Trial:
        # Killed before all its values were drawn, it needs the sampler again; else nothing is drawn. The seed follows
        # from the trial's number: a study that is loaded again would repeat its first draws with one seed.
        is_complete = keys.LINE in frozen.user_attrs
        self.study.sampler = RandomSampler(seed=0) if is_complete else build_sampler(self._config, number=frozen.number)
        return Trial(self.study, frozen._trial_id)

    def _hold_new(self, now: float | None) -> Claim:
        """A trial of this worker's own: one of Optuna's `ask` would be anybody's at first."""
        new = create_trial(state=TrialState.RUNNING, user_attrs=_mark(attempt=1, now=now))
        trial_id = self.storage.optuna.create_new_trial(self.study._study_id, template_trial=new)
        number = self.storage.optuna.get_trial_number_from_id(trial_id)
        self.study.sampler = build_sampler(self._config, number=number)
        trial = Trial(self.study, trial_id)
        params = suggest(trial, self._config.space)
        self._take(trial, reported=0)
        return Claim(trial=trial, params=params, attributes={}, attempt=1, is_new=True, is_condemned=False)

    def _hold(self, trial: Trial, now: float | None) -> Claim:
        params = suggest(trial, self._config.space)
        frozen = self.storage.optuna.get_trial(trial._trial_id)
        attributes, reported = dict(frozen.user_attrs), len(frozen.intermediate_values)
        attempt = attributes.get(keys.CLAIMS, 0) + 1
        for key, value in _mark(attempt=attempt, now=now).items():
            trial.set_user_attr(key, value)
        self._take(trial, reported=reported)
        deaths = attributes.get(keys.DEATHS, [])
        return Claim(
            trial=trial,
            params=params,
            attributes=attributes,
            attempt=attempt,
            is_new=keys.LEASE not in attributes,
            is_condemned=deaths.count(reported) >= DEATHS_ALLOWED,
        )

    def _take(self, trial: Trial, *, reported: int) -> None:
        """Makes the trial this worker's. reported: how many epochs it has."""
        lease = Lease.new(self._lock, supervisor=self._supervisor, epochs_at_claim=reported)
        self._not_given_back.add(trial.number)
        trial.set_user_attr(keys.LEASE, dataclasses.asdict(lease))

    def _frozen(self, claim: Claim) -> FrozenTrial:
        return self.storage.optuna.get_trial(claim.trial._trial_id)

    def _mine(self, trial: FrozenTrial) -> bool:
        lease = keys.lease_of(trial)
        return lease is not None and lease.worker == self._lock.id


def _mark(*, attempt: int, now: float | None) -> dict[str, Any]:
    """What a claim writes before the lease: the heartbeat in a trial is that of the worker before this one."""
    return {keys.CLAIMS: attempt} | ({} if now is None else {keys.HEARTBEAT: now})
