"""Which trial is next: counts, takes back what dead workers held, asks; and tells what became of a trial.

All of it is kept in the study's storage, so that any number of workers, started by any means, share one queue, and
nothing is lost with any of them. A trial is a plain Optuna trial; what belongs to its training is kept in its user
attributes, named by the constants below.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.samplers import RandomSampler
from optuna.trial import FrozenTrial, Trial, TrialState

from brainseg.sweep.engine.alive import Coroner, Lease, SignOfLife
from brainseg.sweep.engine.storage import StudyStorage
from brainseg.sweep.study.samplers import build_pruner, build_sampler, sampler_to_tell
from brainseg.sweep.study.space import suggest
from brainseg.sweep.study.study_file import StudyConfig, Value

# User attributes of a trial.
LEASE = "lease"  # who trains it, or None
BEAT = "beat"  # a number that its worker counts up, for those on other hosts
RUN_ID = "run_id"  # its MLflow run
LINE = "line"  # what can be pasted behind `python -m brainseg.train`
EPOCHS = "epochs"  # how many it was asked for
THREADS = "threads"  # that its first worker computed on
DEATHS = "deaths"  # how many epochs were finished at each death of its worker
ATTEMPTS = "attempts"  # how often it has failed
FAILURE = "failure"  # why, the last time
PRUNED = "pruned"  # {"epoch": ..., "reason": ...}: decided, and to be repeated after a kill
SECONDS = "seconds"  # of training, in the end
UNWRITTEN = "unwritten"  # parts of its record that could be written nowhere: its checkpoint is kept

# User attributes of a study.
STUDY_ID = "id"  # by which its runs are found in MLflow
DEFINITION = "definition"  # what it is; written last, when all else is in place
SETTINGS = "settings"  # what may change: Settings
PARENT_RUN = "parent_run_id"
OUTCOME = "outcome_recorded"  # how many finished trials the parent run's tables and plots know of
TRACKING = "tracking"  # overrides of tracking.*, without passwords
PLACES = "places"  # overrides that say where the data lies, of the latest start

COUNTED = (TrialState.COMPLETE, TrialState.PRUNED)  # towards the total
DEATHS_ALLOWED = 3  # without a new epoch between them


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What may change from one start of a sweep to the next; every worker reads it before each trial."""

    trials: int  # total of those that are `COUNTED`
    failures: int  # failed trials allowed
    retries: int  # further attempts of a trial that raised


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A trial that this worker holds."""

    trial: Trial
    params: Mapping[str, Value]  # the active ones, in the order of the space
    attributes: Mapping[str, Any]  # user attributes when it was claimed
    is_new: bool  # never held by a worker before
    is_condemned: bool  # its workers have died too often: to be closed as failed


@dataclass(frozen=True, kw_only=True)
class Nothing:
    """Why there is no trial to train."""

    is_over: bool  # or else: some are running, and may come back
    reason: str


class TrialQueue:
    """One process's view of a study's trials."""

    def __init__(
        self, storage: StudyStorage, config: StudyConfig, *, epochs: int, sign: SignOfLife, supervisor: str | None
    ) -> None:
        """epochs: of a trial. sign: this process's. supervisor: id of the sign of who keeps it alive, if anyone."""
        self.storage = storage
        self._config = config
        self._sign = sign
        self._supervisor = supervisor
        self._coroner = Coroner(storage.folder)
        self._beat = 0
        self.study = optuna.load_study(
            study_name=config.name,
            storage=storage.optuna,
            sampler=RandomSampler(seed=0),
            pruner=build_pruner(config, epochs=epochs),
        )

    def claim(self) -> Claim | Nothing:
        """The next trial: one that lost its worker, else a new one as long as the total isn't reached."""
        with self.storage.lock():
            trials = self.study.get_trials(deepcopy=False)
            settings = settings_of(self.study)
            free = self._take_back([trial for trial in trials if trial.state == TrialState.RUNNING])
            states = [trial.state for trial in trials]
            finished = sum(state in COUNTED for state in states)
            running, failed = states.count(TrialState.RUNNING), states.count(TrialState.FAIL)
            if failed > settings.failures:
                return Nothing(is_over=True, reason=f"{failed} trials failed, and {settings.failures} are allowed")
            if free:
                return self._hold(self._trial_of(free[0]))
            if finished + running < settings.trials:
                return self._hold(self._ask(trials))
            if running:
                return Nothing(is_over=False, reason=f"{running} trials are still running")
            return Nothing(is_over=True, reason=f"{finished} of {settings.trials} trials are finished")

    def is_mine(self, claim: Claim) -> bool:
        """Whether this process still holds the trial: another one may have taken it for dead."""
        return self._mine(self._frozen(claim))

    def remember(self, claim: Claim, values: Mapping[str, Any]) -> None:
        """Keeps user attributes with the trial."""
        for key, value in values.items():
            claim.trial.set_user_attr(key, value)

    def beat(self, claim: Claim) -> None:
        """Says that this worker lives, to those who can't see its process."""
        if self.storage.is_shared_between_hosts:
            self._beat += 1
            self.storage.optuna.set_trial_user_attr(claim.trial._trial_id, BEAT, self._beat)

    @property
    def data_fingerprint(self) -> str:
        """Of the data that every trial is trained on."""
        return str(self.study.user_attrs[DEFINITION]["data_fingerprint"])

    def report(self, claim: Claim, epoch: int, value: float) -> None:
        """Keeps the val_dice_image of an epoch, which pruners and the table see."""
        if len(self.study.directions) == 1:
            claim.trial.report(value, epoch)  # which its `should_prune` goes by
        else:  # refused by the trial's own method
            self.storage.optuna.set_trial_intermediate_value(claim.trial._trial_id, epoch, value)

    def reported(self, claim: Claim) -> Mapping[int, float]:
        """Epoch -> value, of every epoch that the storage has."""
        return self._frozen(claim).intermediate_values

    def give_back(self, claim: Claim) -> None:
        """The trial goes on later, with whoever claims it next."""
        with self.storage.lock():
            if self._mine(self._frozen(claim)):
                claim.trial.set_user_attr(LEASE, None)

    def tell(self, claim: Claim, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """The trial's final state; False where another process has taken it meanwhile."""
        with self.storage.lock():
            if not self._mine(self._frozen(claim)):
                return False
            self._end(claim, state, values)
            return True

    def fail(self, claim: Claim, reason: str, *, may_retry: bool) -> bool:
        """The trial failed: it is tried again as often as the study allows, then FAILED. Whether that is final.

        Nothing happens where it has ended already, or another process has taken it.
        """
        with self.storage.lock():
            trial = self._frozen(claim)
            if trial.state.is_finished() or not self._mine(trial):
                return trial.state.is_finished()
            attempts = trial.user_attrs.get(ATTEMPTS, 0) + 1
            self.remember(claim, {FAILURE: reason, ATTEMPTS: attempts})
            if may_retry and attempts <= settings_of(self.study).retries:
                claim.trial.set_user_attr(LEASE, None)
                return False
            self._end(claim, TrialState.FAIL)
            return True

    def _end(self, claim: Claim, state: TrialState, values: Sequence[float] | None = None) -> None:
        self.study.sampler = sampler_to_tell()
        self.study.tell(claim.trial, values, state, skip_if_finished=True)

    def _take_back(self, running: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """The running trials that nobody trains, the longest waiting first."""
        free = []
        for trial in running:
            lease = lease_of(trial)
            if lease is None:
                free.append(trial)
            elif self._coroner.is_dead(lease, beat=trial.user_attrs.get(BEAT)):
                self._record_death(trial, lease)
                free.append(trial)
        return sorted(free, key=lambda trial: trial.number)

    def _record_death(self, trial: FrozenTrial, lease: Lease) -> None:
        # Where the supervisor is gone too, the machine was stopped: that says nothing about this trial.
        if not self._coroner.is_supervisor_dead(lease):
            deaths = [*trial.user_attrs.get(DEATHS, ()), len(trial.intermediate_values)]
            self.storage.optuna.set_trial_user_attr(trial._trial_id, DEATHS, deaths)
        self.storage.optuna.set_trial_user_attr(trial._trial_id, LEASE, None)

    def _ask(self, trials: Sequence[FrozenTrial]) -> Trial:
        waiting = [trial.number for trial in trials if trial.state == TrialState.WAITING]
        number = min(waiting) if waiting else len(trials)
        # By the trial's number: a study that is loaded again would repeat its first draws with one seed.
        self.study.sampler = build_sampler(self._config, number=number)
        return self.study.ask()

    def _trial_of(self, frozen: FrozenTrial) -> Trial:
        # Killed before all its values were drawn, it needs the sampler again; else nothing is drawn.
        is_complete = LINE in frozen.user_attrs
        self.study.sampler = RandomSampler(seed=0) if is_complete else build_sampler(self._config, number=frozen.number)
        return Trial(self.study, frozen._trial_id)

    def _hold(self, trial: Trial) -> Claim:
        params = suggest(trial, self._config.space)
        attributes = trial.user_attrs
        reported = len(self.study._storage.get_trial(trial._trial_id).intermediate_values)
        lease = Lease.new(self._sign, supervisor=self._supervisor, epochs_at_claim=reported)
        trial.set_user_attr(LEASE, dataclasses.asdict(lease))
        deaths = attributes.get(DEATHS, [])
        return Claim(
            trial=trial,
            params=params,
            attributes=attributes,
            is_new=LEASE not in attributes,
            is_condemned=deaths.count(reported) >= DEATHS_ALLOWED,
        )

    def _frozen(self, claim: Claim) -> FrozenTrial:
        return self.storage.optuna.get_trial(claim.trial._trial_id)

    def _mine(self, trial: FrozenTrial) -> bool:
        lease = lease_of(trial)
        return lease is not None and lease.worker == self._sign.id


def lease_of(trial: FrozenTrial) -> Lease | None:
    """Who trains the trial, if anyone."""
    stored = trial.user_attrs.get(LEASE)
    return None if stored is None else Lease(**stored)


def settings_of(study: optuna.Study) -> Settings:
    """What may change of a study."""
    return Settings(**study.user_attrs[SETTINGS])
