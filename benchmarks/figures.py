"""How figures are printed: median with the smallest and the largest, in Markdown tables."""

import os
import statistics
from collections.abc import Sequence


def spread(values: Sequence[float], *, unit: str = "", digits: int = 1) -> str:
    """`12.3 ms (10.1-15.0)`: the median, the smallest and the largest; `12.3 ms` of a single value."""
    median = f"{statistics.median(values):.{digits}f} {unit}".rstrip()
    return f"{median} ({min(values):.{digits}f}-{max(values):.{digits}f})" if len(values) > 1 else median


def milliseconds(seconds: Sequence[float]) -> str:
    """The same of durations in seconds."""
    return spread([1000 * value for value in seconds], unit="ms")


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A Markdown table; the first cell of the header may be empty."""
    for cells in (header, ["---"] * len(header), *rows):
        print(f"| {' | '.join(cells)} |")
    print(flush=True)


def verdict(value: float, *, bar: float, unit: str, digits: int = 1) -> str:
    """`12.3 ms of 40 ms: passed`."""
    return f"{value:.{digits}f} {unit}, to be under {bar:g} {unit}: {'passed' if value < bar else 'MISSED'}"


def verdict_at_least(value: float, *, bar: float, digits: int = 1) -> str:
    """`0.91, to be at least 0.85: passed`."""
    return f"{value:.{digits}f}, to be at least {bar:g}: {'passed' if value >= bar else 'MISSED'}"


def load() -> str:
    """How busy the machine is: figures from a busy one are too high."""
    return f"{os.cpu_count()} cores, load average {', '.join(f'{value:.1f}' for value in os.getloadavg())}"
