"""What an experiment of brainseg shows in the MLflow UI: the tags that its page of runs reads."""

import base64
import json
import zlib
from pathlib import Path
from typing import Any

import pytest
from backends import MlflowBackend

from brainseg.config import TrackingConfig
from brainseg.tracking.paths import resolve_uri

TAG = "mlflow.sharedViewState."


def tags_of(config: TrackingConfig) -> dict[str, str]:
    return dict(_client(config).get_experiment_by_name(config.experiment).tags)


def _client(config: TrackingConfig) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(resolve_uri(config))


def page_of(tag: str) -> dict[str, Any]:
    """The state of the page in a view's tag, as the UI unpacks it."""
    kind, _, packed = json.loads(tag)["state"].partition(";")
    assert kind == "deflate"
    page: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(packed)))
    return page


@pytest.fixture(params=["sqlite", "server"])
def config(request: pytest.FixtureRequest) -> TrackingConfig:
    found: TrackingConfig = request.getfixturevalue(f"{request.param}_config")
    return found


def test_a_new_experiment_has_views_of_runs_scores_and_curves(config: TrackingConfig) -> None:
    with MlflowBackend(config=config).open():
        pass
    tags = tags_of(config)
    views = {key.removeprefix(TAG): json.loads(value)["name"] for key, value in tags.items() if key.startswith(TAG)}
    assert views == {
        "brainseg-runs": "1 Runs, the newest first",
        "brainseg-scores": "2 Scores, the best first",
        "brainseg-curves": "3 Curves of the best",
    }
    scores = page_of(tags[f"{TAG}brainseg-scores"])
    assert (scores["orderByKey"], scores["orderByAsc"]) == ("metrics.`final_dice`", False)
    assert scores["selectedColumns"][:2] == ["metrics.`final_dice`", "metrics.`best_val_dice_image`"]
    curves = page_of(tags[f"{TAG}brainseg-curves"])
    assert [chart.get("metricKey") for chart in curves["compareRunCharts"] if chart["type"] == "LINE"] == [
        "val_dice_image",
        "train_dice",
        "val_loss",
        "train_loss",
    ]
    # MLflow's limit for older servers.
    assert max(len(value) for value in tags.values()) < 5000


def test_an_experiment_that_was_there_before_gets_the_views_and_keeps_its_tags(sqlite_config: TrackingConfig) -> None:
    _client(sqlite_config).create_experiment(sqlite_config.experiment, tags={"team": "radiology"})
    with MlflowBackend(config=sqlite_config).open():
        pass
    tags = tags_of(sqlite_config)
    assert tags["team"] == "radiology"
    assert {f"{TAG}brainseg-runs", f"{TAG}brainseg-scores", f"{TAG}brainseg-curves"} <= tags.keys()


def test_a_view_that_the_user_deleted_or_changed_stays_so(sqlite_config: TrackingConfig) -> None:
    backend = MlflowBackend(config=sqlite_config)
    with backend.open():
        pass
    client = _client(sqlite_config)
    experiment = client.get_experiment_by_name(sqlite_config.experiment).experiment_id
    client.set_experiment_tag(experiment, f"{TAG}brainseg-scores", "mine")
    client.delete_experiment_tag(experiment, f"{TAG}brainseg-curves")
    with backend.open():
        pass
    tags = tags_of(sqlite_config)
    assert tags[f"{TAG}brainseg-scores"] == "mine"
    assert f"{TAG}brainseg-curves" not in tags


def test_every_column_is_something_that_runs_record(tmp_path: Path) -> None:
    from brainseg.config import RunConfig, flatten
    from brainseg.tracking.mlflow.views import CHANGED, SEARCHED

    assert {*CHANGED, *SEARCHED} <= flatten(RunConfig()).keys()
