"""The configuration of a run that goes on."""

from collections.abc import Sequence
from typing import Any

from brainseg.compose.overrides import parse, set_by
from brainseg.config import RunConfig, flatten, from_flat, with_parts
from brainseg.errors import ConfigError, ResumeError

AUTO = "auto"  # a value of several keys: the run finds out
# What may change on a resume, beside what is recorded and how: `tracking.*`.
RESUMABLE_KEYS = ("train.epochs", "train.patience")
# What the command line says, whatever the run had: where to find the run, and its plugins.
NOT_PART_OF_THE_RUN = ("resume", "tracking.root", "tracking.uri", "plugins")
# Keys whose `null` stands for what the run has: it found the latter three in its data.
KEPT_UNLESS_NAMED = ("tracking.experiment", "tracking.tags", "data.annotations", "data.classes", "data.ignore")


def resumed(stored: RunConfig, asked_for: RunConfig, overrides: Sequence[str]) -> RunConfig:
    """The configuration of a resumed run: the stored one, with the values that may change taken from `asked_for`.

    asked_for: what `overrides` compose to. Raises ResumeError if an override asks to change any other value.
    """
    asked = flatten(asked_for)
    try:
        before = flatten(with_parts(stored))
    except ConfigError as error:
        needed = f"; add plugins=[{','.join(stored.plugins)}]" if stored.plugins else ""
        raise ResumeError(f"resume={asked_for.resume}: {error}{needed}") from error
    named = [override.key_or_group for override in parse(overrides)]
    changed: dict[str, Any] = {}
    for key in asked:
        if asked[key] == AUTO or (key in KEPT_UNLESS_NAMED and asked[key] is None):
            continue  # it stands for what the run has
        if key in NOT_PART_OF_THE_RUN:
            changed[key] = asked[key]
        elif _is_named(key, named) and asked[key] != before.get(key):
            if key not in RESUMABLE_KEYS and not key.startswith("tracking."):
                raise ResumeError(
                    f"{key} can't change on a resume: the run has {before.get(key)!r}, got {asked[key]!r}; "
                    f"only {' and '.join(RESUMABLE_KEYS)} may; leave it out, or start a new run without resume"
                )
            changed[key] = asked[key]
    return from_flat(before | changed)


def _is_named(key: str, named: Sequence[str]) -> bool:
    """Whether what the overrides name sets this key, or a part of it: its name, its group, or a whole experiment.

    How a run is recorded isn't set by an experiment: its defaults would open the files of a private run to others.
    """
    if "experiment" in named and not key.startswith("tracking."):
        return True
    return set_by(named, key)
