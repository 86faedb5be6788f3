"""The search space: what trials draw, how a value is written as an override, and which corners there are."""

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import RandomSampler
from optuna.trial import FixedTrial, Trial

from brainseg.compose import freeze
from brainseg.config import flatten
from brainseg.sweep.study.parameter import Parameter, Value
from brainseg.sweep.study.space import as_overrides, corners, distributions, exact, suggest

DROPOUT = Parameter(key="model.dropout", type="float", low=0.0, high=0.5, step=0.05)
RATE = Parameter(key="optimizer.learning_rate", type="float", low=1e-5, high=1e-2, log=True)
DEPTH = Parameter(key="model.depth", type="int", low=3, high=5)
OPTIMIZER = Parameter(key="optimizer", type="categorical", choices=("adam", "adamw", "sgd"))
DECAY = Parameter(key="optimizer.weight_decay", type="float", low=0, high=0.1, when={"optimizer": ("adamw", "sgd")})
# Searched for one value of what is itself searched only sometimes.
WARMUP = Parameter(
    key="optimizer.warmup_epochs", type="int", low=0, high=2, step=2, when={"optimizer.weight_decay": (0.0,)}
)


def drawn(space: tuple[Parameter, ...], trials: int) -> list[dict[str, Value]]:
    """What so many trials of a study with a fixed seed draw."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=RandomSampler(seed=0))
    optuna.logging.set_verbosity(verbosity)
    return [suggest(study.ask(), space) for _ in range(trials)]


def test_a_trial_draws_inside_the_space() -> None:
    space = (RATE, DROPOUT, DEPTH, OPTIMIZER)
    trials = drawn(space, 200)
    assert all(list(trial) == [parameter.key for parameter in space] for trial in trials)
    assert all(parameter.holds(trial[parameter.key]) for trial in trials for parameter in space)
    assert {trial["model.depth"] for trial in trials} == {3, 4, 5}
    assert {trial["optimizer"] for trial in trials} == {"adam", "adamw", "sgd"}
    assert len({exact(trial, space)["model.dropout"] for trial in trials}) == 11


def test_a_logarithmic_range_is_drawn_evenly_in_the_logarithm() -> None:
    rates = [float(trial["optimizer.learning_rate"]) for trial in drawn((RATE,), 600)]
    by_decade = [sum(low <= rate < 10 * low for rate in rates) for low in (1e-5, 1e-4, 1e-3)]
    assert all(150 < count < 250 for count in by_decade)


def test_a_parameter_is_drawn_only_where_its_condition_holds() -> None:
    trials = drawn((OPTIMIZER, DECAY), 60)
    assert {(trial["optimizer"], "optimizer.weight_decay" in trial) for trial in trials} == {
        ("adam", False),
        ("adamw", True),
        ("sgd", True),
    }


def test_a_parameter_whose_condition_is_not_searched_is_not_searched() -> None:
    trial = FixedTrial({"optimizer": "adam", "optimizer.weight_decay": 0.0, "optimizer.warmup_epochs": 2})
    assert suggest(trial, (OPTIMIZER, DECAY, WARMUP)) == {"optimizer": "adam"}  # type: ignore[arg-type]


def test_a_trial_that_is_asked_again_gives_what_it_drew() -> None:
    study = optuna.create_study(sampler=RandomSampler(seed=0))
    space = (RATE, DROPOUT, OPTIMIZER, DECAY)
    trial = study.ask()
    first = suggest(trial, space)
    study.sampler = RandomSampler(seed=1)
    assert suggest(Trial(study, trial._trial_id), space) == first


def test_distributions_say_what_is_searched() -> None:
    assert distributions((DROPOUT, RATE, DEPTH, WARMUP, OPTIMIZER)) == {
        "model.dropout": FloatDistribution(0.0, 0.5, step=0.05),
        "optimizer.learning_rate": FloatDistribution(1e-5, 1e-2, log=True),
        "model.depth": IntDistribution(3, 5),
        "optimizer.warmup_epochs": IntDistribution(0, 2, step=2),
        "optimizer": CategoricalDistribution(("adam", "adamw", "sgd")),
    }


def test_a_sum_of_steps_has_no_rounding_error() -> None:
    sums = {"model.dropout": 3 * 0.05, "optimizer.learning_rate": 3 * 0.001, "model.depth": 4}
    assert sums["model.dropout"] != 0.15
    assert exact(sums, (DROPOUT, RATE, DEPTH)) == {
        "model.dropout": 0.15,
        "optimizer.learning_rate": 3 * 0.001,  # a range without steps holds every number
        "model.depth": 4,
    }
    assert [DROPOUT.value_at(place) for place in range(11)] == [
        0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("parameter", "inside", "outside"),
    [
        (DROPOUT, [0.0, 0.15, 3 * 0.05, 0.5], [0.12, 0.55, -0.05, "0.1", False]),
        (RATE, [1e-5, 0.00123, 1e-2], [0.0, 0.011, True]),
        (DEPTH, [3, 5], [2, 6, 3.0, "3", True]),
        (WARMUP, [0, 2], [1, 4]),
        (OPTIMIZER, ["adam"], ["lion", 0]),
        (Parameter(key="tracking_free", type="categorical", choices=(0, 1)), [0, 1], [False, True]),
    ],
    ids=lambda value: value.key if isinstance(value, Parameter) else "",
)
def test_a_space_holds_what_can_be_drawn(parameter: Parameter, inside: list[Value], outside: list[Value]) -> None:
    assert [value for value in inside + outside if parameter.holds(value)] == inside


def test_values_are_written_as_overrides() -> None:
    assert as_overrides(
        {"model.dropout": 0.2, "model.depth": 4, "optimizer": "sgd", "tracking.offline": True, "seed": 1e-05}
    ) == ["model.dropout=0.2", "model.depth=4", "optimizer=sgd", "tracking.offline=true", "seed=1e-05"]


@pytest.mark.parametrize("value", [0.1 + 0.2, 1 / 3, 1e-05, 5e-324, 1.2345678901234567e-4, 0.5])
def test_a_number_is_read_back_exactly(value: float) -> None:
    frozen = flatten(freeze(as_overrides({"optimizer.learning_rate": value})))
    assert frozen["optimizer.learning_rate"] == value


@pytest.mark.parametrize(
    "text",
    [
        "plain", "with space", "a,b", "[a]", "{a: b}", "1", "1e-3", "true", "null", "NaN", "a=b", "it's", 'say "so"',
        "back\\slash", "ends\\", 'both\\"', "\\\\", "a:b", "#no comment", "é", " led", "a.b", "(x)", "~", "c:\\d e\\",
    ],
)  # fmt: skip
def test_a_text_is_read_back_exactly(text: str) -> None:
    frozen = flatten(freeze(as_overrides({"run_name": text})))
    assert frozen["run_name"] == text


def test_corners_are_the_ends_and_every_value_of_short_grids() -> None:
    assert corners((DROPOUT, DEPTH)) == [
        {"model.dropout": dropout, "model.depth": depth} for dropout in (0.0, 0.5) for depth in (3, 4, 5)
    ]


def test_corners_leave_out_what_is_not_searched_there() -> None:
    assert corners((OPTIMIZER, DECAY)) == [
        {"optimizer": "adam"},
        {"optimizer": "adamw", "optimizer.weight_decay": 0.0},
        {"optimizer": "adamw", "optimizer.weight_decay": 0.1},
        {"optimizer": "sgd", "optimizer.weight_decay": 0.0},
        {"optimizer": "sgd", "optimizer.weight_decay": 0.1},
    ]


def test_a_value_that_a_condition_names_is_a_corner() -> None:
    filters = Parameter(key="model.base_filters", type="int", low=8, high=32)
    norm = Parameter(key="model.norm", type="categorical", choices=("none", "batch"), when={filters.key: (16,)})
    assert corners((filters, norm)) == [
        {"model.base_filters": 8},
        {"model.base_filters": 32},
        {"model.base_filters": 16, "model.norm": "none"},
        {"model.base_filters": 16, "model.norm": "batch"},
    ]


def test_too_many_corners_are_thinned_and_hold_every_value() -> None:
    many = tuple(Parameter(key=f"k.k{place}", type="int", low=0, high=4) for place in range(8))
    space = (*many, OPTIMIZER, DECAY, WARMUP)
    found = corners(space, limit=100)
    assert 50 < len(found) <= 100
    assert found == corners(space, limit=100)
    for parameter in (*many, OPTIMIZER, WARMUP):
        assert {corner[parameter.key] for corner in found if parameter.key in corner} == {
            parameter.value_at(place) for place in range(parameter.size or 0)
        }
    assert {corner.get("optimizer.weight_decay") for corner in found} == {None, 0.0, 0.1}
