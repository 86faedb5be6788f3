"""The text of an experiment: what Hydra composes, with reasons for people."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from brainseg.errors import printable
from brainseg.plan.choices import Choice


def experiment_text(root: Path, *, about: Sequence[str], groups: Mapping[str, str], choices: Sequence[Choice]) -> str:
    """YAML for `conf/experiment/`. root: of the data. about: lines for people. groups: group -> option."""
    lines = [
        "# @package _global_",
        *(f"# {printable(line)}" for line in about),
        "defaults:",
        *(f"  - override /{group}: {option}" for group, option in groups.items()),
        "",
        "data:",
        f"  root: {_scalar(str(root.resolve()))}",
    ]
    group = "data"
    for choice in choices:
        before, (group, _, name) = group, choice.key.partition(".")
        if group != before:
            lines.append(f"{group}:")
        lines.append(f"  {name}: {_scalar(choice.value)}{f'  # {printable(choice.why)}' if choice.why else ''}")
    return "\n".join(lines) + "\n"


def _scalar(value: Any) -> str:
    """A value in one line of YAML; what OmegaConf would take for an interpolation stays text."""
    # Unsorted: the order of classes counts.
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10**6, sort_keys=False)
    return text.removesuffix("\n").removesuffix("...").removesuffix("\n").replace("${", "\\${")
