"""One piece of work for each of many files, on all cores, with the results in the order of the files.

Threads start at once, and share what they read; PIL and NumPy hold the interpreter's lock for most of a small image.
Processes don't, and take about a second to start.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

from brainseg.cores import usable_cores
from brainseg.errors import DataError

FEW = 1000  # items that threads are done with before processes have started
_TOGETHER = 64  # items that a process is sent at once, at most: what they give waits in memory

Item = TypeVar("Item")
Result = TypeVar("Result")


class Spread(Protocol):
    """`in_threads` or `in_processes`."""

    def __call__(self, work: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]: ...


def in_threads(work: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """What `work` gives for each item, in their order. The first exception ends it."""
    with ThreadPoolExecutor(usable_cores()) as pool:
        try:
            yield from pool.map(work, items)
        finally:
            pool.shutdown(cancel_futures=True)


def in_processes(work: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """As `in_threads`, for work, items and results that can be sent to another process; few items stay in threads.

    Raises DataError where a process was killed.
    """
    if len(items) < FEW or usable_cores() == 1:
        yield from in_threads(work, items)
        return
    context = multiprocessing.get_context("forkserver")  # no copy of a process with threads, as TensorFlow's
    context.set_forkserver_preload([getattr(work, "func", work).__module__])
    with ProcessPoolExecutor(usable_cores(), context, initializer=_start, initargs=(work,)) as pool:
        try:
            with _without_interrupts():
                results = pool.map(_do, items, chunksize=_TOGETHER)
            yield from results
        except BrokenProcessPool:
            raise DataError(
                "a process that reads files was killed; if memory ran out, name fewer cores: taskset -c 0,1 COMMAND"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Ctrl-C waits until this is left, and never reaches processes that are started inside: they inherit the block."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_work: Callable[[Any], Any]  # of this process


def _start(work: Callable[[Any], Any]) -> None:
    global _work
    _work = work
    # A pool's processes outlive one that is killed, and would wait for ever.
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _do(item: Any) -> Any:
    return _work(item)
