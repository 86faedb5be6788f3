"""SIGINT, SIGTERM and SIGHUP as exceptions, at a moment when a checkpoint can be written."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from brainseg.errors import Interrupted

HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # the last one comes when a terminal is closed
RESEND_S = 0.1  # later Python has left the place where the exception was dropped


class StopRequest:
    """Whether a signal has asked the run to stop.

    Inside `deferred` the first signal only sets the request, for the caller to check between two steps;
    a second one, and any signal outside, raises `Interrupted` at once. A SIGTERM that waits is not urgent for a second
    one: SLURM sends two within milliseconds, one of its own and one by srun.
    """

    def __init__(self) -> None:
        self.is_urgent = False  # whether a second signal interrupted a step, which may be half done
        self.signal: int | None = None  # the first that was deferred
        self._deferring = False

    def check(self) -> None:
        """Raises Interrupted if a signal has come."""
        if self.signal is not None:
            raise Interrupted(self.signal)

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Inside, the first signal waits for `check`."""
        self.defer()
        try:
            yield
        finally:
            self._deferring = False

    def defer(self) -> None:
        """From here on, the first signal waits for `check`."""
        self._deferring = True

    def handle(self, number: int, frame: FrameType | None) -> None:
        """The signal handler."""
        if self.signal == number == signal.SIGTERM:
            return
        if self._deferring:
            if self.signal is None:
                self.signal = number
                return
            self.is_urgent = True
        raise Interrupted(number)


@contextlib.contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Raises `Interrupted` on the signals of `HANDLED` inside the block; outside the main thread, does nothing."""
    stop = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    with handled_by(stop.handle), _sent_again():
        yield stop


@contextlib.contextmanager
def _sent_again() -> Iterator[None]:
    """Inside, a signal that comes while Python frees an object, where exceptions are dropped, is sent once more."""
    before = sys.unraisablehook

    def hook(unraisable: "sys.UnraisableHookArgs") -> None:
        if isinstance(unraisable.exc_value, Interrupted):
            threading.Timer(RESEND_S, os.kill, (os.getpid(), unraisable.exc_value.signal)).start()
        else:
            before(unraisable)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before


@contextlib.contextmanager
def handled_by(handle: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """The signals of `HANDLED` call `handle` inside the block, and what they called before afterwards.

    A SIGHUP that is ignored, as under nohup, stays so.
    """
    is_under_nohup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    numbers = [number for number in HANDLED if number != signal.SIGHUP or not is_under_nohup]
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
