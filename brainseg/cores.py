"""How many processor cores there are to use."""

import os


def usable_cores() -> int:
    """The cores that this process may use, at least 1."""
    if hasattr(os, "sched_getaffinity"):  # Linux; it knows of taskset and cpusets
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
