"""What a model registry promises, on each kind of store, and which names and aliases MLflow takes."""

from dataclasses import replace

import pytest
from backends import Backend, MlflowBackend

import brainseg
from brainseg.config import TrackingConfig
from brainseg.errors import InputError, TrackingError
from brainseg.tracking import NewVersion
from brainseg.tracking.mlflow.registry import check_alias, check_name


def finished_run(backend: Backend) -> str:
    tracker = backend.open()
    with tracker:
        tracker.log_text("a model", "registered/model/MLmodel")
    return tracker.run_id


def new_version(name: str = "brainseg", **tags: str) -> NewVersion:
    return NewVersion(name=name, artifact="registered/model", tags=tags, description="# A model\n")


def test_a_run_that_was_never_registered_has_no_version(backend: Backend) -> None:
    assert backend.registry.of_run(finished_run(backend)) == []
    assert backend.registry.with_alias("brainseg", "nobody") is None
    assert backend.registry.with_alias("no model", "nobody") is None


def test_versions_are_found_by_their_run_the_oldest_first(backend: Backend) -> None:
    run_id, other = finished_run(backend), finished_run(backend)
    first = backend.registry.register(run_id, new_version(final_dice="0.5"))
    second = backend.registry.register(run_id, new_version(final_dice="0.75"))
    third = backend.registry.register(other, new_version())
    assert int(first.version) < int(second.version) < int(third.version)
    assert (second.run_id, second.tags) == (run_id, {"final_dice": "0.75", "brainseg": brainseg.__version__})
    assert backend.registry.of_run(run_id) == [first, second]
    assert backend.registry.of_run(other) == [third]


def test_a_version_that_was_made_by_hand_is_not_taken_for_one_that_serves(backend: Backend) -> None:
    run_id = finished_run(backend)
    backend.register("by-hand", run_id)
    assert backend.registry.of_run(run_id) == []


def test_an_alias_names_one_version_at_a_time_and_leads_to_its_run(backend: Backend) -> None:
    run_id, other = finished_run(backend), finished_run(backend)
    first = backend.registry.register(run_id, new_version())
    second = backend.registry.register(other, new_version())
    backend.registry.set_alias("registry-test", first)
    assert backend.registry.with_alias("brainseg", "registry-test") == first
    backend.registry.set_alias("registry-test", second)
    assert backend.registry.with_alias("brainseg", "registry-test") == second
    assert backend.store.run_of_alias("brainseg@registry-test") == other


def test_each_registered_model_has_versions_and_aliases_of_its_own(backend: Backend) -> None:
    run_id, other = finished_run(backend), finished_run(backend)
    liver = backend.registry.register(run_id, new_version("the liver's"))
    retina = backend.registry.register(other, new_version("retina@10x"))
    assert (liver.name, retina.name) == ("the liver's", "retina@10x")
    backend.registry.set_alias("best", liver)
    backend.registry.set_alias("best", retina)
    assert backend.registry.with_alias("the liver's", "best") == liver
    assert backend.registry.with_alias("retina@10x", "best") == retina
    assert {"the liver's@best", "retina@10x@best"} <= set(backend.store.aliases())
    assert backend.store.run_of_alias("the liver's@best") == run_id
    assert backend.store.run_of_alias("retina@10x@best") == other
    again = backend.registry.register(run_id, new_version("retina@10x"))
    assert backend.registry.of_run(run_id) == [liver, again]


def test_a_model_is_named_like_the_experiment_of_its_run(sqlite_config: TrackingConfig) -> None:
    backend = MlflowBackend(config=replace(sqlite_config, experiment="liver"))
    assert backend.registry.name_for(finished_run(backend)) == "liver"


def test_an_unknown_run_is_an_error_that_names_it(backend: Backend) -> None:
    for ask in (backend.registry.of_run, lambda run_id: backend.registry.register(run_id, new_version())):
        with pytest.raises(TrackingError, match=r"no run .nobody."):
            ask("nobody")


def test_the_data_set_of_a_run_is_read_back(backend: Backend) -> None:
    from brainseg.tracking import DatasetInfo

    dataset = DatasetInfo(name="phantom", fingerprint="d" * 64, source="phantom:8", slices=40, patients=8)
    tracker = backend.open()
    with tracker:
        tracker.set_tags({"data_fingerprint": "d" * 64})
        tracker.log_dataset(dataset)
    assert backend.store.read(tracker.run_id).dataset == dataset
    assert backend.store.read(finished_run(backend)).dataset is None


@pytest.mark.parametrize("alias", ["champion", "v1b", "the-best_1", "latest2", "a" * 255])
def test_an_alias_that_mlflow_takes_is_taken(alias: str) -> None:
    from mlflow.utils.validation import _validate_model_alias_name, _validate_model_alias_name_reserved

    check_alias(alias)
    _validate_model_alias_name(alias)
    _validate_model_alias_name_reserved(alias)


@pytest.mark.parametrize("alias", ["", "latest", "Latest", "v1", "V12", "the best", "a/b", "a" * 256])
def test_an_alias_that_mlflow_refuses_is_refused(alias: str) -> None:
    with pytest.raises(InputError, match=r"^--alias "):
        check_alias(alias)


@pytest.mark.parametrize("name", ["liver", "the liver's", "retina@10x", "12", "a#b %20", "n" * 256])
def test_a_name_that_mlflow_takes_is_taken(name: str) -> None:
    from mlflow.store.artifact.utils.models import _parse_model_uri
    from mlflow.utils.validation import _validate_model_name

    check_name(name, called="--name")
    _validate_model_name(name)
    assert _parse_model_uri(f"models:/{name}@champion").name == name
    assert _parse_model_uri(f"models:/{name}/3").name == name


@pytest.mark.parametrize("name", ["", " ", ".", "..", "a/b", "a:b", "a?b", "a\nb", "n" * 257])
def test_a_name_that_mlflow_or_its_addresses_refuse_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"^--name can't name a registered model, got .*; name another with --name"):
        check_name(name, called="--name")
