"""The samplers of a study: each a frozen dataclass of the options that stand beside its name in the study file.

A worker makes a new sampler for each trial, so that any worker can ask for any trial: a sampler's state
is in the storage, and its seed follows from the study's seed and the trial's number.
"""

import dataclasses
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from brainseg.errors import ConfigError, how_to_install
from brainseg.keys import key
from brainseg.plugins import made
from brainseg.sweep.study.study_file import StudyConfig

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

AT_RANDOM = "trials that are drawn at random before it learns"
# Sampler that learns from scores -> its option for how many trials it draws before.
STARTS: Mapping[str, str] = {
    "tpe": "n_startup_trials",
    "cmaes": "n_startup_trials",
    "gp": "n_startup_trials",
    "nsgaii": "population_size",
}


class Sampler(Protocol):
    """What proposes the values of trials."""

    def build(self, study: StudyConfig, *, seed: int) -> "BaseSampler":
        """Optuna's sampler for a single trial. It may keep what it needs in the study's storage, and nowhere else.

        seed: of this trial; `study.sampler.seed` is the same for all of them. Raises ConfigError if it can't be used.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Tpe:
    """Where good trials were: the tree-structured Parzen estimator."""

    n_startup_trials: int = key(10, low=1, help=AT_RANDOM)
    n_ei_candidates: int = key(24, low=1, help="draws of which the most promising one is taken")
    multivariate: bool | None = key(None, help="model parameters together; `null`: for a single metric")
    constant_liar: bool = key(True, help="take running trials for bad ones, so that workers draw apart")

    def build(self, study: StudyConfig, *, seed: int) -> "BaseSampler":
        """Parameters that are searched only sometimes are modelled in groups of those that occur together."""
        from optuna.samplers import TPESampler

        options = dataclasses.asdict(self)
        if any(parameter.when for parameter in study.space) and self.multivariate is not False:
            options |= {"multivariate": True, "group": True}
        return TPESampler(seed=seed, **options)


@dataclass(frozen=True, kw_only=True)
class Random:
    """At random."""

    def build(self, study: StudyConfig, *, seed: int) -> "BaseSampler":
        """Knows no other trial."""
        from optuna.samplers import RandomSampler

        return RandomSampler(seed=seed)


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Each combination once, in random order."""

    def build(self, study: StudyConfig, *, seed: int) -> "BaseSampler":
        """The order is that of the study's seed."""
        from brainseg.sweep.study.grid import GridPoints

        return GridPoints(study.space, seed=study.sampler.seed)


@dataclass(frozen=True, kw_only=True)
class CmaEs:
    """Covariance matrix adaptation: numbers alone, in a hundred trials or more."""

    n_startup_trials: int = key(1, low=0, help=AT_RANDOM)
    popsize: int | None = key(None, low=4, help="trials of a generation; `null`: by the space's size")
    with_margin: bool = key(False, help="keep whole numbers and steps from standing still")
    consider_pruned_trials: bool = key(False, help="learn from pruned trials as well, by their last epoch")

    def build(self, study: StudyConfig, *, seed: int) -> "BaseSampler":
        """Its state, in the storage, is tied to the study's seed."""
        from optuna.samplers import CmaEsSampler

        return CmaEsSampler(**_stored(study, seed), **dataclasses.asdict(self))


@dataclass(frozen=True, kw_only=True)
class Qmc:
    """An even filling of the space, in a quasi-random sequence."""

    qmc_type: str = key("sobol", choices=("sobol", "halton"), help="the sequence")
    scramble: bool = key(False, help="another such sequence for each seed")

    def build(self, study: StudyConfig, *, seed: int) -> "BaseSampler":
        """Its place in the sequence, in the storage, is tied to the study's seed."""
        from optuna.samplers import QMCSampler

        return QMCSampler(**_stored(study, seed), **dataclasses.asdict(self))


@dataclass(frozen=True, kw_only=True)
class GaussianProcess:
    """Where a Gaussian process expects the most improvement: for few and expensive trials."""

    n_startup_trials: int = key(10, low=1, help=AT_RANDOM)
    deterministic_objective: bool = key(False, help="take scores for free of noise")

    def build(self, study: StudyConfig, *, seed: int) -> "BaseSampler":
        """Running trials count by what is expected of them."""
        from optuna.samplers import GPSampler

        if find_spec("torch") is None:
            raise ConfigError(f"sampler.name: gp needs PyTorch, which is not installed; {how_to_install('gp')}")
        return GPSampler(seed=seed, warn_independent_sampling=False, **dataclasses.asdict(self))


@dataclass(frozen=True, kw_only=True)
class NsgaII:
    """Evolution of a population: for several metrics, in a hundred trials or more."""

    population_size: int = key(50, low=2, help="trials of a generation; the first is drawn at random")
    crossover_prob: float = key(0.9, low=0.0, high=1.0, help="share of trials that are made of two parents")
    swapping_prob: float = key(0.5, low=0.0, high=1.0, help="share of the second parent's parameters in them")
    mutation_prob: float | None = key(
        None, low=0.0, high=1.0, help="share of parameters drawn anew; `null`: one of them all"
    )

    def build(self, study: StudyConfig, *, seed: int) -> "BaseSampler":
        """Its generations are in the storage."""
        from optuna.samplers import NSGAIISampler

        return NSGAIISampler(seed=seed, **dataclasses.asdict(self))


def build_sampler(config: StudyConfig, *, number: int) -> "BaseSampler":
    """The study's sampler for the trial of this number. Raises ConfigError where its library isn't installed.

    Draw all values of a trial before you ask for the next one: some samplers read what other trials have drawn.
    """
    from optuna.exceptions import ExperimentalWarning

    sampler: Sampler = made("samplers", config.sampler.name, config.sampler.options)
    # A seed for each trial: with a constant one, every worker would begin with the same draws.
    seed = int(np.random.SeedSequence([config.sampler.seed, number]).generate_state(1)[0])
    with warnings.catch_warnings():
        # Of QMCSampler, TPESampler's group and some options: whether to use them is the user's choice.
        warnings.simplefilter("ignore", ExperimentalWarning)
        return sampler.build(config, seed=seed)


def sampler_to_tell() -> "BaseSampler":
    """A sampler for `study.tell`, which passes each result to the study's sampler; none here learns from it."""
    from optuna.samplers import RandomSampler

    return RandomSampler(seed=0)


def _stored(study: StudyConfig, seed: int) -> dict[str, Any]:
    """For one whose state, or place in a sequence, is in the storage: its seed is the same for every trial."""
    from optuna.samplers import RandomSampler

    independent = RandomSampler(seed=seed)
    return {"seed": study.sampler.seed, "independent_sampler": independent, "warn_independent_sampling": False}
