"""A study in its storage: made once, whole or not at all, and the same whoever opens it."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.study import StudyDirection
from optuna.trial import TrialState
from queue_processes import opened, started
from study_files import LEFT_OUT, SMALL, made_study

from brainseg.config_file import to_yaml
from brainseg.errors import ConfigError, TrackingError
from brainseg.sweep.engine.keys import DEFINITION, RUN_ID, SETTINGS, STUDY_ID, TRACKING, StudySettings, settings_of
from brainseg.sweep.engine.stored_study import going_on, load_config, open_study
from brainseg.sweep.study import recipe
from brainseg.sweep.study.plan import compose_trial
from brainseg.sweep.study.study_file import StudyConfig
from brainseg.tracking import MemoryStore

SECRET = "rosebud"  # noqa: S105  # of nothing


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def journal(tmp_path: Path) -> str:
    return str(tmp_path / "study.journal")


def write_experiment(*, epochs: int) -> None:
    """./conf/experiment/mine.yaml, as a new process would read it."""
    folder = Path("conf/experiment")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "mine.yaml").write_text(f"# @package _global_\ntrain: {{epochs: {epochs}}}\n")
    recipe._composition.cache_clear()


def gone_on(
    where: str, config: StudyConfig, *, asked: Sequence[str] = (), is_carried: bool = False
) -> tuple[StudyConfig, list[str]]:
    return going_on(opened(where), config, asked=asked, is_carried=is_carried)


def fixed_params(study: optuna.Study) -> list[dict[str, Any]]:
    """Of the trials, which must all wait."""
    trials = study.get_trials()
    assert {trial.state for trial in trials} <= {TrialState.WAITING}
    return [trial.system_attrs["fixed_params"] for trial in trials]


def test_a_new_study_waits_with_its_first_trials(where: str, tmp_path: Path) -> None:
    second = {"model.dropout": 0.5, "model.depth": 3}
    study = started(where, made_study(tmp_path, enqueue=[second]))
    assert fixed_params(study) == [SMALL["baseline"], second]
    assert study.direction == StudyDirection.MAXIMIZE
    assert study.metric_names == ["val_dice_image"]
    assert len(study.user_attrs[STUDY_ID]) == 32


def test_a_worker_finds_the_study_as_it_was_started(where: str, tmp_path: Path) -> None:
    config = made_study(
        tmp_path, sampler={"name": "tpe", "n_startup_trials": 3}, overrides=["train.epochs=9", "tracking.root=runs"]
    )
    started(where, config)
    assert load_config(opened(where), "study") == config


def test_several_metrics_keep_their_order(where: str, tmp_path: Path) -> None:
    metrics = {"parameters": "minimize", "final_dice": "maximize"}
    config = made_study(tmp_path, metric=LEFT_OUT, direction=LEFT_OUT, metrics=metrics)
    study = started(where, config)
    assert study.directions == [StudyDirection.MINIMIZE, StudyDirection.MAXIMIZE]
    assert list(load_config(opened(where), "study").metrics) == ["parameters", "final_dice"]


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"space": SMALL["space"] | {"model.depth": {"type": "int", "low": 3, "high": 6}}},
         "space.model.depth.high: 5 -> 6"),
        ({"direction": "minimize"}, "metrics: val_dice_image (maximize) -> val_dice_image (minimize)"),
        ({"baseline": {"model.dropout": 0.2, "model.depth": 4}}, "baseline.model.dropout: 0.1 -> 0.2"),
        ({"sampler": {"seed": 1}}, "sampler.seed: 0 -> 1"),
        ({"overrides": ["train.epochs=3"]}, "overrides.train.epochs: nothing -> 3"),
    ],
    ids=["space", "direction", "baseline", "seed", "overrides"],
)  # fmt: skip
def test_another_definition_is_refused_with_the_difference(
    journal: str, tmp_path: Path, changes: dict[str, Any], difference: str
) -> None:
    before = started(journal, made_study(tmp_path)).user_attrs
    with pytest.raises(ConfigError) as error:
        started(journal, made_study(tmp_path, trials=99, **changes))
    assert str(error.value) == (
        f"the study 'study' was started differently: {difference}; undo that, or start another study with --new NAME"
    )
    assert optuna.load_study(study_name="study", storage=opened(journal).optuna).user_attrs == before


def test_other_data_is_another_study(journal: str, tmp_path: Path) -> None:
    started(journal, made_study(tmp_path))
    with pytest.raises(ConfigError, match="data_fingerprint: data -> other; undo that"):
        open_study(opened(journal), made_study(tmp_path), data_fingerprint="other")


def test_a_file_that_brainseg_carries_may_change_and_the_study_goes_on_as_it_was(journal: str, tmp_path: Path) -> None:
    first, changes = gone_on(journal, made_study(tmp_path, overrides=["train.epochs=3"]))
    assert changes == []
    started(journal, first)
    newer = made_study(tmp_path, trials=20, sampler={"seed": 1}, overrides=["train.epochs=9", "seed=4"])
    config, changes = gone_on(journal, newer, is_carried=True)
    assert changes == [
        "overrides.train.epochs: 3 -> 9", "sampler.seed: 0 -> 1", "overrides.seed: nothing -> 4",
    ]  # fmt: skip
    assert config == dataclasses.replace(first, trials=20)
    # What the user asks for in the command line is refused as in a file of the user's own.
    for asked, is_carried in ((["train.epochs=9"], True), ([], False)):
        with pytest.raises(ConfigError, match=r"was started differently: overrides\.train\.epochs: 3 -> 9"):
            gone_on(journal, newer, asked=asked, is_carried=is_carried)


def test_a_file_of_conf_may_change_and_the_study_goes_on_as_it_was(journal: str, tmp_path: Path) -> None:
    config = made_study(tmp_path, overrides=["experiment=mine"])
    write_experiment(epochs=3)
    first, _ = gone_on(journal, config)
    started(journal, first)
    write_experiment(epochs=9)
    again, changes = gone_on(journal, config)
    assert changes == ["train.epochs: 3 -> 9"]
    assert again == first == load_config(opened(journal), "study")
    assert compose_trial(again, SMALL["baseline"], threads=1)[0].train.epochs == 3


@pytest.mark.parametrize(("kept_in", "epochs"), [("checkpoint", 3), ("store", 3), ("nowhere", 9)])
def test_the_first_run_counts_for_a_study_without_a_recipe(
    journal: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept_in: str, epochs: int
) -> None:
    config = made_study(tmp_path, overrides=["experiment=mine"])
    study = started(journal, config)  # as an earlier version did
    write_experiment(epochs=3)
    run, _ = compose_trial(config, {"model.dropout": 0.5, "model.depth": 3}, threads=7)
    store = MemoryStore()
    monkeypatch.setattr("brainseg.sweep.engine.stored_study.open_store", lambda tracking: store)
    with store.open_tracker(run_name="first", tags={}) as tracker:
        if kept_in == "store":
            tracker.log_text(to_yaml(run), "config.yaml")
    if kept_in == "checkpoint":
        folder = Path("mlruns/checkpoints") / tracker.run_id
        folder.mkdir(parents=True)
        start = {
            "config_yaml": to_yaml(run),
            "data_fingerprint": "",
            "split_json": "",
            "precision": "float32",
            "threads": 1,
        }
        (folder / "run.json").write_text(json.dumps(start | {"schema_version": 1}))
    study.ask().set_user_attr(RUN_ID, tracker.run_id)

    write_experiment(epochs=9)
    again, changes = gone_on(journal, config)
    assert changes == ["train.epochs: 3 -> 9"] * (epochs == 3)
    assert again == load_config(opened(journal), "study")
    composed, _ = compose_trial(again, SMALL["baseline"], threads=1)
    assert (composed.train.epochs, composed.model.depth, composed.train.threads) == (epochs, 4, 1)


def test_data_may_lie_elsewhere_when_a_study_goes_on(journal: str, tmp_path: Path) -> None:
    started(journal, gone_on(journal, made_study(tmp_path, overrides=["data=folder", "data.root=here"]))[0])
    config, changes = gone_on(journal, made_study(tmp_path, overrides=["data=folder", "data.root=there"]))
    assert changes == []
    started(journal, config)
    as_workers_see_it = load_config(opened(journal), "study")
    assert compose_trial(as_workers_see_it, SMALL["baseline"], threads=1)[0].data.root == "there"


def test_what_may_change_is_taken_over(where: str, tmp_path: Path) -> None:
    first = started(where, made_study(tmp_path, overrides=["tracking.uri=http://host:5000"]))
    changes = {"trials": 20, "workers": 4, "retries": 3, "failures": 9, "time_limit_min": 5}
    tracking = "tracking.uri=http://moved:5000"
    again = started(where, made_study(tmp_path, overrides=[tracking], **changes))
    assert settings_of(again) == StudySettings(trials=20, failures=9, retries=3)
    assert again.user_attrs[STUDY_ID] == first.user_attrs[STUDY_ID]
    assert len(again.get_trials()) == 1
    as_workers_see_it = load_config(opened(where), "study")
    assert (as_workers_see_it.trials, as_workers_see_it.tracking) == (20, (tracking,))


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the code under test may catch it."""


@pytest.mark.parametrize("place", [0, 2, 6], ids=["before its id", "while enqueuing", "before its definition"])
def test_a_study_whose_maker_was_killed_is_made_whole_by_the_next(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    config = made_study(tmp_path, enqueue=[{"model.dropout": 0.5, "model.depth": 3}])
    writes = 0

    def killed_at_its_place(name: str) -> None:
        original = getattr(optuna.Study, name)

        def write(self: optuna.Study, *args: Any, **kwargs: Any) -> None:
            nonlocal writes
            if writes == place:
                raise Killed
            writes += 1
            original(self, *args, **kwargs)

        patched.setattr(optuna.Study, name, write)

    with monkeypatch.context() as patched:
        for name in ("set_user_attr", "enqueue_trial", "set_metric_names"):
            killed_at_its_place(name)
        with pytest.raises(Killed):
            started(where, config)
    with pytest.raises(TrackingError, match="no study 'study'"):
        load_config(opened(where), "study")
    # Corrected in between, as it may be: nothing is left of the first attempt.
    corrected = made_study(tmp_path, metric="parameters", direction="minimize", enqueue=[])
    study = started(where, corrected)
    assert fixed_params(study) == [SMALL["baseline"]]
    assert study.direction == StudyDirection.MINIMIZE
    assert load_config(opened(where), "study") == corrected


def test_a_study_of_another_program_is_refused_and_left_alone(where: str, tmp_path: Path) -> None:
    theirs = optuna.create_study(study_name="study", storage=opened(where).optuna)
    theirs.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    with pytest.raises(ConfigError, match=r"the study 'study' in .* was made by another program; start another"):
        started(where, made_study(tmp_path))
    again = optuna.load_study(study_name="study", storage=opened(where).optuna)
    assert (len(again.get_trials()), again.user_attrs) == (2, {})


def test_an_unknown_study_is_refused_with_those_that_are_there(where: str, tmp_path: Path) -> None:
    for name in ("b", "a"):
        started(where, made_study(tmp_path, name=name))
    with pytest.raises(TrackingError) as error:
        load_config(opened(where), "stduy")
    assert str(error.value) == (
        f"no study 'stduy' in {opened(where).shown}; it has a, b; start it with: python -m brainseg.sweep run stduy"
    )


@pytest.mark.parametrize("version", [0, 3, None])
def test_a_study_of_another_version_is_refused(journal: str, tmp_path: Path, version: int | None) -> None:
    study = started(journal, made_study(tmp_path))
    study.set_user_attr(DEFINITION, study.user_attrs[DEFINITION] | {"schema_version": version})
    study.set_user_attr(SETTINGS, study.user_attrs[SETTINGS] | {"later": 1})
    expected = f"the study has schema_version {version}, and this brainseg reads 1 and 2; go on with"
    with pytest.raises(ConfigError, match=expected):
        load_config(opened(journal), "study")
    with pytest.raises(ConfigError, match=expected):
        started(journal, made_study(tmp_path))


def test_no_password_is_kept_with_the_study(where: str, tmp_path: Path) -> None:
    tracking = ["tracking.experiment=mine", f"tracking.uri=http://user:{SECRET}@host:5000"]
    study = started(where, made_study(tmp_path, overrides=tracking))
    assert study.user_attrs[TRACKING] == ["tracking.experiment=mine"]
    assert SECRET not in str(study.user_attrs)
