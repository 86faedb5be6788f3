"""Follows a running study in its storage, and shows what has changed."""

import time
from collections.abc import Callable, Mapping, Sequence

import optuna
from optuna.trial import FrozenTrial

from brainseg.sweep.engine.deadline import seconds_left
from brainseg.sweep.engine.foreign import left_out
from brainseg.sweep.engine.keys import lease_of
from brainseg.sweep.engine.live import LiveTable
from brainseg.sweep.engine.storage import StudyStorage
from brainseg.tracking.mlflow.connection import UnreachableError

# Called with all trials whenever one more of them is finished.
OnFinished = Callable[[Sequence[FrozenTrial]], None]
Progress = Mapping[int, tuple[bool, int]]  # trial -> whether it is finished, and how many epochs were reported


class View:
    """Polls the study, and shows what has changed."""

    def __init__(
        self, storage: StudyStorage, study: optuna.Study, table: LiveTable, on_finished: OnFinished, *, supervisor: str
    ) -> None:
        """supervisor: id of this process's lock, which its workers' leases name."""
        self._supervisor = supervisor
        self._storage = storage
        self._study = study
        self._table = table
        self._on_finished = on_finished
        self._before: Progress | None = None
        self._left_out: set[int] = set()  # trials that were named
        self._is_away = False  # whether the storage didn't answer the last time
        self.limit_s = float("inf")  # until the time limit, when the study was looked at the last time

    def look(self) -> list[int]:
        """Polls once; returns the ids of this process's workers whose trials have made progress since the last time."""
        try:
            with self._storage.reached():
                trials = self._study.get_trials(deepcopy=False)
                others = left_out(self._study)
                self.limit_s = seconds_left(self._study, self._storage.now())
        except UnreachableError as error:  # where it stays away, the workers can't live
            if not self._is_away:
                self._table.say(f"{str(error).partition(';')[0]}; the sweep waits for it")
            self._is_away = True
            return []
        self._is_away = False
        for number in sorted(others.keys() - self._left_out):
            self._table.say(f"trial {number} {others[number]}; it is left out")
        self._left_out |= others.keys()
        self._table.update(trials, time.time(), limit_s=self.limit_s)
        before, progress = self._before, _progress(trials)
        self._before = progress
        if before is None or _ended(progress) > _ended(before):
            self._on_finished(trials)
        advanced = [trial for trial in trials if (before or {}).get(trial.number) != progress[trial.number]]
        leases = [lease for lease in map(lease_of, advanced) if lease is not None]
        # Those of other supervisors are on other hosts, whose process ids mean nothing here.
        return [lease.pid for lease in leases if lease.supervisor == self._supervisor]


def _progress(trials: Sequence[FrozenTrial]) -> Progress:
    return {trial.number: (trial.state.is_finished(), len(trial.intermediate_values)) for trial in trials}


def _ended(progress: Progress) -> int:
    return sum(is_finished for is_finished, _ in progress.values())
