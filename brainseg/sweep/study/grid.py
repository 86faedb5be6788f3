"""The points of a grid, as an Optuna sampler."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from brainseg.sweep.study.parameter import Parameter, Value
from brainseg.sweep.study.space import distributions

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.study import Study


class GridPoints(BaseSampler):
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
