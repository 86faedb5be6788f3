"""One searched key of a study: a range of numbers or choices, and when it is searched."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from types import NoneType, UnionType
from typing import Any, TypeGuard, get_args

from brainseg.errors import ConfigError
from brainseg.keys import as_text, one_of

Value = bool | int | float | str | None

TYPES = ("float", "int", "categorical")
# What would make a study's trials incomparable, or belongs to the engine, and why.
DATA_IS_COMMON = "every trial of a study has the same data"
RECORD_IS_COMMON = "the record of a study goes to one place"
NOT_SEARCHED: Mapping[str, str] = {
    "data": DATA_IS_COMMON,
    "tracking": RECORD_IS_COMMON,
    "experiment": "an experiment may set any key; search the keys instead, and put experiment=NAME into overrides",
    "resume": "the engine itself resumes a trial that was stopped",
    "run_name": "the engine names its runs",
    "plugins": "what is imported is the same for all trials; put plugins=[MODULE] into overrides",
    "train.threads": "the engine shares the threads among the workers",
}
SEARCHED_DATA = ("data.image_size", "data.batch_size", "data.augment", "data.foreground_share")
# Each trial has other slices to validate on: such trials are pooled, not ranked.
SPLITS = ("data.fold", "data.split_seed", "data.split_file")


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One searched key: a range of numbers, or choices. Raises ConfigError for anything else."""

    key: str  # model.dropout, or a group such as optimizer
    type: str  # float, int or categorical
    low: float | None = None  # float and int: both ends can be drawn
    high: float | None = None
    step: float | None = None  # distance of the values, counted from low; int: 1 where it isn't given
    log: bool = False  # drawn evenly in the logarithm
    choices: tuple[Value, ...] = ()  # categorical
    # Searched only where each of these parameters, declared earlier, has one of these values.
    when: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_key(self.key)
        one_of(f"space.{self.key}.type", self.type, TYPES)
        if self.type == "categorical":
            self._check_choices()
        else:
            self._check_range()

    def _check_choices(self) -> None:
        where = f"space.{self.key}"
        for name, given in (("low", self.low), ("high", self.high), ("step", self.step), ("log", self.log or None)):
            if given is not None:
                raise ConfigError(f"{where}.{name} is for type float and int, got type categorical; leave it out")
        if len(self.choices) < 2:
            raise ConfigError(f"{where}.choices must be a list of at least two values, got {list(self.choices)}")
        for choice in self.choices:
            if not is_value(choice):
                raise ConfigError(f"{where}.choices must be texts, numbers, true, false or null, got {choice!r}")
            # 1 and true, or 1 and 1.0, would be one choice to Optuna.
            if sum(choice == other for other in self.choices) > 1:
                raise ConfigError(f"{where}.choices must differ, got {choice!r} twice; leave one out")

    def _check_range(self) -> None:
        where = f"space.{self.key}"
        if self.choices:
            raise ConfigError(f"{where}.choices is for type categorical, got type {self.type}; leave it out")
        check = check_whole if self.type == "int" else check_number
        for name, given in (("low", self.low), ("high", self.high)):
            if given is None:
                raise ConfigError(f"{where}.{name} must be given for type {self.type}; add it")
            check(f"{where}.{name}", given)
        low, high, _ = self.bounds
        if low >= high:
            raise ConfigError(f"{where}.low must be below high = {high}, got {low}; put a fixed value into overrides")
        if not isinstance(self.log, bool):
            raise ConfigError(f"{where}.log must be true or false, got {self.log!r}")
        if self.log and low <= 0:
            raise ConfigError(f"{where}.low must be above 0 for log: true, got {low}")
        if self.step is None:
            return
        check(f"{where}.step", self.step)
        if self.step <= 0:
            raise ConfigError(f"{where}.step must be above 0, got {self.step}")
        if self.log:
            raise ConfigError(f"{where}.step can't go with log: true, got {self.step}; leave one of them out")
        if (_exact(high) - _exact(low)) % _exact(self.step):
            assert self.size is not None
            raise ConfigError(
                f"{where}.high must be low + a multiple of step = {self.step}, got {high}; "
                f"try {self.value_at(self.size - 1)}"
            )

    @property
    def bounds(self) -> tuple[float, float, float | None]:
        """low, high and step of a range; the step of a continuous range is None."""
        assert self.low is not None
        assert self.high is not None
        if self.type == "int":
            return self.low, self.high, 1 if self.step is None else self.step
        return float(self.low), float(self.high), self.step

    @property
    def size(self) -> int | None:
        """The number of values; None for a continuous range."""
        if self.type == "categorical":
            return len(self.choices)
        low, high, step = self.bounds
        return None if step is None else int((_exact(high) - _exact(low)) // _exact(step)) + 1

    def value_at(self, place: int) -> Value:
        """The value at a place of the grid, from 0: 0.15, not 0.15000000000000002."""
        if self.type == "categorical":
            return self.choices[place]
        low, _, step = self.bounds
        assert step is not None
        value = _exact(low) + place * _exact(step)
        return int(value) if self.type == "int" else float(value)

    def place_of(self, value: Value) -> int | None:
        """The place of a value on the grid; None if it isn't on it."""
        if self.type == "categorical":
            places = [place for place, choice in enumerate(self.choices) if _same(choice, value)]
            return places[0] if places else None
        low, _, step = self.bounds
        if not is_number(value) or step is None or self.size is None:
            return None
        place = round((value - low) / step)
        # A sum of steps in binary misses the value by some 1e-17.
        on_grid = math.isclose(value, low + place * step, rel_tol=1e-9, abs_tol=1e-9 * step)
        return place if on_grid and 0 <= place < self.size else None

    def holds(self, value: Value) -> bool:
        """Whether the value can be drawn."""
        if self.size is not None:
            whole = self.type != "int" or isinstance(value, int)
            return whole and self.place_of(value) is not None
        low, high, _ = self.bounds
        return is_number(value) and low <= value <= high

    def exact(self, value: Value) -> Value:
        """The value without the rounding error of a sum of steps."""
        place = self.place_of(value) if self.type == "float" and self.step is not None else None
        return value if place is None else self.value_at(place)

    def is_searched(self, params: Mapping[str, Value]) -> bool:
        """Whether a trial searches it, given the values of earlier parameters."""
        return all(
            key in params and any(_same(params[key], value) for value in values) for key, values in self.when.items()
        )

    @property
    def rule(self) -> str:
        """What a value must be, as messages say it."""
        if self.type == "categorical":
            return f"one of {', '.join(map(as_text, self.choices))}"
        low, high, _ = self.bounds
        kind = "a whole number " if self.type == "int" else ""
        steps = "" if self.step is None else f" in steps of {self.step}"
        return f"{kind}between {low} and {high}{steps}"


def is_value(value: object) -> TypeGuard[Value]:
    """Whether it is a text, a finite number, true, false or null."""
    return value is None or isinstance(value, bool | str) or (is_number(value) and math.isfinite(value))


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether it is a number, which true and false are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def check_number(key: str, value: object) -> None:
    """Raises ConfigError unless it is a finite number."""
    if not is_number(value) or not math.isfinite(value):
        raise ConfigError(f"{key} must be a number, got {value!r}")


def check_whole(key: str, value: object) -> None:
    """Raises ConfigError unless it is a whole number."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigError(f"{key} must be a whole number, got {value!r}")


def check_type(key: str, value: object, kind: Any) -> None:
    """Raises ConfigError unless the value is of this type: bool, int, float or str, or one of them or None."""
    kinds = get_args(kind) if isinstance(kind, UnionType) else (kind,)
    if value is None and NoneType in kinds:
        return
    if bool in kinds:
        if not isinstance(value, bool):
            raise ConfigError(f"{key} must be true or false, got {value!r}")
    elif int in kinds:
        check_whole(key, value)
    elif float in kinds:
        check_number(key, value)
    elif str in kinds and not isinstance(value, str):
        raise ConfigError(f"{key} must be a text, got {value!r}")


def _check_key(key: str) -> None:
    if key in SEARCHED_DATA + SPLITS or key.startswith("data.augment_options."):
        return
    for name, reason in NOT_SEARCHED.items():
        if key == name or key.startswith(f"{name}."):
            told = f"; of data, only {', '.join(SEARCHED_DATA + SPLITS)} can be searched" if name == "data" else ""
            raise ConfigError(f"space.{key} can't be searched: {reason}{told}")


def _same(one: Value, other: Value) -> bool:
    """Whether they are equal; true and 1 are not."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _exact(value: float) -> Decimal:
    # By its text: 0.05 is then 5 hundredths, and sums of it are exact.
    return Decimal(repr(value))
