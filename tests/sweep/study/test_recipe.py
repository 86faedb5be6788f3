"""The recipe of a study: its trials stay what they were when a file of conf/ changes or goes."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from study_files import SMALL, made_study

from brainseg import compose
from brainseg.config import flatten
from brainseg.sweep.study import recipe
from brainseg.sweep.study.definition import definition_of, from_definition
from brainseg.sweep.study.plan import check, compose_trial
from brainseg.sweep.study.recipe import recipe_changes, recipe_of, recipe_of_run
from brainseg.sweep.study.study_file import StudyConfig

OPTIMIZERS = {"optimizer": {"type": "categorical", "choices": ["sgd", "adamw"]}}


def write_experiment(**values: Any) -> None:
    """./conf/experiment/mine.yaml as a new process would read it."""
    folder = Path("conf/experiment")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "mine.yaml").write_text(f"# @package _global_\n{yaml.safe_dump(values)}")
    recipe._composition.cache_clear()


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StudyConfig:
    """A study of `experiment=mine`, as a worker reads it from a storage."""
    monkeypatch.chdir(tmp_path)
    write_experiment(train={"epochs": 5}, model={"norm": "none"})
    return stored(made_study(tmp_path, overrides=["experiment=mine", "data.image_size=64"]))


def stored(config: StudyConfig) -> StudyConfig:
    """The study as it comes back from a storage, with its recipe."""
    config = dataclasses.replace(config, recipe=recipe_of(config))
    definition = json.loads(json.dumps(definition_of(config, data_fingerprint="abc")))
    return from_definition(definition, name=config.name, trials=config.trials, tracking=config.tracking)


@pytest.mark.heavy
def test_a_stored_recipe_composes_what_the_overrides_did(started: StudyConfig) -> None:
    fresh = dataclasses.replace(started, recipe={})
    assert check(started) == check(fresh)
    assert compose_trial(started, SMALL["baseline"], threads=2) == compose_trial(fresh, SMALL["baseline"], threads=2)


@pytest.mark.heavy
def test_a_changed_experiment_changes_no_trial_and_its_line_says_so(started: StudyConfig) -> None:
    before, _ = compose_trial(started, SMALL["baseline"], threads=2)
    write_experiment(train={"epochs": 9}, model={"norm": "none"}, seed=3)
    run, line = compose_trial(started, SMALL["baseline"], threads=2)
    assert run == before
    assert check(started).train.epochs == 5
    assert line == [
        "experiment=mine",
        "data.image_size=64",
        "train.epochs=5",
        "seed=0",
        "model.dropout=0.1",
        "model.depth=4",
        "train.threads=2",
    ]
    assert compose.freeze(line) == run


@pytest.mark.heavy
def test_an_experiment_that_is_gone_changes_no_trial(started: StudyConfig) -> None:
    before, _ = compose_trial(started, SMALL["baseline"], threads=2)
    Path("conf/experiment/mine.yaml").unlink()
    recipe._composition.cache_clear()
    run, line = compose_trial(started, SMALL["baseline"], threads=2)
    assert run == before
    assert "experiment=mine" not in line
    assert compose.freeze(line) == run


def test_where_data_and_records_lie_is_no_part_of_a_recipe(started: StudyConfig) -> None:
    assert not [key for key in started.recipe[""] if key.startswith(("tracking.", "data.root", "data.cache_dir"))]
    moved = dataclasses.replace(
        started, overrides=(*started.overrides, "data.cache_dir=there"), tracking=("tracking.experiment=other",)
    )
    run, _ = compose_trial(moved, SMALL["baseline"], threads=1)
    assert (run.data.cache_dir, run.tracking.experiment) == ("there", "other")


@pytest.mark.heavy
def test_each_option_of_a_searched_group_has_what_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fresh = made_study(tmp_path, space=SMALL["space"] | OPTIMIZERS, baseline={})
    config = stored(fresh)
    assert list(config.recipe) == ["optimizer=sgd", "optimizer=adamw", ""]
    assert config.recipe["optimizer=adamw"] == {}  # the default
    assert config.recipe["optimizer=sgd"]["optimizer.name"] == "sgd"
    for optimizer in ("sgd", "adamw"):
        params = {**SMALL["baseline"], "optimizer": optimizer}
        assert compose_trial(config, params, threads=1) == compose_trial(fresh, params, threads=1)
    assert check(config) == check(fresh)


def test_a_study_of_an_earlier_version_has_the_recipe_of_its_first_run(started: StudyConfig) -> None:
    earlier = dataclasses.replace(started, recipe={})
    run, _ = compose_trial(earlier, {"model.dropout": 0.5, "model.depth": 3}, threads=7)
    write_experiment(train={"epochs": 9}, seed=3)
    found = recipe_of_run(earlier, run)
    assert (found[""]["train.epochs"], found[""]["model.norm"], found[""]["seed"]) == (5, "none", 0)
    # What is searched, and the threads of one worker, are no part of it.
    assert found[""]["train.threads"] is None
    assert found[""]["model.dropout"] == flatten(check(earlier))["model.dropout"] == 0.1


def test_changes_of_a_recipe_are_named_by_key(started: StudyConfig) -> None:
    write_experiment(train={"epochs": 9}, model={"norm": "none", "depth": 2})
    now = recipe_of(dataclasses.replace(started, recipe={}))
    assert recipe_changes(started.recipe, now, searched={"model.depth"}) == {"train.epochs": "5 -> 9"}
    assert recipe_changes(started.recipe, started.recipe, searched=()) == {}
    without_new_key = {"": {key: value for key, value in started.recipe[""].items() if key != "train.ema_decay"}}
    assert recipe_changes(without_new_key, started.recipe, searched=()) == {}
