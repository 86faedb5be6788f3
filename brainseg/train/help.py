"""`python -m brainseg.train --help`: how the command is used, and each key with its value and meaning."""

from collections.abc import Sequence

from brainseg import compose
from brainseg.config import GROUPS, KEYS
from brainseg.keys import as_text

HEADER = """\
Trains a segmentation model and records the run in MLflow.

  python -m brainseg.train                                   the built-in phantom, two to three minutes
  python -m brainseg.train model.dropout=0.2                 any key below
  python -m brainseg.train data=folder data.root=DIR         your own images and masks
  python -m brainseg.train experiment=reference data.root=DIR
  python -m brainseg.train -m model.dropout=0.1,0.2          one run for each value
  python -m brainseg.train resume=RUN_ID                     go on where a run was stopped

Groups (group=option)
"""
FOOTER = """
--cfg job prints the configuration of a run without starting it.
--dry-run checks what a run checks before it starts, times a few steps, and says what the run will cost.
docs/configuration.md explains every key."""
VALUE_WIDTH = 28


def help_text(overrides: Sequence[str]) -> str:
    """What --help prints; the values are those that the overrides compose to. Raises ConfigError like `compose`."""
    composition = compose.Composition(overrides)
    values, keys = composition.values, {**KEYS, **composition.option_keys}
    lines = [HEADER, *(f"{group}: {', '.join(options)}" for group, options in compose.options().items())]
    lines.append("\nKeys and their values (key=value)\n")
    # The keys without a group first: behind a group they would seem to belong to it.
    for group in ("", *GROUPS):
        lines += [f"{group}:"] if group else []
        for key, about in keys.items():
            of_group = key.partition(".")[0]
            if (of_group if of_group in GROUPS else "") == group:
                name = key.removeprefix(f"{group}.")
                shown = f"{'  ' if group else ''}{name}: {as_text(values.get(key, about.default))}"
                choices = f" ({', '.join(about.values)})" if about.choices else ""
                lines.append(f"{shown:<{VALUE_WIDTH}}  # {about.help.replace('`', '')}{choices}")
    return "\n".join([*lines, FOOTER])
