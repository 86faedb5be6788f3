"""Waits for a store that is away, for a while."""

import time
from collections.abc import Callable
from typing import TypeVar

from brainseg.errors import AwayError, RunBusyError
from brainseg.tracking.mlflow.connection import UnreachableError

FIRST_PAUSE_S = 1.0  # doubled each time
LONGEST_PAUSE_S = 60.0
PATIENCE_S = 600.0  # from the first failure on

# What may be over in a moment: a server that is away, or a process that still has a run which this one has taken over.
PASSING = (UnreachableError, RunBusyError)

Result = TypeVar("Result")


class Patience:
    """Sleeps before each further attempt, for longer and longer."""

    def __init__(
        self,
        say: Callable[[str], None],
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """say: called with one line when the waiting begins."""
        self._say = say
        self._sleep = sleep
        self._clock = clock
        self._since: float | None = None
        self._pause_s = FIRST_PAUSE_S

    def wait(self, error: Exception) -> None:
        """Sleeps after a failure. Raises AwayError where the first of them was PATIENCE_S ago."""
        if self._since is None:
            self._since = self._clock()
            self._say(f"{str(error).partition(';')[0]}; waits for it")
        left_s = self._since + PATIENCE_S - self._clock()
        if left_s <= 0:
            raise AwayError(f"{str(error).partition(';')[0]}, for {PATIENCE_S / 60:.0f} minutes; start it again later")
        self._sleep(min(self._pause_s, left_s))
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)

    def worked(self) -> None:
        """Forgets the failures."""
        self._since, self._pause_s = None, FIRST_PAUSE_S


def patiently(action: Callable[[], Result], say: Callable[[str], None]) -> Result:
    """What the action gives; it is tried again as long as it raises what may be over in a moment. Raises AwayError."""
    patience = Patience(say)
    while True:
        try:
            return action()
        except PASSING as error:
            patience.wait(error)
