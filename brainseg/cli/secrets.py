"""Hides passwords in what is printed, and in command lines, which every user of a machine can read."""

import json
import os
import re
import sys
from collections.abc import Sequence

from brainseg.errors import ConfigError

HIDDEN = ":***@"  # what `mask` leaves of a password
ENVIRONMENT_KEY = "BRAINSEG_ARGUMENTS"  # the arguments that hold passwords, each after its place, as JSON

# Up to the last @, since a password that holds an unescaped @ or / must not show its second half.
_CREDENTIALS = re.compile(r"(?<=://)([^\s'\"]*)@")
_SECRET_OPTION = re.compile(r"([?&](?:password|passwd|pwd|token|sslpassword)=)[^&\s'\"]+", re.IGNORECASE)


def mask(text: str) -> str:
    """The text with every password and token in a URL replaced by ***."""
    return _SECRET_OPTION.sub(r"\1***", _CREDENTIALS.sub(_masked_credentials, text))


def _masked_credentials(match: re.Match[str]) -> str:
    user, colon, _ = match.group(1).partition(":")
    return f"{user}:***@" if colon else "***@"


def has_password(url: str) -> bool:
    """Whether a URL holds a password; a user's name alone is none."""
    return HIDDEN in mask(url) or _SECRET_OPTION.search(url) is not None


def hide_secrets(arguments: Sequence[str]) -> list[str]:
    """The process's arguments as they were given, in a process whose command line shows *** for every password.

    Where the command line still shows one, this process starts the same command again, under the same process id, and
    hands the passwords on in the environment, which only its owner can read. Raises ConfigError for a URL that has ***
    for its password.
    """
    given = list(arguments)
    hidden: list[tuple[int, str]] = json.loads(os.environ.get(ENVIRONMENT_KEY, "[]"))
    if all(given[place : place + 1] == [mask(item)] for place, item in hidden):  # else they are those of a parent
        for place, item in hidden:
            given[place] = item
    hidden = [(place, item) for place, item in enumerate(given) if mask(item) != item]
    first = len(sys.orig_argv) - len(given)
    if hidden and sys.orig_argv[first:] == given:
        sys.stdout.flush()
        command = [sys.executable, *sys.orig_argv[1:first], *map(mask, given)]
        os.execve(sys.executable, command, os.environ | {ENVIRONMENT_KEY: json.dumps(hidden)})  # noqa: S606  # no shell
    for item in given:
        if HIDDEN in item:
            raise ConfigError(f"{item} must hold a password in place of ***; write it there")
    return given
