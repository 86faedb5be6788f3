"""Keeps passwords out of command lines, which every user of a machine can read."""

import json
import os
import sys
from collections.abc import Sequence

from brainseg.errors import ConfigError
from brainseg.tracking.home import mask

TRACKING_URI = "tracking.uri"  # the key that may hold a password
HIDDEN = ":***@"  # what `mask` leaves of a password
ENVIRONMENT_KEY = "BRAINSEG_ARGUMENTS"  # the arguments as they were given, as JSON


def hide_secrets(arguments: Sequence[str]) -> list[str]:
    """The arguments as they were given, in a process whose command line shows *** for every password.

    Where the command line still shows one, this process starts again, under the same id, and the arguments are handed
    on in the environment, which only its owner can read. Raises ConfigError for a URL that has *** for its password.
    """
    given: list[str] = json.loads(os.environ.get(ENVIRONMENT_KEY, "[]"))
    if [mask(item) for item in given] == list(arguments):
        return given
    shown = [mask(item) for item in arguments]
    if shown != list(arguments) and set(arguments) <= set(sys.orig_argv):
        sys.stdout.flush()
        environment = os.environ | {ENVIRONMENT_KEY: json.dumps(list(arguments))}
        os.execve(sys.executable, [sys.executable, "-m", "brainseg.sweep", *shown], environment)  # noqa: S606  # no shell
    for item in arguments:
        if HIDDEN in item:
            raise ConfigError(f"{item} must hold a password in place of ***; write it there")
    return list(arguments)
