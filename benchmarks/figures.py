"""What all benchmarks share: measuring memory and load, and printing figures in Markdown tables."""

import os
import statistics
from collections.abc import Sequence
from pathlib import Path


def spread(values: Sequence[float], *, unit: str = "", digits: int = 1) -> str:
    """`12.3 ms (10.1-15.0)`: the median, the smallest and the largest; `12.3 ms` of a single value."""
    median = f"{statistics.median(values):.{digits}f} {unit}".rstrip()
    return f"{median} ({min(values):.{digits}f}-{max(values):.{digits}f})" if len(values) > 1 else median


def milliseconds(seconds: Sequence[float]) -> str:
    """The same of durations in seconds."""
    return spread([1000 * value for value in seconds], unit="ms")


def ratios(speeds: Sequence[float], base: Sequence[float]) -> list[float]:
    """The ratios of two contenders' speeds, round by round, so that a drift of the machine's speed cancels out."""
    return [own / other for own, other in zip(speeds, base, strict=True)]


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A Markdown table; the first cell of the header may be empty."""
    for cells in (header, ["---"] * len(header), *rows):
        print(f"| {' | '.join(cells)} |")
    print(flush=True)


def verdict(value: float, *, bar: float, unit: str = "", digits: int = 1, at_least: bool = False) -> str:
    """`12.3 ms, to be under 40 ms: passed`, or `0.91, to be at least 0.85: passed`."""
    passed = value >= bar if at_least else value < bar
    rule = f"{'at least' if at_least else 'under'} {bar:g} {unit}".rstrip()
    return f"{f'{value:.{digits}f} {unit}'.rstrip()}, to be {rule}: {'passed' if passed else 'MISSED'}"


def load() -> str:
    """How busy the machine is: figures from a busy one are too high."""
    return f"{os.cpu_count()} cores, load average {', '.join(f'{value:.1f}' for value in os.getloadavg())}"


def peak_mib(pid: int | None = None) -> float:
    """The most resident memory of a process so far, by default of this one.

    Not getrusage's ru_maxrss, which in a child can be its parent's. Raises RuntimeError if it has ended.
    """
    return _memory_mib("self" if pid is None else str(pid), "VmHWM")


def resident_mib(pid: int) -> float:
    """The resident memory of a process now. Raises RuntimeError if it has ended."""
    return _memory_mib(str(pid), "VmRSS")


def _memory_mib(process: str, field: str) -> float:
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return float(line.split()[1]) / 1024
    raise RuntimeError(f"/proc/{process}/status has no {field}: the process has ended, or this isn't Linux")
