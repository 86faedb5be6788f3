"""Optuna's samplers and pruners from their names in the study file.

A worker makes a new sampler for each trial, so that any worker can ask for any trial: a sampler's state
is in the storage, and its seed follows from the study's seed and the trial's number.
"""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, CmaEsSampler, QMCSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from brainseg.errors import ConfigError
from brainseg.sweep.study.parameter import Parameter, Value
from brainseg.sweep.study.space import distributions
from brainseg.sweep.study.study_file import StudyConfig

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.study import Study


def build_sampler(config: StudyConfig, *, number: int) -> BaseSampler:
    """The study's sampler for the trial of this number.

    Draw all values of a trial before you ask for the next one: some samplers read what other trials have drawn.
    """
    with warnings.catch_warnings():
        # Of QMCSampler, TPESampler's group and some options of CmaEsSampler: whether to use them is the user's choice.
        warnings.simplefilter("ignore", ExperimentalWarning)
        return SAMPLERS[config.sampler.name](config, number)


def sampler_to_tell() -> BaseSampler:
    """A sampler for `study.tell`, which passes each result to the study's sampler; none here learns from it."""
    return RandomSampler(seed=0)


def build_pruner(config: StudyConfig, *, epochs: int) -> BasePruner:
    """The study's pruner. epochs: how many a whole trial has; hyperband's default max_resource.

    Raises ConfigError if hyperband's resources don't fit the epochs.
    """
    options: dict[str, Any] = dict(config.pruner.options)
    if config.pruner.name == "hyperband":
        options.setdefault("max_resource", epochs)
        if options.get("min_resource", 1) > options["max_resource"]:
            raise ConfigError(
                f"pruner.min_resource must be at most max_resource = {options['max_resource']} epochs, "
                f"got {options['min_resource']}; lower it, or raise train.epochs"
            )
    return PRUNERS[config.pruner.name](**options)


class Grid(BaseSampler):
    """Each point of a grid once, in an order that the seed decides.

    Optuna's GridSampler stops the study at its last point, which raises outside `optimize`, and draws points
    again that were enqueued. A point whose trial failed comes again when all others are taken.
    """

    def __init__(self, space: Sequence[Parameter], *, seed: int) -> None:
        self._space = space
        self._distributions = distributions(space)
        sizes = [parameter.size for parameter in space]
        self._sizes = [size for size in sizes if size is not None]
        assert len(sizes) == len(self._sizes), "a grid has no continuous range"
        self._order = np.random.default_rng(seed).permutation(math.prod(self._sizes)).tolist()

    def infer_relative_search_space(self, study: "Study", trial: FrozenTrial) -> dict[str, "BaseDistribution"]:
        """All parameters, since they are drawn together."""
        return self._distributions

    def sample_relative(
        self, study: "Study", trial: FrozenTrial, search_space: Mapping[str, "BaseDistribution"]
    ) -> dict[str, Any]:
        """The next point that no other trial has taken."""
        taken: set[int | None] = set()
        failed: set[int | None] = set()
        # Not `get_trials`: with hyperband, it gives the trials of one bracket only.
        for other in study._get_trials(deepcopy=False):
            if other.number != trial.number:
                points = failed if other.state == TrialState.FAIL else taken
                points.add(self._point_of(other.params or other.system_attrs.get("fixed_params", {})))
        free = [point for point in self._order if point not in taken]
        untried = [point for point in free if point not in failed]
        point = (untried or free or self._order)[0]
        places = np.unravel_index(point, self._sizes)
        return {
            parameter.key: parameter.value_at(int(place)) for parameter, place in zip(self._space, places, strict=True)
        }

    def sample_independent(
        self, study: "Study", trial: FrozenTrial, param_name: str, param_distribution: "BaseDistribution"
    ) -> Any:
        """Never asked for: every parameter is drawn by `sample_relative`."""
        raise RuntimeError(f"{param_name} is not in the grid")

    def _point_of(self, params: Mapping[str, Value]) -> int | None:
        """The number of a point in the grid; None if values are missing."""
        places = [
            parameter.place_of(params[parameter.key]) if parameter.key in params else None for parameter in self._space
        ]
        whole = [place for place in places if place is not None]
        return int(np.ravel_multi_index(whole, self._sizes)) if len(whole) == len(places) else None


def _tpe(config: StudyConfig, number: int) -> BaseSampler:
    options: dict[str, Any] = dict(config.sampler.options)
    if any(parameter.when for parameter in config.space) and options.get("multivariate", True):
        # Parameters that are searched only sometimes are modelled in groups of those that occur together.
        options |= {"multivariate": True, "group": True}
    return TPESampler(seed=_seed(config, number), **options)


def _random(config: StudyConfig, number: int) -> BaseSampler:
    return RandomSampler(seed=_seed(config, number))


def _grid(config: StudyConfig, number: int) -> BaseSampler:
    return Grid(config.space, seed=config.sampler.seed)


def _stored(sampler: Callable[..., BaseSampler], config: StudyConfig, number: int) -> BaseSampler:
    """One that keeps its state, or its place in a sequence, in the storage: its seed is the same for every trial."""
    return sampler(
        seed=config.sampler.seed,
        independent_sampler=_random(config, number),
        warn_independent_sampling=False,
        **config.sampler.options,
    )


def _seed(config: StudyConfig, number: int) -> int:
    """A seed for each trial: with a constant one, every worker would begin with the same draws."""
    return int(np.random.SeedSequence([config.sampler.seed, number]).generate_state(1)[0])


SAMPLERS: Mapping[str, Callable[[StudyConfig, int], BaseSampler]] = {
    "tpe": _tpe,
    "random": _random,
    "grid": _grid,
    "cmaes": partial(_stored, CmaEsSampler),
    "qmc": partial(_stored, QMCSampler),
}
PRUNERS: Mapping[str, Callable[..., BasePruner]] = {
    "median": MedianPruner,
    "hyperband": HyperbandPruner,
    "none": NopPruner,
}
