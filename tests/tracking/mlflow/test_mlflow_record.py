"""What the MLflow UI and MLflow's own readers find of a run: nothing twice, its columns filled, its model loadable."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from backends import MlflowBackend
from mlflow import MlflowClient
from processes import environment

from brainseg.config import TrackingConfig
from brainseg.runs.select import select
from brainseg.tracking import MODEL_FILE, DatasetInfo
from brainseg.tracking.paths import resolve_uri

# Loads models, each from its store, where brainseg can't be imported.
LOAD = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "brainseg":
            raise ImportError("brainseg must not be needed")
sys.meta_path.insert(0, Refuse())
import mlflow
import numpy as np
slices = np.load(sys.argv[1])
masks = []
for store, model in zip(sys.argv[3::2], sys.argv[4::2]):
    mlflow.set_tracking_uri(store)
    masks.append(np.asarray(mlflow.keras.load_model(model)(slices)))
np.save(sys.argv[2], np.stack(masks))
"""


@pytest.fixture(params=["sqlite", "server"])
def config(request: pytest.FixtureRequest) -> TrackingConfig:
    """Where there is a real MLflow."""
    config = request.getfixturevalue(f"{request.param}_config")
    assert isinstance(config, TrackingConfig)
    return config


def client_of(config: TrackingConfig) -> MlflowClient:
    return MlflowClient(tracking_uri=resolve_uri(config))


def test_the_columns_of_the_ui_are_filled(config: TrackingConfig) -> None:
    fingerprint = "0123456789abcdef" * 4
    dataset = DatasetInfo(name="phantom", fingerprint=fingerprint, source="seed 0", slices=9, patients=3)
    with MlflowBackend(config=config).open(parent="1" * 32) as tracker:
        tracker.set_tags({"git_commit": "c" * 40, "description": "# Dice 0.5"})
        tracker.log_dataset(dataset)
        tracker.log_dataset(dataset)
    run = client_of(config).get_run(tracker.run_id)
    (found,) = run.inputs.dataset_inputs
    assert (found.dataset.name, found.dataset.digest) == ("phantom", fingerprint[:36])
    assert {tag.key: tag.value for tag in found.tags} == {"mlflow.data.context": "training"}
    assert run.info.run_name == "first"
    assert run.info.end_time is not None
    assert run.data.tags["mlflow.source.type"] == "LOCAL"
    assert run.data.tags["mlflow.source.name"]
    assert run.data.tags["mlflow.source.git.commit"] == "c" * 40
    assert run.data.tags["mlflow.parentRunId"] == "1" * 32
    assert run.data.tags["mlflow.note.content"] == "# Dice 0.5"
    assert run.data.tags["mlflow.user"]


def test_a_run_is_selected_by_its_commit_also_one_that_an_earlier_version_recorded(config: TrackingConfig) -> None:
    with MlflowBackend(config=config).open() as tracker:
        pass
    client_of(config).set_tag(tracker.run_id, "mlflow.source.git.commit", "c" * 40)
    store = MlflowBackend(config=config).store
    (found,) = select(store, [f"git_commit={'c' * 40}"], experiment=config.experiment, limit=20).finished
    assert (found.run_id, found.tags["git_commit"]) == (tracker.run_id, "c" * 40)


def test_no_point_of_a_metric_is_stored_twice(config: TrackingConfig) -> None:
    backend = MlflowBackend(config=config)
    with backend.open() as tracker:
        for epoch in (1, 2, 2):
            tracker.log_metrics({"val_dice": epoch / 8}, epoch=epoch)
    with backend.open(run_id=tracker.run_id) as tracker:
        for epoch in (2, 3):
            tracker.log_metrics({"val_dice": epoch / 4}, epoch=epoch)
    history = client_of(config).get_metric_history(tracker.run_id, "val_dice")
    assert [(point.step, point.value) for point in history] == [(1, 0.125), (2, 0.25), (3, 0.75)]


def test_more_than_a_hundred_parameters_arrive(config: TrackingConfig) -> None:
    params = {f"key_{index}": index for index in range(205)}  # MLflow takes 100 a request
    with MlflowBackend(config=config).open() as tracker:
        tracker.log_params(params)
    run = client_of(config).get_run(tracker.run_id)
    assert run.data.params == {key: str(value) for key, value in params.items()}


def test_what_the_store_refuses_is_named_and_the_rest_arrives(config: TrackingConfig) -> None:
    with MlflowBackend(config=config).open() as tracker:
        tracker.log_metrics({"dice?": 0.5}, epoch=1)  # MLflow allows no question mark in a name
        tracker.log_metrics({"dice": 0.5}, epoch=2)
    run = client_of(config).get_run(tracker.run_id)
    assert [line.partition(":")[0] for line in tracker.unwritten] == ["metrics of epoch 1"]
    assert run.data.metrics == {"dice": 0.5}
    assert run.info.status == "FINISHED"


def test_a_run_has_one_logged_model_however_often_it_is_logged_and_it_is_that_file(
    sqlite_config: TrackingConfig, keras_file: Path, tmp_path: Path
) -> None:
    backend, client = MlflowBackend(config=sqlite_config), client_of(sqlite_config)
    with backend.open() as tracker:
        tracker.log_model(keras_file)
    with backend.open(run_id=tracker.run_id) as tracker:
        tracker.log_model(keras_file)
    run = client.get_run(tracker.run_id)
    (model,) = client.search_logged_models([run.info.experiment_id])
    assert (model.name, str(model.status), model.source_run_id) == ("model", "READY", tracker.run_id)
    assert [output.model_id for output in run.outputs.model_outputs] == [model.model_id]
    logged = backend.store.file(tracker.run_id, MODEL_FILE, tmp_path / "read")
    assert logged.read_bytes() == keras_file.read_bytes()  # not as MLflow writes it, which older versions refuse


def test_the_logged_model_loads_where_brainseg_is_not_installed(
    sqlite_config: TrackingConfig, server_config: TrackingConfig, keras_file: Path, tmp_path: Path
) -> None:
    import keras

    slices = np.random.default_rng(0).random((2, 8, 8, 1), dtype=np.float32)
    np.save(tmp_path / "slices.npy", slices)
    names = []
    for config in (sqlite_config, server_config):
        with MlflowBackend(config=config).open() as tracker:
            tracker.log_model(keras_file)
        (output,) = client_of(config).get_run(tracker.run_id).outputs.model_outputs
        uri = resolve_uri(config)
        names += [uri, f"runs:/{tracker.run_id}/model", uri, f"models:/{output.model_id}"]
    arguments = [str(tmp_path / "slices.npy"), str(tmp_path / "masks.npy"), *names]
    subprocess.run([sys.executable, "-c", LOAD, *arguments], check=True, cwd=tmp_path, env=environment(), timeout=200)
    expected = np.asarray(keras.saving.load_model(keras_file, compile=False)(slices))
    np.testing.assert_array_equal(np.load(tmp_path / "masks.npy"), np.stack([expected] * 4))


def test_adding_to_a_run_leaves_its_times_and_its_model(config: TrackingConfig, tmp_path: Path) -> None:
    with MlflowBackend(config=config).open() as tracker:
        tracker.log_metrics({"val_dice": 0.5}, epoch=1)
    before = client_of(config).get_run(tracker.run_id)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "scores.csv").write_text("id\n")
    MlflowBackend(config=config).store.add(tracker.run_id, tmp_path / "in", to="evaluation/val", tags={"note": "new"})
    after = client_of(config).get_run(tracker.run_id)
    assert before.info.end_time is not None
    assert dict(after.info) == dict(before.info)
    assert after.data.metrics == before.data.metrics
