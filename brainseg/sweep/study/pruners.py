"""The pruners of a study: each a frozen dataclass of the options that stand beside its name in the study file."""

import dataclasses
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from brainseg.errors import ConfigError
from brainseg.keys import key
from brainseg.plugins import made
from brainseg.sweep.study.study_file import PrunerConfig, StudyConfig, pruner_from

if TYPE_CHECKING:
    from optuna.pruners import BasePruner


class Pruner(Protocol):
    """What stops a trial that isn't worth its remaining epochs."""

    def build(self, *, epochs: int) -> "BasePruner":
        """Optuna's pruner, asked after each epoch. epochs: of a whole trial. Raises ConfigError if they don't fit."""
        ...


@dataclass(frozen=True, kw_only=True)
class Median:
    """Stops a trial whose best epoch so far is below the median of the others at that epoch."""

    n_startup_trials: int = key(5, low=0, help="trials that must be complete before any is stopped")
    n_warmup_steps: int = key(0, low=0, help="first epochs in which none is")
    interval_steps: int = key(1, low=1, help="epochs from one look to the next")
    n_min_trials: int = key(1, low=1, help="trials that must have come to the epoch")

    def build(self, *, epochs: int) -> "BasePruner":
        """Whatever the number of epochs."""
        from optuna.pruners import MedianPruner

        return MedianPruner(**dataclasses.asdict(self))


@dataclass(frozen=True, kw_only=True)
class Percentile(Median):
    """The same, unless the trial is among the best of them."""

    percentile: float = key(25.0, low=0.0, high=100.0, help="how many percent of the trials are")

    def build(self, *, epochs: int) -> "BasePruner":
        """Whatever the number of epochs."""
        from optuna.pruners import PercentilePruner

        return PercentilePruner(**dataclasses.asdict(self))


@dataclass(frozen=True, kw_only=True)
class SuccessiveHalving:
    """Lets the best of those that have come as far go on, to a multiple of their epochs (ASHA)."""

    min_resource: int = key(1, low=1, help="epochs that every trial gets")
    reduction_factor: int = key(4, low=2, help="one of so many goes on, to so many times the epochs")
    min_early_stopping_rate: int = key(0, low=0, high=100, help="how many of the first decisions are left out")
    bootstrap_count: int = key(0, low=0, help="trials that must have come as far before one goes on")

    def build(self, *, epochs: int) -> "BasePruner":
        """Raises ConfigError where no trial would ever be looked at."""
        from optuna.pruners import SuccessiveHalvingPruner

        _check_min_resource(self.min_resource, epochs=epochs, of="train.epochs")
        return SuccessiveHalvingPruner(**dataclasses.asdict(self))


@dataclass(frozen=True, kw_only=True)
class Hyperband:
    """Successive halving at several rates: many trials with few epochs, and few with all of them."""

    min_resource: int = key(1, low=1, help="epochs that every trial gets")
    max_resource: int | None = key(None, low=1, help="of a whole trial; `null`: `train.epochs`")
    reduction_factor: int = key(3, low=2, help="one of so many goes on, to so many times the epochs")
    bootstrap_count: int = key(0, low=0, help="trials that must have come as far before one goes on")

    def build(self, *, epochs: int) -> "BasePruner":
        """Raises ConfigError where no trial would ever be looked at."""
        from optuna.pruners import HyperbandPruner

        most = epochs if self.max_resource is None else self.max_resource
        _check_min_resource(self.min_resource, epochs=most, of="max_resource")
        return HyperbandPruner(**dataclasses.asdict(self) | {"max_resource": most})


@dataclass(frozen=True, kw_only=True)
class Patient:
    """Asks another pruner only once a trial has stopped getting better; without one, stops it then."""

    patience: int = key(3, low=0, help="epochs without a better one before it asks")
    min_delta: float = key(0.0, low=0.0, high=1.0, help="Dice by which the best epoch may be missed")
    pruner: dict[str, Any] | None = key(None, help="the other pruner, with its options: `{name: median}`")

    def __post_init__(self) -> None:
        if self.pruner is not None:
            self._other(self.pruner)

    def build(self, *, epochs: int) -> "BasePruner":
        """Raises ConfigError where the other pruner does."""
        from optuna.pruners import PatientPruner

        other = None if self.pruner is None else _built(self._other(self.pruner), epochs=epochs)
        return PatientPruner(other, patience=self.patience, min_delta=self.min_delta)

    @staticmethod
    def _other(content: Mapping[str, Any]) -> PrunerConfig:
        try:
            return pruner_from(content)
        except ConfigError as error:
            raise ConfigError(f"pruner.{error}") from error


@dataclass(frozen=True, kw_only=True)
class Wilcoxon:
    """With `repeat`: stops a trial between its runs, where the best trial's same runs are better beyond chance."""

    p_threshold: float = key(0.1, low=0.0, high=1.0, help="p of Wilcoxon's signed-rank test below which it stops")
    n_startup_steps: int = key(2, low=0, help="runs that a trial has in any case")

    def build(self, *, epochs: int) -> "BasePruner":
        """Whatever the number of epochs."""
        from optuna.pruners import WilcoxonPruner

        return WilcoxonPruner(**dataclasses.asdict(self))

    @property
    def least_runs(self) -> int:
        """After how many a trial can be stopped: n runs that are all worse have p = 1 / 2**n."""
        needed = max(2, self.n_startup_steps)
        while needed < 1000 and 0.5**needed >= self.p_threshold:
            needed += 1
        return needed


@dataclass(frozen=True, kw_only=True)
class Never:
    """Lets every trial finish."""

    def build(self, *, epochs: int) -> "BasePruner":
        """Whatever the number of epochs."""
        from optuna.pruners import NopPruner

        return NopPruner()


def build_pruner(config: StudyConfig, *, epochs: int) -> "BasePruner":
    """The study's pruner. epochs: how many a whole trial has. Raises ConfigError if its resources don't fit them."""
    from optuna.exceptions import ExperimentalWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # of PatientPruner, which is the user's choice
        return _built(config.pruner, epochs=epochs)


def never_stopped(config: StudyConfig, *, epochs: int) -> tuple[int, int]:
    """How many trials the pruner lets finish whatever they score, and how many epochs it lets any other one have.

    One that is a plugin's may stop each trial after its first epoch, as far as is known.
    """
    trials, least = _never_stopped(config.pruner, epochs=epochs, runs=config.runs)
    return min(trials, config.trials), min(max(least, 1), epochs)


def _never_stopped(config: PrunerConfig, *, epochs: int, runs: int = 1) -> tuple[int, int]:
    match made("pruners", config.name, config.options):
        case Never():
            return 0, epochs
        case Median() as median:
            return max(median.n_startup_trials, 1), median.n_warmup_steps
        case SuccessiveHalving() as halving:
            return 0, halving.min_resource * halving.reduction_factor**halving.min_early_stopping_rate
        case Hyperband() as hyperband:
            return 0, hyperband.min_resource
        case Wilcoxon() as wilcoxon:
            return 1, wilcoxon.least_runs * epochs // runs
        case Patient(pruner=None) as patient:
            return 0, patient.patience + 1
        case Patient(pruner=dict(content)) as patient:
            trials, least = _never_stopped(pruner_from(content), epochs=epochs)
            return trials, max(least, patient.patience + 1)
        case _:
            return 0, 1


def _built(config: PrunerConfig, *, epochs: int) -> "BasePruner":
    pruner: Pruner = made("pruners", config.name, config.options)
    return pruner.build(epochs=epochs)


def _check_min_resource(value: int, *, epochs: int, of: str) -> None:
    if value > epochs:
        raise ConfigError(
            f"pruner.min_resource must be at most {of} = {epochs} epochs, got {value}; lower it, or raise train.epochs"
        )
