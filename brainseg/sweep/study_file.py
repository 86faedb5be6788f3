"""The study file: what is searched, by which sampler, in how many trials."""

from collections.abc import Mapping
from dataclasses import dataclass, field

Value = bool | int | float | str

# What can be searched for -> what it is.
METRICS: Mapping[str, str] = {
    "val_dice_image": "mean Dice of the validation slices at the model's size, in the best epoch",
    "final_dice": "mean Dice of the validation slices at their stored size, by the saved model",
    "parameters": "how many weights the model has",
    "seconds_per_image": "how long the saved model takes for the prediction of one slice",
}


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One searched key: a range of numbers, or choices."""

    key: str  # model.dropout, or a group such as optimizer
    type: str  # float, int or categorical
    low: float | None = None  # float and int: both ends are drawn too
    high: float | None = None
    step: float | None = None  # distance of the values from `low` on
    log: bool = False  # drawn evenly in the logarithm
    choices: tuple[Value, ...] = ()  # categorical
    # Searched only where each of these other parameters, declared earlier, has one of these values.
    when: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class SamplerConfig:
    """Who proposes the next trial."""

    name: str = "tpe"  # tpe, random, grid, cmaes or qmc
    seed: int = 0
    options: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PrunerConfig:
    """Who stops a trial that is not worth its remaining epochs."""

    name: str = "median"  # median, hyperband or none
    options: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """A study, complete."""

    name: str
    metrics: Mapping[str, str]  # metric -> maximize or minimize, in order
    trials: int  # total of COMPLETE and PRUNED over the study's life
    overrides: tuple[str, ...] = ()  # fixed for every trial: the file's, then the command line's; no tracking.*
    tracking: tuple[str, ...] = ()  # where the record goes: no part of the study, and a URI may hold a password
    baseline: Mapping[str, Value] = field(default_factory=dict)  # tried first; may be empty
    enqueue: tuple[Mapping[str, Value], ...] = ()  # tried next, in order
    space: tuple[Parameter, ...]
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    pruner: PrunerConfig = field(default_factory=PrunerConfig)
    workers: int = 1
    failures: int = 3  # how many failed trials are allowed
    retries: int = 1  # how often a failed trial is tried again
    time_limit_min: float | None = None
