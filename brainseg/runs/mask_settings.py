"""How a run makes masks: by the settings given, else by those that `evaluate --tune` chose, else by the defaults."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from brainseg.cli.options import MASK_OPTIONS
from brainseg.errors import InputError
from brainseg.inference.postprocess import MaskSettings
from brainseg.parsing import parse_json
from brainseg.runs.artifacts import optional_text
from brainseg.tracking.protocol import RunStore

CHOICE_FILE = "choice.json"
CHOICE_SCHEMA = 3  # 2 knew no shifts, 1 knew all flips or none


def settings_of(
    store: RunStore, run_id: str, *, evaluated: Sequence[str], given: Mapping[str, Any]
) -> tuple[MaskSettings, str]:
    """The settings, and where they come from, for people.

    evaluated: the run's evaluation splits. given: fields of `MaskSettings`. Raises InputError for a choice that can't
    be read.
    """
    # Every choice was made on validation slices, whatever split was scored with it.
    for split in sorted(evaluated, key=lambda split: (split != "val", split != "test", split)):
        name = f"evaluation/{split}/{CHOICE_FILE}"
        text = optional_text(store, run_id, name)
        if text is not None:
            chosen = dataclasses.replace(_chosen(text, where=f"{name} of run {run_id}"), **given)
            return chosen, settings_source(f"chosen on validation slices, {name}", given)
    return MaskSettings(**given), settings_source("the defaults", given)


def settings_source(otherwise: str, given: Mapping[str, Any]) -> str:
    """Where settings come from, for people. given: fields of `MaskSettings`. otherwise: where the others come from."""
    options = [option for field, option in MASK_OPTIONS.items() if field in given]
    if len(options) == len(MASK_OPTIONS):
        return "as given"
    return f"{', '.join(options)} as given, else {otherwise}" if options else otherwise


def _chosen(text: str, *, where: str) -> MaskSettings:
    try:
        content = parse_json(text)
        if content["schema_version"] in range(1, CHOICE_SCHEMA + 1):
            (of_run,) = content["runs"].values()  # in a run's own artifacts its choice stands alone
            return MaskSettings.stored(of_run["settings"])
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    raise InputError(f"{where} can't be read; evaluate the run again with --tune")
