"""Reads a set once, and makes a plan for it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brainseg import compose
from brainseg.cli.console import Progress
from brainseg.config import RunConfig, flatten
from brainseg.data.load import resolved_source
from brainseg.data.overview import Overview, overview_of
from brainseg.data.source import Source
from brainseg.data.split import Split, make_split
from brainseg.plan.choices import Choice, annotated_choices, choices_for, split_choices

if TYPE_CHECKING:
    from brainseg.train.cost import Cost

KEY_ORDER = list(flatten(RunConfig()))


@dataclass(frozen=True, kw_only=True)
class Plan:
    """An experiment for a set."""

    found: Overview
    config: RunConfig  # complete: what the experiment composes to
    source: Source
    split: Split
    groups: Mapping[str, str]  # group -> option
    choices: Sequence[Choice]  # in the order of the configuration; what the user gave has no reason


def make_plan(folder: Path, overrides: Sequence[str]) -> Plan:
    """Reads the set and chooses. Raises InputError where it can't be read, or for a key that is wrong."""
    compose.register_local_conf()
    given = {"data": "folder"} | compose.values_in(overrides)  # or data=nifti
    composition = compose.Composition([f"data={given['data']}", "data.root=.", *_without_reader(overrides)])
    # The folder replaces the root, which may have signs that an override would have to quote.
    asked = _at(folder, composition.with_values({}))
    source, config = resolved_source(asked)
    with Progress(unit="slices") as progress:
        found = overview_of(source, progress=progress)
    parts = _own(split_choices(found), given)
    split = make_split(
        source.slices(), replace(config.data, **{each.key.partition(".")[2]: each.value for each in parts})
    )
    own = [
        *_own(annotated_choices(asked.data, config.data), given),
        *parts,
        *_own(choices_for(found, config, train=len(split.train), given=given), given),
    ]
    planned = _at(folder, composition.with_values({each.key: each.value for each in own}))
    kept = [Choice(key=key, value=value, why="") for key, value in flatten(config).items() if key in given]
    return Plan(
        found=found,
        config=planned,
        source=source,
        split=split,
        groups={group: option for group, option in given.items() if group in compose.GROUPS},
        choices=sorted([*kept, *own], key=lambda each: KEY_ORDER.index(each.key)),
    )


def _without_reader(overrides: Sequence[str]) -> list[str]:
    return [each for each in overrides if not each.startswith("data=")]


def _own(choices: Iterable[Choice], given: Mapping[str, Any]) -> list[Choice]:
    return [each for each in choices if each.key not in given]


def _at(folder: Path, config: RunConfig) -> RunConfig:
    return replace(config, data=replace(config.data, root=str(folder)))


def timed(plan: Plan) -> "Cost":
    """What the experiment costs on this machine. Imports TensorFlow."""
    from brainseg.model.runtime import import_tensorflow

    import_tensorflow()
    from brainseg.train.cost import measure

    return measure(plan.config, plan.source, plan.split, stored_px=(plan.found.height, plan.found.width))
