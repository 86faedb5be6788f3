"""Keeps passwords out of command lines, which every user of a machine can read."""

import os
import sys
from collections.abc import Sequence

from brainseg.sweep.storage import ENVIRONMENT_KEY as STORAGE_KEY
from brainseg.tracking.home import ENVIRONMENT_KEY as TRACKING_KEY
from brainseg.tracking.home import mask

TRACKING_URI = "tracking.uri="


def hide_secrets(arguments: Sequence[str]) -> None:
    """Starts this process again where a URL in its arguments holds a password.

    The URL is then in the environment, which only its owner can read, and in the arguments with *** for the password.
    The process keeps its id.
    """
    environment = dict(os.environ)
    shown: list[str] = []
    before = ""
    for item in arguments:
        masked = mask(item)
        if masked != item and item.startswith(TRACKING_URI):
            environment[TRACKING_KEY] = item.removeprefix(TRACKING_URI)
        elif masked != item:
            environment[STORAGE_KEY] = item.removeprefix("--storage=")
            masked = masked if before == "--storage" or item.startswith("--storage=") else item
        shown.append(masked)
        before = item
    if shown != list(arguments):
        sys.stdout.flush()
        os.execve(sys.executable, [sys.executable, "-m", "brainseg.sweep", *shown], environment)  # noqa: S606  # no shell


def revealed(argument: str | None, environment_key: str) -> str | None:
    """The URL that the user gave: of the environment where the argument shows it with its password masked."""
    given = os.environ.get(environment_key)
    return given if argument is not None and given is not None and mask(given) == argument else argument
