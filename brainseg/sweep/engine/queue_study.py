"""The study as a worker's queue reads it: its trials once a claim, however often samplers and pruners ask for them."""

import math
import time
from collections.abc import Container

from optuna.trial import FrozenTrial, TrialState

from brainseg.sweep.engine.foreign import OwnStudy

READ_AFTER_S = 10.0  # since the last time: with 64 running trials, to read them is most of what an epoch costs


class QueueStudy(OwnStudy):
    """A study that shows samplers its trials as the last claim has read them, and pruners as of READ_AFTER_S ago."""

    _read_at = -math.inf

    def read_trials(self) -> list[FrozenTrial]:
        """All trials as they are now. Optuna reads those alone that weren't finished the last time."""
        self._read_at = -math.inf
        return self.get_trials(deepcopy=False)

    def _get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        if time.monotonic() - self._read_at > READ_AFTER_S:
            self._thread_local.cached_all_trials = self._storage.get_all_trials(self._study_id, deepcopy=False)
            self._read_at = time.monotonic()
        return super()._get_trials(deepcopy, states, use_cache=True)
