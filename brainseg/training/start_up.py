"""What a process does once before it trains."""

import contextlib
import os
import sys
from collections.abc import Iterator


def import_tensorflow() -> None:
    """Imports TensorFlow without the lines on its start-up, which say nothing that a user can act on.

    Some are written before its log level is read: the process's stderr is set aside meanwhile.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with stderr_set_aside():
        import tensorflow  # noqa: F401  # for its side effect


@contextlib.contextmanager
def stderr_set_aside() -> Iterator[None]:
    """Whatever libraries write to the process's stderr inside, past Python, is dropped."""
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
