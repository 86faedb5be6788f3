"""What the end of a worker means to whoever starts it again, and its last words."""

from pathlib import Path

FINAL = (0, 1, 2)  # nothing left to do; an error that would come again
RUNS_AGAIN = 143  # how a worker ends that was told to stop, with its trial given back
RESTARTS = 10  # of a worker that was killed, or waited for a store in vain, in one place
RESTART_PAUSE_S = 10


def last_line(path: Path) -> str:
    """The last line of a log that isn't empty."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "it has printed nothing")
