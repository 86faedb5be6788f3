"""Which configurations of a study are trained again, with which seeds: a study of its own, `NAME.confirm`."""

import dataclasses
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from brainseg.errors import ConfigError
from brainseg.scoring.winners import FEWEST_SEEDS
from brainseg.sweep.study.parameter import Parameter, Value
from brainseg.sweep.study.space import exact
from brainseg.sweep.study.study_file import PrunerConfig, SamplerConfig, StudyConfig
from brainseg.sweep.study.study_rules import PRUNABLE

if TYPE_CHECKING:  # it imports Optuna, which a report of runs never needs
    from brainseg.sweep.engine.trial_row import TrialRow

SUFFIX = ".confirm"
SEED = "seed"


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A configuration of the study that is trained again."""

    params: Mapping[str, Value]
    trial: int | None  # of the study; None for a baseline that isn't complete there
    value: float | None  # what the study has found for its metric
    is_baseline: bool

    @property
    def name(self) -> str:
        """`baseline` or `trial 7`."""
        return "baseline" if self.is_baseline else f"trial {self.trial}"


def check_study(config: StudyConfig, *, front: bool) -> None:
    """Raises ConfigError for a study whose winners can't be confirmed, whatever its data.

    front: whether those of its Pareto front are meant.
    """
    name, metrics = config.name, " and ".join(config.metrics)
    if not set(PRUNABLE).intersection(config.metrics):
        raise ConfigError(f"{name} has {metrics}, and confirm is for studies of {' or '.join(PRUNABLE)}")
    if len(config.metrics) > 1 and not front:
        raise ConfigError(f"{name} has {metrics}, and no best trial therefore; confirm its whole front with --front")
    if len(config.metrics) == 1 and front:
        raise ConfigError(f"{name} has {metrics} alone, and no front therefore; leave --front out")
    if not config.baseline:
        raise ConfigError(f"{name} has no baseline to compare with; start one with baseline: in its file")
    if split := next((key for key in config.repeat if key != SEED), None):
        raise ConfigError(
            f"{name} repeats {split}, so that its trials were chosen on each other's test slices, and confirm needs "
            "slices that none has seen; start a study with data.test_fraction=0.2 and repeat: {seed: [0, 1, 2]}"
        )
    if any(parameter.key == SEED for parameter in config.space):
        raise ConfigError(f"{name} searches {SEED}, and confirm tries new seeds; leave it out of the space")


def dice_of(config: StudyConfig) -> str:
    """The metric that is confirmed: the first that is a Dice."""
    return next(metric for metric in config.metrics if metric in PRUNABLE)


def check_test_part(config: StudyConfig, people: Collection[Hashable]) -> None:
    """Raises ConfigError without a test part of two people or more. people: of each of its slices."""
    if not people:
        raise ConfigError(
            f"{config.name} has no test part: its trials were chosen on all that they weren't trained on; start one "
            "with data.test_fraction=0.2, or with data.folds=5 data.fold=0, whose test part is a fold"
        )
    if len(set(people)) == 1:
        raise ConfigError(
            f"the test part of {config.name} is of one person, who says nothing of others; start a study with more"
        )


def chosen(config: StudyConfig, rows: "Sequence[TrialRow]", *, top: int) -> list[Candidate]:
    """The baseline, and the best trials of the study with other values, the best first; at most `top`.

    rows: the study's complete trials, the best first. Raises ConfigError where there is none but the baseline.
    """
    if top < 1:
        raise ConfigError(f"--top must be 1 or more, got {top}")
    found = [_candidate(config, config.baseline, rows, is_baseline=True)]
    for row in rows:
        params = exact(row.params, config.space)
        if all(params != each.params for each in found):
            found.append(_candidate(config, params, rows, is_baseline=False))
    if len(found) == 1:
        raise ConfigError(f"{config.name} has no complete trial besides its baseline; go on with it first")
    return found[: top + 1]


def confirm_config(
    config: StudyConfig, candidates: Sequence[Candidate], *, study_seed: int, seeds: int, workers: int
) -> StudyConfig:
    """The study that trains each candidate with each of so many seeds that the study hasn't had.

    Seed by seed, so that what is there when it is stopped compares all candidates. Raises ConfigError for too few.
    """
    if seeds < FEWEST_SEEDS:
        raise ConfigError(f"--seeds must be {FEWEST_SEEDS} or more, got {seeds}: one says nothing of others")
    metric = dice_of(config)
    last = max([study_seed, *(int(str(seed)) for seed in config.repeat.get(SEED, ()))])
    new = tuple(range(last + 1, last + 1 + seeds))
    points = tuple({**each.params, SEED: seed} for seed in new for each in candidates)
    return dataclasses.replace(
        config,
        name=f"{config.name}{SUFFIX}",
        metrics={metric: config.metrics[metric]},
        trials=len(points),
        baseline={},
        enqueue=points,
        space=(*config.space, Parameter(key=SEED, type="categorical", choices=new)),
        sampler=SamplerConfig(name="random"),
        pruner=PrunerConfig(name="none"),
        constraints=(),
        repeat={},  # a trial for each seed instead: its runs are compared one by one
        workers=workers,
        failures=0,  # no trial takes the place of one
        time_limit_min=None,
    )


def stored(config: StudyConfig, confirming: StudyConfig, rows: "Sequence[TrialRow]") -> list[Candidate]:
    """The candidates of a confirming study that has begun. rows: as in `chosen`."""
    found: list[Candidate] = []
    for point in confirming.enqueue:
        params = {key: value for key, value in point.items() if key != SEED}
        if all(params != each.params for each in found):
            found.append(_candidate(config, params, rows, is_baseline=not found))
    return found


def seeds_of(confirming: StudyConfig) -> tuple[int, ...]:
    """The seeds of a confirming study, in their order."""
    return tuple(dict.fromkeys(int(str(point[SEED])) for point in confirming.enqueue))


def _candidate(
    config: StudyConfig, params: Mapping[str, Value], rows: "Sequence[TrialRow]", *, is_baseline: bool
) -> Candidate:
    row = next((row for row in rows if exact(row.params, config.space) == params), None)
    return Candidate(
        params=params,
        trial=None if row is None else row.number,
        value=None if row is None else row.values[0],
        is_baseline=is_baseline,
    )
