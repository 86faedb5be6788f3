"""What MLflow's own environment says of new runs: their experiment, the run itself, and the run above them."""

import dataclasses
import os
import time
from collections.abc import Iterator

import mlflow
import pytest
from mlflow import MlflowClient

from brainseg.config import RunConfig, TrackingConfig
from brainseg.errors import ConfigError, ResumeError, TrackingError
from brainseg.tracking import open_store, open_tracker
from brainseg.tracking.mlflow.connection import check_store, connect
from brainseg.tracking.mlflow.surroundings import Place, place_of_runs
from brainseg.tracking.paths import experiment_in_effect, resolve_uri
from brainseg.train.record import as_recorded


@pytest.fixture
def sqlite_config(sqlite_config: TrackingConfig) -> TrackingConfig:
    """Without an experiment of its own."""
    return dataclasses.replace(sqlite_config, experiment=None)


@pytest.fixture
def client(sqlite_config: TrackingConfig) -> MlflowClient:
    return connect(resolve_uri(sqlite_config))


@pytest.fixture
def theirs(client: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> str:
    """The run that MLFLOW_RUN_ID names, as `mlflow run` has made it in the experiment `theirs`."""
    run = client.create_run(client.create_experiment("theirs"), run_name="clumsy-fox")
    monkeypatch.setenv("MLFLOW_RUN_ID", run.info.run_id)
    return str(run.info.run_id)


@pytest.fixture
def opened(sqlite_config: TrackingConfig) -> Iterator[str]:
    """A run that this process has open, in the experiment `notebook`."""
    mlflow.set_tracking_uri(resolve_uri(sqlite_config))
    mlflow.set_experiment("notebook")
    with mlflow.start_run() as run:
        yield run.info.run_id
    mlflow.tracking.fluent._active_experiment_id = None  # MLflow has no call for it
    mlflow.set_tracking_uri(None)  # that of the environment counts again


def test_the_experiment_is_the_keys_then_the_environments_then_the_parents(monkeypatch: pytest.MonkeyPatch) -> None:
    assert experiment_in_effect(TrackingConfig()) == "brainseg"
    assert experiment_in_effect(TrackingConfig(), parent="above") == "above"
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "named")
    assert experiment_in_effect(TrackingConfig(), parent="above") == "named"
    assert as_recorded(RunConfig()).tracking.experiment == "named"
    assert experiment_in_effect(TrackingConfig(experiment="own"), parent="above") == "own"


def test_a_new_run_goes_to_the_experiment_that_the_environment_names(
    sqlite_config: TrackingConfig, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "named")
    with open_tracker(sqlite_config, run_name="a", tags={}) as tracker:
        pass
    run = client.get_run(tracker.run_id)
    assert client.get_experiment(run.info.experiment_id).name == "named"


def test_a_new_run_goes_to_the_experiment_whose_id_the_environment_gives_unless_one_is_named(
    sqlite_config: TrackingConfig, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", resolve_uri(sqlite_config))
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", client.create_experiment("theirs"))
    assert place_of_runs(sqlite_config, is_single=True).tracking.experiment == "theirs"
    elsewhere = dataclasses.replace(sqlite_config, uri=f"sqlite:///{sqlite_config.root}/other.db")
    assert place_of_runs(elsewhere, is_single=True).tracking.experiment == "brainseg"  # where the id means nothing
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "named")
    assert place_of_runs(sqlite_config, is_single=True).tracking.experiment == "named"


def test_an_id_of_no_experiment_is_refused(sqlite_config: TrackingConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", resolve_uri(sqlite_config))
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "77")
    with pytest.raises(TrackingError, match=r"^MLFLOW_EXPERIMENT_ID: no experiment '77' in .*; unset it, or name one"):
        place_of_runs(sqlite_config, is_single=True)


def test_a_single_run_is_the_one_that_mlflow_has_made(
    sqlite_config: TrackingConfig, client: MlflowClient, theirs: str
) -> None:
    place = place_of_runs(sqlite_config, is_single=True)
    assert place == Place(tracking=dataclasses.replace(sqlite_config, experiment="theirs"), run_id=theirs)
    assert "MLFLOW_RUN_ID" not in os.environ
    with open_tracker(place.tracking, run_name="", tags={"overrides": "seed=1"}, run_id=place.run_id) as tracker:
        tracker.log_metrics({"val_dice_image": 0.5}, epoch=1)
    run = client.get_run(theirs)
    assert (run.info.status, run.info.run_name, run.data.metrics) == ("FINISHED", "clumsy-fox", {"val_dice_image": 0.5})


def test_a_name_of_its_own_takes_the_place_of_the_one_that_mlflow_gave(
    sqlite_config: TrackingConfig, client: MlflowClient, theirs: str
) -> None:
    with open_tracker(sqlite_config, run_name="mine", tags={}, run_id=theirs):
        pass
    assert client.get_run(theirs).info.run_name == "mine"


def test_several_runs_stand_under_the_one_that_mlflow_has_made(sqlite_config: TrackingConfig, theirs: str) -> None:
    place = place_of_runs(sqlite_config, is_single=False)
    assert (place.run_id, place.tags, place.tracking.experiment) == (None, {"parent": theirs}, "theirs")
    assert "MLFLOW_RUN_ID" not in os.environ


@pytest.mark.parametrize("is_single", [True, False])
def test_a_run_that_is_open_stands_above(sqlite_config: TrackingConfig, opened: str, is_single: bool) -> None:
    place = place_of_runs(sqlite_config, is_single=is_single)
    assert (place.run_id, place.tags, place.tracking.experiment) == (None, {"parent": opened}, "notebook")


def test_a_run_that_is_open_in_another_store_stands_above_nothing(
    opened: str, tmp_path_factory: pytest.TempPathFactory, caplog: pytest.LogCaptureFixture
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    tracking = TrackingConfig(root=str(elsewhere), uri=f"sqlite:///{elsewhere}/mlflow.db")
    assert place_of_runs(tracking, is_single=True).tags == {}
    assert f"the open run {opened} is in another store" in caplog.text
    assert list(elsewhere.iterdir()) == []


def test_a_run_that_was_trained_before_is_refused(
    sqlite_config: TrackingConfig, theirs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_tracker(sqlite_config, run_name="", tags={}, run_id=theirs):
        pass
    with pytest.raises(ResumeError, match=f"^MLFLOW_RUN_ID names a run that was trained.*, or add resume={theirs}$"):
        place_of_runs(sqlite_config, is_single=True)


@pytest.mark.parametrize("exists", [True, False])
def test_a_run_that_the_store_does_not_have_is_refused(
    sqlite_config: TrackingConfig, monkeypatch: pytest.MonkeyPatch, exists: bool
) -> None:
    tracking = sqlite_config if exists else TrackingConfig(root=f"{sqlite_config.root}/none")
    monkeypatch.setenv("MLFLOW_RUN_ID", "f" * 32)
    with pytest.raises(TrackingError, match=r"^MLFLOW_RUN_ID: no run 'ffff"):
        place_of_runs(tracking, is_single=True)


def test_tags_of_ones_own_stand_beside_those_of_brainseg(sqlite_config: TrackingConfig) -> None:
    tracking = dataclasses.replace(sqlite_config, tags={"purpose": "a try"})
    with open_tracker(tracking, run_name="a", tags={"overrides": "seed=1"}) as tracker:
        pass
    tags = open_store(tracking).read(tracker.run_id).tags
    assert (tags["purpose"], tags["overrides"], tags["state"]) == ("a try", "seed=1", "finished")


@pytest.mark.parametrize("name", ["state", "mlflow.user", "evaluation_test"])
def test_a_tag_that_is_taken_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"^tracking.tags.{name} is a tag that brainseg or MLflow sets itself; "):
        TrackingConfig(tags={name: "mine"})


def test_the_load_of_the_machine_is_recorded_beside_the_run(
    sqlite_config: TrackingConfig, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.05")
    tracking = dataclasses.replace(sqlite_config, system_metrics=True)
    check_store(tracking)
    with open_tracker(tracking, run_name="a", tags={}) as tracker:
        assert tracker._monitor is not None
        while tracker._monitor._logging_step == 0:  # until it has measured once
            time.sleep(0.01)
    metrics = client.get_run(tracker.run_id).data.metrics
    assert {"system/cpu_utilization_percentage", "system/system_memory_usage_megabytes"} <= metrics.keys()


def test_without_psutil_the_load_can_not_be_recorded(
    sqlite_config: TrackingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("brainseg.tracking.mlflow.connection.find_spec", lambda name: None)
    with pytest.raises(TrackingError, match=r"^tracking.system_metrics needs psutil; pip install"):
        check_store(dataclasses.replace(sqlite_config, system_metrics=True))
