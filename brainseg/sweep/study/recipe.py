"""The recipe of a study: what its fixed overrides compose to, stored with the study.

An override such as `experiment=best` is a name: what it stands for may change while a study lasts. Trials therefore
start from the stored recipe, and conf/ decides only where the data and the records lie.
"""

import functools
import itertools
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from brainseg.compose import GROUPS, Composition
from brainseg.config import RunConfig, flatten
from brainseg.config_file import upgraded
from brainseg.errors import ConfigError
from brainseg.sweep.study.parameter import Value
from brainseg.sweep.study.space import as_overrides
from brainseg.sweep.study.study_file import StudyConfig
from brainseg.sweep.study.study_rules import LOCATIONS, places_in

THREADS = "train.threads"
# No part of a recipe: they may differ from host to host, and from one start of the sweep to the next.
ELSEWHERE = (*LOCATIONS, "tracking", "resume", "run_name")

NO_OPTIONS: Mapping[str, Value] = {}

Recipe = Mapping[str, Mapping[str, Any]]  # see `recipe_of`


def recipe_of(config: StudyConfig) -> dict[str, dict[str, Any]]:
    """What the fixed overrides compose to, today and here: options of searched groups -> key -> value.

    Under "" stands every key; under options, such as `optimizer=sgd`, those that they change. Raises ConfigError.
    """
    groups = [parameter for parameter in config.space if parameter.key in GROUPS]
    # None: it isn't searched in this trial.
    choices = [(*parameter.choices, *([None] if parameter.when else [])) for parameter in groups]
    fixed = _values(_composition_today(config))
    recipe = {}
    for chosen in itertools.product(*choices):
        options = {group.key: choice for group, choice in zip(groups, chosen, strict=True) if choice is not None}
        values = _values(_composition_today(config, options))
        recipe[_name(options)] = {
            key: value for key, value in values.items() if key not in fixed or fixed[key] != value
        }
    return recipe | {"": fixed}


def recipe_of_run(config: StudyConfig, run: RunConfig) -> dict[str, dict[str, Any]]:
    """The recipe of a study that stored none: that of one of its runs.

    What the study searches is no part of the run's recipe, and is composed today.
    """
    today = recipe_of(config)
    searched = (*(parameter.key for parameter in config.space), THREADS)
    own = {
        key: list(value) if isinstance(value, tuple) else value  # as a composition has it
        for key, value in flatten(run).items()
        if not _is_one_of(key, (*searched, *ELSEWHERE))
    }
    return today | {"": today[""] | own}


def recipe_changes(stored: Recipe, now: Recipe, *, searched: Collection[str]) -> dict[str, str]:
    """Key -> `0.001 -> 0.002`, of each key that differs. searched: keys that every trial searches; not compared."""
    changes: dict[str, str] = {}
    for options in (each for each in now if each in stored):
        before, after = (upgraded({**recipe[""], **recipe[options]}) for recipe in (stored, now))
        for key, value in after.items():
            if before.get(key) != value and key not in searched:
                changes.setdefault(key, f"{before.get(key)} -> {value}")
    return changes


def composition_of(config: StudyConfig, options: Mapping[str, Value] = NO_OPTIONS) -> Composition:
    """What trials with these options of groups start from: the stored recipe; conf/ if none is stored."""
    if not config.recipe:
        return _composition_today(config, options)
    values = upgraded({**config.recipe[""], **config.recipe[_name(options)]})
    return Composition.stored(values | _elsewhere(config))


def overrides_of(config: StudyConfig, params: Mapping[str, Value]) -> list[str]:
    """Overrides that compose, from conf/ as it is now, to the recipe with these options of groups and values of keys.

    They may hold a password, within tracking.uri.
    """
    fixed, options = [*config.overrides, *config.tracking], options_in(params)
    changed: dict[str, Any] = {}
    if config.recipe:
        wanted = _values(composition_of(config, options))
        try:
            found = _values(_composition_today(config, options))
        except ConfigError:  # conf/ no longer has what they name
            fixed = _only_elsewhere(config)
            found = _values(Composition([*fixed, *as_overrides(options)]))
        changed = {key: value for key, value in wanted.items() if found.get(key) != value and key not in params}
    return [*fixed, *as_overrides({**changed, **params})]


def options_in(params: Mapping[str, Value]) -> dict[str, Value]:
    """Those of groups, of which Hydra composes a file; the others are values of keys."""
    return {key: value for key, value in params.items() if key in GROUPS}


def _elsewhere(config: StudyConfig) -> dict[str, Any]:
    """Where the data and the records lie, as conf/ and the overrides say today."""
    try:
        today = _composition_today(config)
    except ConfigError:  # conf/ no longer has what they name
        today = Composition(_only_elsewhere(config))
    return {key: value for key, value in today.values.items() if _is_one_of(key, ELSEWHERE)}


def _only_elsewhere(config: StudyConfig) -> list[str]:
    return [*places_in(config.overrides), *config.tracking]


def _composition_today(config: StudyConfig, options: Mapping[str, Value] = NO_OPTIONS) -> Composition:
    """Hydra runs once for each set of options."""
    return _composition(Path.cwd(), (*config.overrides, *config.tracking, *as_overrides(options)))


@functools.lru_cache(maxsize=64)
def _composition(_folder: Path, overrides: tuple[str, ...]) -> Composition:
    # The folder decides as well: ./conf comes before the configuration that brainseg carries.
    return Composition(overrides)


def _values(composition: Composition) -> dict[str, Any]:
    """Those that belong to a recipe."""
    return {key: value for key, value in composition.values.items() if not _is_one_of(key, ELSEWHERE)}


def _name(options: Mapping[str, Value]) -> str:
    return " ".join(as_overrides(options))


def _is_one_of(key: str, names: Collection[str]) -> bool:
    """Whether it is one of these keys, or in one of these groups."""
    return any(key == name or key.startswith(f"{name}.") for name in names)
