"""Tables and progress on a terminal; plain lines, of which nothing is cut off, where there is none."""

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bar

# Shows what is being done, how much is done, and how much there is.
OnProgress = Callable[[str, int, int], None]
PROGRESS_S = 30.0  # between two lines of progress where there is no terminal


def table_console(*, plain_width: int) -> "Console":
    """A console for tables. plain_width: characters of a line where there is no terminal to take the width from."""
    from rich.console import Console

    console = Console(markup=False, highlight=False)
    # Without a terminal nothing may be cut off: it is read by programs, or later.
    return console if console.is_terminal else Console(markup=False, highlight=False, width=plain_width)


class Progress:
    """How much is done, on stderr: a bar on a terminal, a line now and then elsewhere."""

    def __init__(self, *, unit: str) -> None:
        """unit: what is counted, `slices` say."""
        self._unit = unit
        self._said = time.monotonic()
        self._bar: Bar | None = None

    def __enter__(self) -> Self:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        console = Console(stderr=True)
        if console.is_terminal:
            columns = (TextColumn("{task.description}", markup=False), BarColumn(bar_width=24), MofNCompleteColumn())
            self._bar = Bar(*columns, TimeRemainingColumn(), console=console, transient=True)
            self._bar.add_task("")
            self._bar.start()
        return self

    def __call__(self, what: str, done: int, total: int) -> None:
        """Shows that `done` of `total` are done. what: is being done, `predicting` say."""
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], description=what, completed=done, total=total)
        elif time.monotonic() - self._said > PROGRESS_S:
            self._said = time.monotonic()
            print(f"{what}: {done} of {total} {self._unit}", file=sys.stderr, flush=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
