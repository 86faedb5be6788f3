"""The search space as a whole: what a trial draws, its overrides, and the corners."""

import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from brainseg.sweep.study.parameter import Parameter, Value, is_number

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution

# A grid of at most so many values has all of them checked; of a longer one, the ends.
FEW_VALUES = 8
NOTHING_GIVEN: Mapping[str, Value] = {}
# A word that Hydra reads as a text without quotes.
PLAIN_TEXT = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
NOT_TEXT = ("true", "false", "null", "nan", "inf")


def suggest(trial: "optuna.Trial", space: Sequence[Parameter]) -> dict[str, Value]:
    """Draws the trial's values, in the order of the space, except for parameters that its `when` leaves out.

    Called again with the same trial, it returns the same values.
    """
    params: dict[str, Value] = {}
    for parameter in space:
        if parameter.is_searched(params):
            params[parameter.key] = _draw(trial, parameter)
    return params


def _draw(trial: "optuna.Trial", parameter: Parameter) -> Value:
    from optuna.distributions import FloatDistribution, IntDistribution

    found = distribution_of(parameter)
    if isinstance(found, FloatDistribution):
        return trial.suggest_float(parameter.key, found.low, found.high, step=found.step, log=found.log)
    if isinstance(found, IntDistribution):
        return trial.suggest_int(parameter.key, found.low, found.high, step=found.step, log=found.log)
    return trial.suggest_categorical(parameter.key, parameter.choices)


def distributions(space: Sequence[Parameter]) -> dict[str, "BaseDistribution"]:
    """The space in Optuna's terms."""
    return {parameter.key: distribution_of(parameter) for parameter in space}


def distribution_of(parameter: Parameter) -> "BaseDistribution":
    """What `suggest` draws the parameter's value from."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if parameter.type == "categorical":
        return CategoricalDistribution(parameter.choices)
    low, high, step = parameter.bounds
    if parameter.type == "int":
        return IntDistribution(int(low), int(high), log=parameter.log, step=1 if step is None else int(step))
    return FloatDistribution(low, high, log=parameter.log, step=step)


def exact(params: Mapping[str, Value], space: Sequence[Parameter]) -> dict[str, Value]:
    """The values without the rounding error of a sum of steps: 0.15 for Optuna's 0.15000000000000002."""
    by_key = {parameter.key: parameter for parameter in space}
    return {key: by_key[key].exact(value) if key in by_key else value for key, value in params.items()}


def as_overrides(params: Mapping[str, Value]) -> list[str]:
    """The values as Hydra reads them back, exactly: `model.dropout=0.2`."""
    return [f"{key}={_written(value)}" for key, value in params.items()]


def _written(value: Value) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str):
        return repr(value)
    if PLAIN_TEXT.fullmatch(value) and value.lower() not in NOT_TEXT:
        return value
    # Within quotes, Hydra takes backslashes as they are, except before a quote and at the end.
    escaped = re.sub(r'(\\*)("|$)', lambda found: found[1] * 2 + ('\\"' if found[2] else ""), value)
    return f'"{escaped}"'


def corners(
    space: Sequence[Parameter], *, given: Mapping[str, Value] = NOTHING_GIVEN, limit: int = 256
) -> list[dict[str, Value]]:
    """Combinations of the ends of ranges, every value of short grids, and choices; as `when` allows.

    Of a longer grid, the values that a `when` names are included. All combinations if there are at most `limit`;
    otherwise each value at least once, and further combinations drawn with a fixed seed. given: values that each of
    them has.
    """
    values = [[given[each.key]] if each.key in given else _telling_values(each, space) for each in space]
    if math.prod(len(each) for each in values) <= limit:
        rows: Iterable[Sequence[Value]] = itertools.product(*values)
    else:
        rows = _spread(space, values, limit)
    unique: dict[tuple[tuple[str, Value], ...], dict[str, Value]] = {}
    for row in rows:
        corner: dict[str, Value] = {}
        for parameter, value in zip(space, row, strict=True):
            if parameter.is_searched(corner):
                corner[parameter.key] = value
        if given.items() <= corner.items():
            unique.setdefault(tuple(corner.items()), corner)
    return list(unique.values())


def _telling_values(parameter: Parameter, space: Sequence[Parameter]) -> list[Value]:
    size = parameter.size
    if size is not None and (parameter.type == "categorical" or size <= FEW_VALUES):
        return [parameter.value_at(place) for place in range(size)]
    low, high, _ = parameter.bounds
    named = {value for other in space for value in other.when.get(parameter.key, ()) if is_number(value)}
    return [low, high, *sorted(named - {low, high})]


def _spread(space: Sequence[Parameter], values: Sequence[Sequence[Value]], limit: int) -> list[list[Value]]:
    """Combinations that hold each value at least once, and drawn ones up to the limit."""
    by_key = {parameter.key: place for place, parameter in enumerate(space)}
    rows = []
    for place, own in enumerate(values):
        for value in own:
            row = [each[0] for each in values]
            row[place] = value
            # Backwards, since what it depends on may depend on others.
            needed = {place}
            for earlier in reversed(range(place + 1)):
                if earlier in needed:
                    for key, allowed in space[earlier].when.items():
                        row[by_key[key]] = allowed[0]
                        needed.add(by_key[key])
            rows.append(row)
    generator = np.random.default_rng(0)
    while len(rows) < limit:
        rows.append([each[int(generator.integers(len(each)))] for each in values])
    return rows
