"""What comes in from outside, damaged in random ways, under a bound of memory and time."""

import contextlib
import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from brainseg.errors import BrainsegError

SHORT, LONG = 25, 2000  # cases a door: in `make test`, in `make slow`
MEMORY = 2 * 2**30  # bytes that a case may add to the process
CPU_S = 20.0  # of a case

Edit = tuple[str, int, bytes]
# What makes parsers go wrong more often than chance does.
NASTY = (
    "\x00",
    "\u2028",
    "\x85",
    "\x0b",
    "\x1b[2J",
    "{",
    "[",
    "&a *a",
    "!!python/object:os.system",
    "1e999",
    "-1",
    "NaN",
    "null",
    "../",
    "'",
    '"',
    "\\",
    "${x}",
    "é",
)


def damaged(content: bytes) -> st.SearchStrategy[bytes]:
    """The content with up to six bytes or pieces changed, added, doubled or cut off."""
    piece = st.one_of(st.binary(min_size=1, max_size=16), st.sampled_from(NASTY).map(lambda text: text.encode()))
    edit = st.tuples(st.sampled_from(EDITS), st.integers(0, max(len(content) - 1, 0)), piece)
    return st.lists(edit, min_size=1, max_size=6).map(lambda edits: _edited(content, edits))


EDITS = ("replace", "insert", "delete", "double", "cut")


def _edited(content: bytes, edits: list[Edit]) -> bytes:
    for kind, place, piece in edits:
        before, after = content[:place], content[place:]
        content = {
            "replace": before + piece + after[len(piece) :],
            "insert": before + piece + after,
            "delete": before + after[len(piece) :],
            "double": before + after[:64] + after,
            "cut": before,
        }[kind]
    return content


def try_door(cases: st.SearchStrategy[Any], check: Callable[[Any], None], *, examples: int) -> None:
    """Calls `check` with as many cases, the same ones each time; each under the bounds."""

    @settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(cases)
    def check_one(case: Any) -> None:
        with bounded():
            check(case)

    check_one()


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """Raises MemoryError or AssertionError where the block takes more than `MEMORY` or `CPU_S`."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_address_space() + MEMORY, before[1]))

    def too_long(*_: object) -> None:
        raise AssertionError(f"a case took more than {CPU_S} s of a core")

    handler = signal.signal(signal.SIGPROF, too_long)
    signal.setitimer(signal.ITIMER_PROF, CPU_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, handler)
        resource.setrlimit(resource.RLIMIT_AS, before)


def _address_space() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


def read_or_refused(read: Callable[[], Any], *, raises: tuple[type[Exception], ...] = (BrainsegError,)) -> Any:
    """What is read; None where it is refused as the reader's docstring says, by brainseg's errors in one line."""
    try:
        return read()
    except raises as error:
        if isinstance(error, BrainsegError):
            text = str(error)
            assert text
            assert text.splitlines() == [text], f"more than one line: {text!r}"
        return None
