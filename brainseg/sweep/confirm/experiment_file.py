"""A configuration of a study as an experiment, `conf/experiment/NAME.yaml`."""

from collections.abc import Sequence
from typing import Any

import yaml

from brainseg import compose
from brainseg.config import RunConfig
from brainseg.errors import printable
from brainseg.sweep.study.recipe import ELSEWHERE, THREADS

# Of a machine, or of a run: how their overrides begin.
LEFT_OUT = tuple(f"{key}{end}" for key in (*ELSEWHERE, THREADS, "seed") for end in ("=", "."))


def experiment_text(config: RunConfig, *, about: Sequence[str]) -> str:
    """YAML that composes to the configuration on any machine. about: lines for people."""
    overrides = [item for item in compose.overrides_of(config) if not item.startswith(LEFT_OUT)]
    groups = {key: value for key, value in compose.values_in(overrides).items() if key in compose.GROUPS}
    nested: dict[str, Any] = {}
    for key, value in compose.values_in(overrides).items():
        if key not in groups:
            *folders, name = key.split(".")
            node = nested
            for folder in folders:
                node = node.setdefault(folder, {})
            node[name] = value
    defaults = [{f"override /{group}": option} for group, option in groups.items()]
    content = {**({"defaults": defaults} if defaults else {}), **nested}
    lines = ["# @package _global_", *(f"# {printable(line)}" for line in about)]
    return "\n".join(lines) + "\n" + yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
