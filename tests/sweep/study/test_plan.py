"""The plan: every trial composes before any runs, and what is wrong is blamed on the right key."""

import re
from pathlib import Path
from typing import Any

import pytest
from study_files import SMALL, made_study

from brainseg.compose import freeze
from brainseg.config import RunConfig, flatten
from brainseg.errors import ConfigError
from brainseg.sweep.study.plan import check, compose_trial, first_trials
from brainseg.sweep.study.space import corners
from brainseg.sweep.study.study_file import StudyConfig, read_study, sweeps_folder

GROUP: dict[str, Any] = {
    "space": {
        "optimizer": {"type": "categorical", "choices": ["adam", "adamw", "sgd"]},
        "optimizer.weight_decay": {"type": "float", "low": 0.0, "high": 0.1, "when": {"optimizer": ["adamw", "sgd"]}},
        "model.depth": {"type": "int", "low": 1, "high": 5},
    },
    "baseline": {"optimizer": "sgd", "optimizer.weight_decay": 0.05, "model.depth": 3},
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def changed(config: RunConfig) -> dict[str, Any]:
    """The keys that aren't at their defaults."""
    default = flatten(RunConfig())
    return {key: value for key, value in flatten(config).items() if value != default[key]}


def test_the_plan_is_the_configuration_of_the_baseline(tmp_path: Path) -> None:
    config = made_study(tmp_path, overrides=["train.epochs=4", "tracking.root=there"])
    assert changed(check(config)) == {"model.depth": 4, "train.epochs": 4, "tracking.root": "there"}


def test_without_a_baseline_the_plan_is_the_first_corner(tmp_path: Path) -> None:
    assert changed(check(made_study(tmp_path, baseline={}))) == {"model.depth": 3, "model.dropout": 0.0}


@pytest.mark.heavy
@pytest.mark.parametrize("path", sorted(sweeps_folder().glob("*.yaml")), ids=lambda path: path.stem)
def test_every_trial_of_a_carried_study_composes(path: Path) -> None:
    overrides = ["data.root=somewhere"] if "  - experiment=" in path.read_text() else []
    config = read_study(path.stem, overrides=overrides)
    assert flatten(check(config)).items() >= config.baseline.items()


def test_the_study_in_the_manual_is_one(tmp_path: Path) -> None:
    page = (sweeps_folder().parent / "docs" / "sweeps.md").read_text(encoding="utf-8")
    name, text = re.findall(r"^```yaml\n# sweeps/(\w+)\.yaml\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)[0]
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / f"{name}.yaml").write_text(text)
    config = read_study(name)
    assert flatten(check(config))["model.norm"] == "none"
    assert len(first_trials(config, 20)) == 6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"space": {"model.dropot": SMALL["space"]["model.dropout"]}, "baseline": {}},
            "space.model.dropot: model.dropot is not a configuration key; did you mean 'model.dropout'?",
        ),
        (
            {"space": {"model.dropout": {"type": "float", "low": 0.0, "high": 0.95}}, "baseline": {}},
            "space.model.dropout: 0.95 is refused: model.dropout must be between 0.0 and 0.9, got 0.95",
        ),
        (
            {"space": {"model.depth": {"type": "int", "low": 3, "high": 7}}, "baseline": {}},
            "space.model.depth: 6 is refused: "
            "data.image_size must be divisible by 2**model.depth = 64, got 96; try 128",
        ),
        (
            {"space": {"model.depth": {"type": "categorical", "choices": [3, "deep"]}}, "baseline": {}},
            "space.model.depth: deep is refused: model.depth must be a whole number, got 'deep'",
        ),
        (
            {"space": {"tracking_": SMALL["space"]["model.depth"]}, "baseline": {}},
            "space.tracking_: tracking_ is not a configuration key; did you mean 'tracking'?",
        ),
        (
            {
                "space": {
                    "model.dropout": SMALL["space"]["model.dropout"],
                    "data.image_size": {"type": "categorical", "choices": [32, 40, 96]},
                    "model.depth": SMALL["space"]["model.depth"],
                },
                "baseline": {},
            },
            "space: data.image_size=40 with model.depth=4 is refused: "
            "data.image_size must be divisible by 2**model.depth = 16, got 40; try 32; narrow one of them",
        ),
        (
            GROUP | {"space": GROUP["space"] | {"optimizer.weight_decay": {"type": "float", "low": 0, "high": 0.1}}},
            "space: optimizer=adam with optimizer.weight_decay=0.1 is refused: "
            "optimizer.weight_decay must be 0 for optimizer.name=adam, got 0.1; "
            "use optimizer=adamw for decoupled weight decay; narrow one of them",
        ),
        (
            {"space": {"optimizer": {"type": "categorical", "choices": ["adam", "adamv"]}}, "baseline": {}},
            "space.optimizer: adamv is refused: "
            "optimizer must be one of adafactor, adam, adamw, lamb, lion, muon, nadam, rmsprop, sgd, got 'adamv'; "
            "did you mean 'adam'?",
        ),
        (
            {
                "space": {"optimizer": {"type": "categorical", "choices": ["adam", "sgd"]}},
                "baseline": {},
                "overrides": ["experiment=reference", "data.root=here"],
            },
            "space.optimizer: its choices all give the same configuration, since other overrides "
            "set every optimizer.* key; search those keys, or leave out what sets them",
        ),
        (
            {
                "space": {"model.depth": {"type": "int", "low": 1, "high": 101, "step": 4}},
                "baseline": {"model.depth": 5},
            },
            "space.model.depth: 101 is refused: model.depth must be between 1 and 8, got 101",
        ),
        (
            {
                "space": {"data.image_size": {"type": "int", "low": 32, "high": 320, "step": 8}},
                "baseline": {"data.image_size": 40},
            },
            "baseline: data.image_size must be divisible by 2**model.depth = 32, got 40; try 32",
        ),
        (
            {"pruner": {"name": "hyperband", "min_resource": 10}, "overrides": ["train.epochs=9"]},
            "pruner.min_resource must be at most max_resource = 9 epochs, got 10; lower it, or raise train.epochs",
        ),
    ],
)
def test_what_cannot_run_is_blamed_on_the_right_key(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        check(made_study(tmp_path, **changes))
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data=folder", "data.root must name a folder of images and masks for data.name=folder; add data.root=DIR"),
        ("train.epochs=0", "train.epochs must be between 1 and 100000, got 0"),
        ("train.epoch=3", "train.epoch is not a configuration key; did you mean 'train.epochs'?"),
        ("seed=1,2", "seed=1,2 gives several values; add -m for a run of each"),
        ("tracking.predictions=101", "tracking.predictions must be between 0 and 100, got 101"),
    ],
)
def test_a_wrong_override_is_not_blamed_on_the_space(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        check(made_study(tmp_path, overrides=[override]))
    assert str(error.value) == message


def test_a_trial_is_what_its_overrides_compose_to(tmp_path: Path) -> None:
    config = made_study(tmp_path, **GROUP, overrides=["model.base_filters=4", "tracking.experiment=a b"])
    params = {"optimizer": "sgd", "optimizer.weight_decay": 0.1, "model.depth": 2}
    run, overrides = compose_trial(config, params, threads=3)
    assert overrides == [
        "model.base_filters=4",
        "tracking.experiment=a b",
        "optimizer=sgd",
        "optimizer.weight_decay=0.1",
        "model.depth=2",
        "train.threads=3",
    ]
    assert run == freeze(overrides)
    assert changed(run) == {
        "model.base_filters": 4,
        "model.depth": 2,
        "optimizer.name": "sgd",
        "optimizer.learning_rate": 0.01,
        "optimizer.weight_decay": 0.1,
        "train.threads": 3,
        "tracking.experiment": "a b",
    }


@pytest.mark.heavy
@pytest.mark.parametrize("changes", [{}, GROUP], ids=["values", "a group"])
def test_every_corner_is_what_hydra_makes_of_it(tmp_path: Path, changes: dict[str, Any]) -> None:
    config = made_study(tmp_path, **changes, overrides=["experiment=small"])
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    (tmp_path / "conf" / "experiment" / "small.yaml").write_text(
        # A value that follows from a searched one.
        "# @package _global_\nmodel: {base_filters: 8}\nseed: ${model.depth}\n"
    )
    for params in corners(config.space):
        run, overrides = compose_trial(config, params, threads=1)
        assert run == freeze(overrides)
        assert (run.seed, run.model.base_filters) == (params["model.depth"], 8)


def test_threads_that_are_fixed_stay(tmp_path: Path) -> None:
    config = made_study(tmp_path, overrides=["train.threads=1"])
    run, overrides = compose_trial(config, SMALL["baseline"], threads=3)
    assert run.train.threads == 1
    assert [each for each in overrides if each.startswith("train.threads")] == ["train.threads=1"]


def test_a_sum_of_steps_is_written_without_its_rounding_error(tmp_path: Path) -> None:
    run, overrides = compose_trial(made_study(tmp_path), {"model.dropout": 3 * 0.05, "model.depth": 4}, threads=1)
    assert run.model.dropout == 0.15
    assert "model.dropout=0.15" in overrides


def test_a_trial_that_cannot_run_says_why(tmp_path: Path) -> None:
    config = made_study(
        tmp_path, space={"data.image_size": {"type": "int", "low": 32, "high": 320, "step": 8}}, baseline={}
    )
    with pytest.raises(ConfigError, match=r"^data.image_size must be divisible by 2\*\*model.depth = 32, got 40"):
        compose_trial(config, {"data.image_size": 40}, threads=1)


def test_the_first_trials_are_the_baseline_the_enqueued_and_the_samplers(tmp_path: Path) -> None:
    further = {"model.dropout": 0.5, "model.depth": 3}
    config = made_study(tmp_path, enqueue=[further], sampler={"name": "random"})
    found = first_trials(config, 6)
    assert found[:2] == [SMALL["baseline"], further]
    assert len(found) == 6
    assert all(parameter.holds(trial[parameter.key]) for trial in found for parameter in config.space)
    assert found[:4] == first_trials(config, 4)
    assert first_trials(config, 1) == [SMALL["baseline"]]


@pytest.mark.parametrize(
    ("sampler", "count"),
    [
        ({"n_startup_trials": 4}, 4),
        ({}, 10),
        ({"name": "cmaes"}, 1),
        ({"name": "qmc"}, 20),
        ({"name": "nsgaii", "population_size": 7}, 7),
    ],
)
def test_what_depends_on_scores_is_not_foretold(tmp_path: Path, sampler: dict[str, Any], count: int) -> None:
    assert len(first_trials(made_study(tmp_path, sampler=sampler), 20)) == count


def test_looking_ahead_leaves_nothing_behind(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    config: StudyConfig = made_study(tmp_path)
    check(config)
    first_trials(config, 3)
    assert [path.name for path in tmp_path.iterdir()] == ["study.yaml"]
    assert capfd.readouterr() == ("", "")
