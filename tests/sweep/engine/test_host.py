"""Which hosts may train trials of a study, and how: what differs between hosts, and what may not."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest
from queue_processes import opened, started
from study_files import made_study

import brainseg
from brainseg.config import RunConfig, TrackingConfig, from_flat
from brainseg.errors import ConfigError, TrackingError
from brainseg.sweep.__main__ import main
from brainseg.sweep.engine import host
from brainseg.sweep.engine.host import (
    check_parent,
    check_software,
    move_to_this_software,
    with_experiment,
    with_places,
    with_precision,
    with_store,
)
from brainseg.sweep.engine.keys import PARENT_RUN, PRECISION, SOFTWARE, STUDY_ID
from brainseg.sweep.engine.storage import ENVIRONMENT_KEY
from brainseg.sweep.study.plan import check, compose_trial
from brainseg.sweep.study.recipe import recipe_of
from brainseg.tracking import open_tracker

OURS = {"brainseg": brainseg.__version__, "tensorflow": "2.20.0", "commit": "a" * 40}


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (ENVIRONMENT_KEY, *host.ENVIRONMENT.values()):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(host, "software", lambda: OURS)


@pytest.fixture
def journal(tmp_path: Path) -> str:
    return str(tmp_path / "study.journal")


def test_a_study_remembers_the_software_of_its_start_and_takes_workers_with_the_same(
    journal: str, tmp_path: Path
) -> None:
    study = started(journal, made_study(tmp_path))
    assert check_software(study) is None  # of version 0.1, which stored none
    assert move_to_this_software(study) is None
    assert study.user_attrs[SOFTWARE] == OURS
    assert check_software(study) is None


@pytest.mark.parametrize("name", ["brainseg", "tensorflow"])
def test_a_worker_with_another_version_is_refused_in_one_line(journal: str, tmp_path: Path, name: str) -> None:
    study = started(journal, made_study(tmp_path))
    study.set_user_attr(SOFTWARE, OURS | {name: "9.1"})
    with pytest.raises(ConfigError) as error:
        check_software(study)
    assert str(error.value) == (
        f"the study 'study' is trained with {name} 9.1, and this host has {OURS[name]}; "
        "install that one, or move the study by `python -m brainseg.sweep run` here"
    )


def test_another_commit_is_a_note(journal: str, tmp_path: Path) -> None:
    study = started(journal, made_study(tmp_path))
    study.set_user_attr(SOFTWARE, OURS | {"commit": "b" * 40})
    assert check_software(study) == "note: the study was started from commit bbbbbbbbbbbb, and this is aaaaaaaaaaaa"


def test_a_newer_start_moves_the_study_and_an_older_one_is_refused(
    journal: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = started(journal, made_study(tmp_path))
    study.set_user_attr(SOFTWARE, {"brainseg": "0.0.9", "tensorflow": "2.20.0"})
    assert move_to_this_software(study) == (
        f"note: study moves on: brainseg 0.0.9 -> {brainseg.__version__}; workers of before are refused"
    )
    assert study.user_attrs[SOFTWARE] == OURS
    monkeypatch.setattr(host, "software", lambda: OURS | {"brainseg": "0.0.10"})
    with pytest.raises(ConfigError, match=r"has gone on with the study 'study', and this is 0\.0\.10; update it"):
        move_to_this_software(study)


def test_a_worker_in_another_store_than_the_studys_is_refused_before_it_makes_one(
    journal: str, tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = started(journal, made_study(tmp_path))
    Path("mlruns").mkdir()
    shutil.copy(empty_store, "mlruns/mlflow.db")
    tracking = check(made_study(tmp_path)).tracking
    tags = {"sweep_id": study.user_attrs[STUDY_ID], "sweep_role": "parent"}
    with open_tracker(tracking, run_name="study", tags=tags) as parent:
        study.set_user_attr(PARENT_RUN, parent.run_id)
    check_parent(study, tracking)

    elsewhere = tmp_path / "elsewhere"
    assert main(["worker", "study", "--storage", journal, f"tracking.root={elsewhere}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        f"error: the parent run of the study 'study' is not in sqlite:///{elsewhere}/mlflow.db; "
        "name the study's own store by tracking.uri or MLFLOW_TRACKING_URI, or its folder by tracking.root"
    )
    assert not elsewhere.exists()


def test_a_study_without_a_parent_run_is_waited_for_a_moment(
    journal: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "PARENT_WAIT_S", 0.0)
    study = started(journal, made_study(tmp_path))
    with pytest.raises(TrackingError, match="has no parent run yet; start it with: "):
        check_parent(study, check(made_study(tmp_path)).tracking)


def test_the_store_that_the_environment_names_goes_to_every_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = made_study(tmp_path)
    tracking = check(config).tracking
    assert with_store(config, tracking) == config
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    assert with_store(config, tracking).tracking == ('tracking.uri="http://mlflow:5000"',)
    named = made_study(tmp_path, overrides=["tracking.uri=http://other:5000"])
    assert with_store(named, check(named).tracking) == named


def test_the_experiment_in_effect_is_the_workers_too(tmp_path: Path) -> None:
    study = made_study(tmp_path)
    assert with_experiment(study, TrackingConfig(experiment="a b")).tracking == ('tracking.experiment="a b"',)


@pytest.mark.heavy
def test_a_host_says_where_it_has_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = made_study(tmp_path, overrides=["data=folder", "data.root=/of/the/study", "train.epochs=2"])
    config = dataclasses.replace(config, recipe=recipe_of(config))
    baseline = check(config)
    assert with_places(config, baseline, []) == config
    monkeypatch.setenv("BRAINSEG_DATA_ROOT", "/of/this host")
    monkeypatch.setenv("BRAINSEG_CACHE_DIR", "/scratch")
    here = check(with_places(config, baseline, [])).data
    assert (here.root, here.cache_dir) == ("/of/this host", "/scratch")
    there = check(with_places(config, baseline, ["data.root=/typed"])).data
    assert (there.root, there.cache_dir) == ("/typed", "/scratch")


def test_a_phantom_has_no_folder_whatever_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = made_study(tmp_path)
    monkeypatch.setenv("BRAINSEG_DATA_ROOT", "/of/this host")
    assert with_places(config, check(config), []) == config


def fixed_by(where: str, config: Any, ours: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(host, "resolve_precision", lambda name, **_: ours)
    return with_precision(opened(where), started(where, config), config, RunConfig())


def test_the_first_worker_decides_what_auto_means_for_all(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = made_study(tmp_path)
    config = dataclasses.replace(config, recipe=recipe_of(config))
    for ours in ("float32", "mixed_bfloat16"):  # the second could do better
        fixed = fixed_by(where, config, ours, monkeypatch)
        run, overrides = compose_trial(fixed, {"model.dropout": 0.1, "model.depth": 4}, threads=1)
        assert run.train.precision == "float32"
        assert "train.precision=float32" in overrides
    assert started(where, config).user_attrs[PRECISION] == "float32"


def test_a_host_without_bfloat16_is_refused_where_the_study_has_it(
    journal: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = made_study(tmp_path)
    config = dataclasses.replace(config, recipe=recipe_of(config))
    assert check(fixed_by(journal, config, "mixed_bfloat16", monkeypatch)).train.precision == "mixed_bfloat16"
    with pytest.raises(ConfigError) as error:
        fixed_by(journal, config, "float32", monkeypatch)
    assert str(error.value) == (
        "train.precision=auto is mixed_bfloat16 in the study 'study', and this host's hardware doesn't multiply "
        "bfloat16; train on others, or start another study with train.precision=float32 and --new NAME"
    )


def test_a_precision_that_the_study_names_stays(journal: str, tmp_path: Path) -> None:
    config = made_study(tmp_path)
    study = started(journal, config)
    assert with_precision(opened(journal), study, config, from_flat({"train.precision": "float32"})) is config
    assert PRECISION not in study.user_attrs


def test_a_journal_is_refused_for_a_second_host(
    journal: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    started(journal, made_study(tmp_path))
    alive = tmp_path / "alive"
    alive.mkdir(exist_ok=True)
    (alive / "theirs.alive").write_text("gpu07/another-boot mnt:[1] pid:[1] 1:2")
    assert main(["worker", "study", "--storage", journal]) == 2
    assert capsys.readouterr().err == (
        f"error: {journal} is used on gpu07, and a journal is for one host; "
        "end that first, or keep the study in PostgreSQL: --storage postgresql://HOST/DATABASE\n"
    )
