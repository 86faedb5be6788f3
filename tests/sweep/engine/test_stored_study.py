"""A study in its storage: made once, whole or not at all, and the same whoever opens it."""

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.study import StudyDirection
from optuna.trial import TrialState
from queue_processes import opened, started
from study_files import LEFT_OUT, SMALL, made_study

from brainseg.errors import ConfigError, TrackingError
from brainseg.sweep.engine.stored_study import load_config, open_study
from brainseg.sweep.engine.trial_queue import DEFINITION, SETTINGS, STUDY_ID, TRACKING, Settings, settings_of

SECRET = "rosebud"  # noqa: S105  # of nothing


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def journal(tmp_path: Path) -> str:
    return str(tmp_path / "study.journal")


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


def test_what_may_change_is_taken_over(where: str, tmp_path: Path) -> None:
    first = started(where, made_study(tmp_path, overrides=["tracking.uri=http://host:5000"]))
    changes = {"trials": 20, "workers": 4, "retries": 3, "failures": 9, "time_limit_min": 5}
    tracking = "tracking.uri=http://moved:5000"
    again = started(where, made_study(tmp_path, overrides=[tracking], **changes))
    assert settings_of(again) == Settings(trials=20, failures=9, retries=3)
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


@pytest.mark.parametrize("version", [0, 2, None])
def test_a_study_of_another_version_is_refused(journal: str, tmp_path: Path, version: int | None) -> None:
    study = started(journal, made_study(tmp_path))
    study.set_user_attr(DEFINITION, study.user_attrs[DEFINITION] | {"schema_version": version})
    study.set_user_attr(SETTINGS, study.user_attrs[SETTINGS] | {"later": 1})
    expected = f"the study has schema_version {version}, and this brainseg reads 1; go on with"
    with pytest.raises(ConfigError, match=expected):
        load_config(opened(journal), "study")
    with pytest.raises(ConfigError, match=expected):
        started(journal, made_study(tmp_path))


def test_no_password_is_kept_with_the_study(where: str, tmp_path: Path) -> None:
    tracking = ["tracking.experiment=mine", f"tracking.uri=http://user:{SECRET}@host:5000"]
    study = started(where, made_study(tmp_path, overrides=tracking))
    assert study.user_attrs[TRACKING] == ["tracking.experiment=mine"]
    assert SECRET not in str(study.user_attrs)
