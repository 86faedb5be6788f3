"""A study's definition: JSON that gives the same study again, and says what changed."""

import json
from pathlib import Path
from typing import Any

import pytest
from study_files import LEFT_OUT, SMALL, made_study

from brainseg.errors import ConfigError
from brainseg.sweep.study.definition import definition_of, differences, from_definition
from brainseg.sweep.study.study_file import StudyConfig

EVERYTHING: dict[str, Any] = {
    "metric": LEFT_OUT,
    "direction": LEFT_OUT,
    "metrics": {"parameters": "minimize", "final_dice": "maximize"},
    "overrides": ["train.epochs=4", "data.root=here", "tracking.uri=http://me:secret@host"],
    "enqueue": [{"model.dropout": 0.5, "model.depth": 5, "optimizer.learning_rate": 1e-3}],
    "space": SMALL["space"]
    | {
        "optimizer.learning_rate": {
            "type": "float", "low": 1e-4, "high": 1e-2, "log": True, "when": {"model.depth": [5]}
        },
    },
    "sampler": {"name": "tpe", "seed": 3, "n_startup_trials": 4},
    "constraints": ["parameters <= 2e6"],
    "workers": 2,
    "failures": 5,
    "retries": 0,
    "time_limit_min": 9,
}  # fmt: skip


def lines_of(stored: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """A line for each difference."""
    return [f"{key}: {change}" for key, change in differences(stored, now).items()]


def defined(config: StudyConfig, data_fingerprint: str = "abc") -> dict[str, Any]:
    """The definition as it comes back from a storage."""
    stored: dict[str, Any] = json.loads(json.dumps(definition_of(config, data_fingerprint=data_fingerprint)))
    return stored


REPEATED: dict[str, Any] = {"repeat": {"seed": [0, 1, 2]}}


@pytest.mark.parametrize("changes", [{}, EVERYTHING, REPEATED], ids=["small", "everything", "repeated"])
def test_a_definition_gives_the_study_again(tmp_path: Path, changes: dict[str, Any]) -> None:
    config = made_study(tmp_path, **changes)
    again = from_definition(
        defined(config),
        name=config.name,
        trials=config.trials,
        tracking=config.tracking,
        workers=config.workers,
        failures=config.failures,
        retries=config.retries,
        time_limit_min=config.time_limit_min,
    )
    assert again == config
    assert list(again.metrics) == list(config.metrics)


def test_a_definition_is_this(tmp_path: Path) -> None:
    assert defined(made_study(tmp_path, **EVERYTHING)) == {
        "schema_version": 1,
        "metrics": [["parameters", "minimize"], ["final_dice", "maximize"]],
        "overrides": ["train.epochs=4", "data.root=here"],
        "baseline": {"model.dropout": 0.1, "model.depth": 4},
        "enqueue": [{"model.dropout": 0.5, "model.depth": 5, "optimizer.learning_rate": 1e-3}],
        "space": [
            {
                "key": "model.dropout", "type": "float", "low": 0.0, "high": 0.5, "step": 0.05, "log": False,
                "choices": [], "when": {},
            },
            {
                "key": "model.depth", "type": "int", "low": 3, "high": 5, "step": None, "log": False,
                "choices": [], "when": {},
            },
            {
                "key": "optimizer.learning_rate", "type": "float", "low": 1e-4, "high": 1e-2, "step": None, "log": True,
                "choices": [], "when": {"model.depth": [5]},
            },
        ],
        "sampler": {"name": "tpe", "seed": 3, "options": {"n_startup_trials": 4}},
        "pruner": {"name": "none", "options": {}},
        "constraints": ["parameters <= 2e6"],
        "data_fingerprint": "abc",
    }  # fmt: skip


def test_a_worker_elsewhere_has_its_own_folder_of_data(tmp_path: Path) -> None:
    stored = defined(made_study(tmp_path, overrides=["data=folder", "data.root=here"]))
    config = from_definition(stored, name="study", trials=2, overrides=["data.root=there"])
    assert config.overrides == ("data=folder", "data.root=here", "data.root=there")


def test_how_long_and_where_is_no_part_of_a_study(tmp_path: Path) -> None:
    now = {"trials": 99, "workers": 4, "failures": 9, "retries": 2, "time_limit_min": 5}
    elsewhere = ["data.root=elsewhere", "data.cache_dir=there", "tracking.root=there"]
    before = made_study(tmp_path, overrides=["data.root=here"])
    assert lines_of(defined(before), defined(made_study(tmp_path, overrides=elsewhere, **now))) == []


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        (
            {
                "space": SMALL["space"] | {"model.depth": {"type": "int", "low": 3, "high": 6, "step": 3}},
                "baseline": {},
            },
            [
                "baseline.model.dropout: 0.1 -> nothing",
                "baseline.model.depth: 4 -> nothing",
                "space.model.depth.high: 5 -> 6",
                "space.model.depth.step: nothing -> 3",
            ],
        ),
        (
            {
                "space": {
                    "model.dropout": SMALL["space"]["model.dropout"] | {"step": 0.1},
                    "model.norm": {"type": "categorical", "choices": ["none", "batch"]},
                },
                "baseline": {"model.dropout": 0.1, "model.norm": "none"},
            },
            [
                "baseline.model.depth: 4 -> nothing",
                "space.model.dropout.step: 0.05 -> 0.1",
                "space.model.depth: a whole number between 3 and 5 -> nothing",
                "baseline.model.norm: nothing -> none",
                "space.model.norm: nothing -> one of none, batch",
            ],
        ),
        (
            {"metric": "final_dice"},
            ["metrics: val_dice_image (maximize) -> final_dice (maximize)"],
        ),
        (
            {"overrides": ["train.epochs=4", "train.epochs=8", "seed=1"]},
            ["overrides.train.epochs: 6 -> 8", "overrides.seed: nothing -> 1"],
        ),
        (
            {"sampler": {"name": "random", "seed": 1}, "pruner": {"n_warmup_steps": 2}},
            ["sampler.name: tpe -> random", "sampler.seed: 0 -> 1", "pruner.n_warmup_steps: nothing -> 2"],
        ),
        (
            {"pruner": {"name": "patient", "pruner": {"name": "percentile"}}},
            ["pruner.name: median -> patient", "pruner.pruner.name: nothing -> percentile"],
        ),
        ({"constraints": ["parameters <= 9"]}, ["constraints[0]: nothing -> parameters <= 9"]),
        (
            {"enqueue": [SMALL["baseline"]]},
            ["enqueue[0].model.dropout: nothing -> 0.1", "enqueue[0].model.depth: nothing -> 4"],
        ),
    ],
    ids=[
        "a range",
        "a parameter",
        "the metric",
        "an override",
        "the sampler",
        "the pruner",
        "a constraint",
        "a further trial",
    ],
)
def test_what_changed_is_said_line_by_line(tmp_path: Path, changes: dict[str, Any], lines: list[str]) -> None:
    fixed = {"overrides": ["train.epochs=6"]}
    stored = defined(made_study(tmp_path, **fixed))
    assert lines_of(stored, defined(made_study(tmp_path, **(fixed | changes)))) == lines


def test_a_changed_condition_is_said(tmp_path: Path) -> None:
    depths = SMALL["space"]
    one, other = (
        made_study(
            tmp_path,
            baseline={},
            space=depths | {"seed": {"type": "int", "low": 0, "high": 9, "when": {"model.depth": values}}},
        )
        for values in ([5], [4, 5])
    )
    assert lines_of(defined(one), defined(other)) == ["space.seed.when.model.depth: [5] -> [4, 5]"]


def test_other_data_are_said(tmp_path: Path) -> None:
    config = made_study(tmp_path)
    assert lines_of(defined(config, "abc"), defined(config, "def")) == ["data_fingerprint: abc -> def"]


def test_a_definition_of_another_version_is_refused(tmp_path: Path) -> None:
    now = defined(made_study(tmp_path))
    newer = now | {"schema_version": 3}
    message = (
        "the study has schema_version 3, and this brainseg reads 1 and 2; "
        "go on with the brainseg that started it, or start a new study under another name"
    )
    with pytest.raises(ConfigError) as error:
        differences(newer, now)
    assert str(error.value) == message
    with pytest.raises(ConfigError) as error:
        from_definition(newer, name="study", trials=1)
    assert str(error.value) == message
