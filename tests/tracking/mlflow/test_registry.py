"""What a model registry promises, on each kind of store, and which aliases MLflow takes."""

import pytest
from backends import Backend

import brainseg
from brainseg.errors import InputError, TrackingError
from brainseg.tracking import NewVersion
from brainseg.tracking.mlflow.registry import check_alias


def finished_run(backend: Backend) -> str:
    tracker = backend.open()
    with tracker:
        tracker.log_text("a model", "registered/model/MLmodel")
    return tracker.run_id


def new_version(**tags: str) -> NewVersion:
    return NewVersion(artifact="registered/model", tags=tags, description="# A model\n")


def test_a_run_that_was_never_registered_has_no_version(backend: Backend) -> None:
    assert backend.registry.of_run(finished_run(backend)) is None
    assert backend.registry.with_alias("nobody") is None


def test_a_version_is_found_by_its_run_and_the_newest_counts(backend: Backend) -> None:
    run_id, other = finished_run(backend), finished_run(backend)
    first = backend.registry.register(run_id, new_version(final_dice="0.5"))
    second = backend.registry.register(run_id, new_version(final_dice="0.75"))
    third = backend.registry.register(other, new_version())
    assert int(first.version) < int(second.version) < int(third.version)
    assert (second.run_id, second.tags) == (run_id, {"final_dice": "0.75", "brainseg": brainseg.__version__})
    assert backend.registry.of_run(run_id) == second
    assert backend.registry.of_run(other) == third


def test_a_version_that_was_made_by_hand_is_not_taken_for_one_that_serves(backend: Backend) -> None:
    run_id = finished_run(backend)
    backend.register("by-hand", run_id)
    assert backend.registry.of_run(run_id) is None


def test_an_alias_names_one_version_at_a_time_and_leads_to_its_run(backend: Backend) -> None:
    run_id, other = finished_run(backend), finished_run(backend)
    first = backend.registry.register(run_id, new_version())
    second = backend.registry.register(other, new_version())
    backend.registry.set_alias("registry-test", first)
    assert backend.registry.with_alias("registry-test") == first
    backend.registry.set_alias("registry-test", second)
    assert backend.registry.with_alias("registry-test") == second
    assert backend.store.aliases()["registry-test"] == other


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
