"""The samplers and pruners: what they draw depends on the study's seed and the trial's number alone."""

import dataclasses
import math
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.pruners import HyperbandPruner, MedianPruner
from optuna.study import Study, StudyDirection
from optuna.trial import TrialState
from study_files import LEFT_OUT, SMALL, made_study

from brainseg import plugins
from brainseg.errors import ConfigError
from brainseg.keys import key
from brainseg.sweep.study.parameter import Value
from brainseg.sweep.study.plan import check, first_trials
from brainseg.sweep.study.pruners import build_pruner
from brainseg.sweep.study.samplers import build_sampler, sampler_to_tell
from brainseg.sweep.study.space import exact, suggest
from brainseg.sweep.study.study_file import StudyConfig

SAMPLERS: dict[str, dict[str, Any]] = {
    "tpe": {"name": "tpe", "n_startup_trials": 3},
    "random": {"name": "random"},
    "grid": {"name": "grid"},
    "cmaes": {"name": "cmaes", "popsize": 4},
    "cmaes with margin": {"name": "cmaes", "with_margin": True},
    "qmc": {"name": "qmc"},
    "qmc halton": {"name": "qmc", "qmc_type": "halton", "scramble": True},
    "gp": {"name": "gp", "n_startup_trials": 3},
    "nsgaii": {"name": "nsgaii", "population_size": 4},
}
IF_THERE = (pytest.mark.slow, pytest.mark.skipif(find_spec("torch") is None, reason="gp needs PyTorch"))


def named(*names: str) -> list[Any]:
    """Of SAMPLERS, for `parametrize`."""
    return [pytest.param(SAMPLERS[name], id=name, marks=IF_THERE if name == "gp" else ()) for name in names]


CONDITIONAL: dict[str, Any] = {
    "space": {
        "optimizer": {"type": "categorical", "choices": ["adam", "sgd"]},
        "optimizer.learning_rate": {
            "type": "float", "low": 1e-5, "high": 1.0, "log": True, "when": {"optimizer": "sgd"}
        },
        "model.depth": {"type": "int", "low": 1, "high": 5},
    },
    "baseline": {},
}  # fmt: skip
SEVERAL: dict[str, Any] = {
    "metric": LEFT_OUT,
    "direction": LEFT_OUT,
    "metrics": {"final_dice": "maximize", "parameters": "minimize"},
}


@pytest.fixture(autouse=True)
def quiet() -> Any:
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(verbosity)


def new_study(config: StudyConfig, *, epochs: int = 9) -> Study:
    study = optuna.create_study(
        directions=[StudyDirection[each.upper()] for each in config.metrics.values()],
        pruner=build_pruner(config, epochs=epochs),
    )
    for _, params in config.first_points():
        study.enqueue_trial(dict(params))
    return study


def worked_through(config: StudyConfig, trials: int, *, workers: int = 1) -> list[dict[str, Value]]:
    """What the trials are where `workers` trials run at a time and each scores by its values."""
    study, drawn = new_study(config), []
    running: list[optuna.Trial] = []
    for number in range(trials):
        if len(running) == workers:
            tell(study, running.pop(0))
        study.sampler = build_sampler(config, number=number)
        running.append(study.ask())
        drawn.append(exact(suggest(running[-1], config.space), config.space))
    for trial in running:
        tell(study, trial)
    return drawn


def tell(study: Study, trial: optuna.Trial) -> None:
    study.sampler = sampler_to_tell()
    score = -sum(abs(value - 0.2) for value in trial.params.values() if not isinstance(value, str))
    study.tell(trial, [score] * len(study.directions))


@pytest.mark.parametrize("sampler", named(*SAMPLERS))
@pytest.mark.parametrize("workers", [1, 3])
def test_a_study_draws_the_same_trials_again(tmp_path: Path, sampler: dict[str, Any], workers: int) -> None:
    config = made_study(tmp_path, sampler=sampler)
    drawn = worked_through(config, 12, workers=workers)
    assert drawn == worked_through(config, 12, workers=workers)
    assert drawn[0] == SMALL["baseline"]
    assert all(parameter.holds(trial[parameter.key]) for trial in drawn for parameter in config.space)
    assert len({tuple(trial.items()) for trial in drawn}) > 6


@pytest.mark.parametrize("sampler", named("tpe", "random", "grid", "qmc halton", "gp", "nsgaii"))
def test_another_seed_draws_other_trials(tmp_path: Path, sampler: dict[str, Any]) -> None:
    one, other = (made_study(tmp_path, sampler=sampler | {"seed": seed}) for seed in (0, 1))
    assert worked_through(one, 6)[1:] != worked_through(other, 6)[1:]


@pytest.mark.parametrize("sampler", named("tpe", "random", "gp", "nsgaii"))
@pytest.mark.parametrize("changes", [{}, SEVERAL], ids=["one metric", "two metrics"])
def test_conditions_are_respected_by_the_samplers_that_can(
    tmp_path: Path, sampler: dict[str, Any], changes: dict[str, Any]
) -> None:
    config = made_study(tmp_path, **CONDITIONAL, **changes, sampler=sampler)
    drawn = worked_through(config, 20)
    assert {(trial["optimizer"], "optimizer.learning_rate" in trial) for trial in drawn} == {
        ("adam", False),
        ("sgd", True),
    }


@pytest.mark.parametrize("sampler", named("tpe", "gp", "nsgaii"))
def test_some_learn_from_the_scores(tmp_path: Path, sampler: dict[str, Any]) -> None:
    space = {"model.depth": CONDITIONAL["space"]["model.depth"], "model.dropout": SMALL["space"]["model.dropout"]}
    config = made_study(tmp_path, space=space, baseline={}, trials=40, sampler=sampler)
    depths = [int(trial["model.depth"]) for trial in worked_through(config, 40)]
    # The best depth is the lowest; at random, their mean would be 3.
    assert sum(depths[20:]) / 20 < 2.5


def test_a_grid_has_each_point_once_with_the_baseline_among_them(tmp_path: Path) -> None:
    config = made_study(
        tmp_path, sampler={"name": "grid"}, trials=33, enqueue=[{"model.dropout": 0.5, "model.depth": 3}]
    )
    drawn = worked_through(config, 33, workers=3)
    assert drawn[:2] == [SMALL["baseline"], {"model.dropout": 0.5, "model.depth": 3}]
    assert sorted(tuple(trial.values()) for trial in drawn) == [
        (round(0.05 * step, 2), depth) for step in range(11) for depth in (3, 4, 5)
    ]


def test_a_grid_is_whole_with_a_pruner_that_sees_brackets_only(tmp_path: Path) -> None:
    config = made_study(tmp_path, sampler={"name": "grid"}, pruner={"name": "hyperband"}, trials=33)
    assert len({tuple(trial.values()) for trial in worked_through(config, 33)}) == 33


def test_a_point_of_the_grid_that_failed_comes_again_last(tmp_path: Path) -> None:
    space = {"model.depth": {"type": "int", "low": 3, "high": 5}}
    config = made_study(tmp_path, sampler={"name": "grid"}, trials=3, space=space, baseline={"model.depth": 4})
    study = new_study(config)
    depths = []
    for number, state in enumerate([TrialState.FAIL, *[TrialState.COMPLETE] * 3]):
        study.sampler = build_sampler(config, number=number)
        trial = study.ask()
        depths.append(suggest(trial, config.space)["model.depth"])
        study.tell(trial, 0.5 if state == TrialState.COMPLETE else None, state)
    assert depths[0] == depths[3] == 4
    assert sorted(depths[:3]) == [3, 4, 5]


def test_quasi_random_trials_fill_the_space_evenly(tmp_path: Path) -> None:
    space = {
        "model.dropout": {"type": "float", "low": 0.0, "high": 0.8},
        "optimizer.learning_rate": {"type": "float", "low": 1e-4, "high": 1e-2, "log": True},
    }
    config = made_study(tmp_path, space=space, baseline={}, sampler={"name": "qmc", "scramble": True})
    # The first trial is drawn at random; of 8 points of Sobol's, each quarter of each axis has 2.
    drawn = worked_through(config, 9, workers=2)[1:]
    assert sorted(math.floor(float(trial["model.dropout"]) / 0.2) for trial in drawn) == [0, 0, 1, 1, 2, 2, 3, 3]
    rates = [math.log10(float(trial["optimizer.learning_rate"])) for trial in drawn]
    assert sorted(math.floor((rate + 4) / 0.5) for rate in rates) == [0, 0, 1, 1, 2, 2, 3, 3]


def test_the_pruner_is_the_one_of_the_file(tmp_path: Path) -> None:
    def pruner(**content: Any) -> Any:
        return build_pruner(made_study(tmp_path, pruner=content), epochs=9)

    median = pruner(name="median", n_startup_trials=7, n_warmup_steps=3, interval_steps=2, n_min_trials=4)
    assert type(median) is MedianPruner
    settings = (median._n_startup_trials, median._n_warmup_steps, median._interval_steps, median._n_min_trials)
    assert settings == (7, 3, 2, 4)
    hyperband = pruner(name="hyperband", reduction_factor=2)
    assert type(hyperband) is HyperbandPruner
    assert (hyperband._max_resource, hyperband._reduction_factor) == (9, 2)
    assert pruner(name="hyperband", max_resource=5)._max_resource == 5


def test_a_hyperband_that_needs_more_epochs_than_there_are_is_refused(tmp_path: Path) -> None:
    config = made_study(tmp_path, pruner={"name": "hyperband", "min_resource": 10})
    with pytest.raises(ConfigError) as error:
        build_pruner(config, epochs=9)
    assert str(error.value) == (
        "pruner.min_resource must be at most max_resource = 9 epochs, got 10; lower it, or raise train.epochs"
    )


HALF: dict[str, Any] = {"name": "median", "n_startup_trials": 4}
FEW: dict[str, Any] = {"name": "percentile", "n_startup_trials": 4}


@pytest.mark.parametrize(
    ("pruner", "epoch"),
    [
        ({"name": "none"}, None),
        (HALF, 1),  # the median is 0.25
        (FEW, 1),  # three quarters have at most 0.325
        (FEW | {"percentile": 75.0}, None),  # and a quarter 0.175
        ({"name": "successive_halving", "min_resource": 2, "reduction_factor": 2}, 2),  # the best two of five go on
        ({"name": "patient", "patience": 1}, 3),  # the best of epochs 2 and 3 is below epoch 1
        ({"name": "patient", "patience": 1, "min_delta": 0.05}, None),
        ({"name": "patient", "patience": 1, "pruner": HALF}, 3),
        ({"name": "patient", "patience": 1, "pruner": FEW | {"percentile": 75.0}}, None),
    ],
    ids=str,
)
def test_a_pruner_stops_a_trial_that_falls_from_the_middle(
    tmp_path: Path, pruner: dict[str, Any], epoch: int | None
) -> None:
    study = new_study(made_study(tmp_path, pruner=pruner, baseline={}), epochs=4)
    for value in (0.1, 0.2, 0.3, 0.4):
        assert stopped_at(study, [value] * 4) is None
    assert stopped_at(study, [0.24, 0.23, 0.22, 0.21]) == epoch


def stopped_at(study: Study, curve: list[float]) -> int | None:
    """The epoch after which a trial with these values is stopped; else it is completed."""
    trial = study.ask()
    for epoch, value in enumerate(curve, start=1):
        trial.report(value, epoch)
        if trial.should_prune():
            return epoch
    study.tell(trial, max(curve))
    return None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Low:
    """A sampler of a plugin's: the lowest of a few draws."""

    draws: int = key(2, low=1, help="how many")

    def build(self, study: StudyConfig, *, seed: int) -> optuna.samplers.BaseSampler:
        assert study.sampler.name == "low"
        return optuna.samplers.CmaEsSampler(seed=seed, n_startup_trials=self.draws)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Below:
    """A pruner of a plugin's: what falls below a value."""

    value: float = key(0.5, low=0.0, high=1.0, help="the least")

    def build(self, *, epochs: int) -> optuna.pruners.BasePruner:
        return optuna.pruners.ThresholdPruner(lower=self.value)


def test_samplers_and_pruners_may_come_from_plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(plugins._registered["samplers"], "low", Low)
    monkeypatch.setitem(plugins._registered["pruners"], "below", Below)
    config = made_study(
        tmp_path, sampler={"name": "low", "draws": 3}, pruner={"name": "below", "value": 0.23}, baseline={}
    )
    assert worked_through(config, 6) == worked_through(config, 6)
    assert stopped_at(new_study(config), [0.24, 0.23, 0.22]) == 3
    assert first_trials(config, 4) == []  # whether it looks at scores isn't known
    with pytest.raises(ConfigError, match=r"sampler.drawn is not an option of low; did you mean 'draws'\?"):
        made_study(tmp_path, sampler={"name": "low", "drawn": 3})
    with pytest.raises(ConfigError, match=r"pruner.value must be between 0.0 and 1.0, got 2"):
        made_study(tmp_path, pruner={"name": "below", "value": 2})


def test_a_sampler_without_its_library_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("brainseg.sweep.study.samplers.find_spec", lambda name: None)
    with pytest.raises(ConfigError) as error:
        check(made_study(tmp_path, sampler={"name": "gp"}))
    assert (
        str(error.value)
        == "sampler.name: gp needs PyTorch, which is not installed; pip install '.[gp]' in the clone of brainseg"
    )
