"""Runs that start from weights of other images, and an encoder whose weights move less than the decoder's."""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from trained_run import Trained, record_again

from brainseg.classes import BINARY, Labels
from brainseg.config import RunConfig, TrackingConfig
from brainseg.errors import InputError
from brainseg.model.encoders.weights import start_from, weights_of_model
from brainseg.model.models import build_network
from brainseg.model.network import HEAD, Network
from brainseg.tracking import MODEL_FILE, MemoryStore, MemoryTracker
from brainseg.train.experiment import run
from brainseg.train.progress import Silent
from brainseg.train.starting_weights import starting_weights

pytestmark = [pytest.mark.heavy, pytest.mark.usefixtures("unrendered")]

Make = Callable[..., RunConfig]
# One step an epoch.
SMALL = {"model.depth": 1, "data.batch_size": 4096, "data.augment": "none", "tracking.predictions": 0}
ENCODER = {"model.name": "encoder_unet", "data.image_size": 32, "model.decoder_filters": [8, 8, 4, 4]}
CLASSES = Labels(names=("a", "b"), exclusive=True)
# Too small a step to be seen.
STANDING = {"optimizer.learning_rate": 1e-12, "optimizer.weight_decay": 0.0, "optimizer.warmup_epochs": 0.0}
STEADY = {"optimizer.weight_decay": 0.0, "optimizer.warmup_epochs": 0.0, "optimizer.schedule": "constant"}


class Listener(Silent):
    """Keeps what a run says."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture(autouse=True)
def dtype_policy() -> Iterator[None]:
    before = keras.config.dtype_policy()
    yield
    keras.config.set_dtype_policy(before)


@pytest.fixture(autouse=True)
def without_graphs() -> Iterator[None]:
    """TensorFlow computes step by step: the graph of a step costs far more than the one that a run here makes."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture
def small(tiny: Make) -> Make:
    """Makes the configuration of a run of one step an epoch."""
    return functools.partial(tiny, **SMALL)


def model_of(config: RunConfig, folder: Path, reporter: Listener | None = None) -> Any:
    """The run's model, its file in the folder."""
    tracker = MemoryTracker()
    run(config, tracker, reporter=reporter or Listener())
    folder.mkdir(exist_ok=True)
    path = folder / "model.keras"
    path.write_bytes(tracker.files[MODEL_FILE])
    return keras.saving.load_model(path, compile=False)


def test_the_encoders_first_step_is_a_share_of_the_rate(small: Make, tmp_path: Path) -> None:
    """Adam's first step is the rate itself where the gradient isn't tiny, and less where it is."""
    keys = {"train.epochs": 1, "optimizer.name": "adam", "optimizer.learning_rate": 1e-3, **STEADY}
    config = small(**ENCODER, **keys, **{"optimizer.encoder_rate": 0.25})
    start = build_network(config.model, input_shape=(32, 32, 1), labels=BINARY, seed=config.seed).model
    pairs = zip(model_of(config, tmp_path).trainable_variables, start.trainable_variables, strict=True)
    steps: dict[bool, list[float]] = {True: [], False: []}
    for new, old in pairs:
        steps[new.path.startswith("encoder_")].append(np.abs(np.asarray(new) - np.asarray(old)).max())
    assert len(steps[True]) == 144
    assert max(steps[True]) == pytest.approx(0.25e-3, rel=0.02)
    assert max(steps[False]) == pytest.approx(1e-3, rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("share", "keys"), [(0.25, {}), (0.25, {"optimizer.weight_decay": 0.5, "train.ema_decay": 0.9}), (0.0, {})]
)
def test_the_encoders_weights_move_by_a_share_of_the_step(
    small: Make, tmp_path: Path, share: float, keys: dict[str, Any]
) -> None:
    one_step = ENCODER | {"train.epochs": 1, "optimizer.warmup_epochs": 0.0} | keys
    config = small(**one_step)
    start = build_network(config.model, input_shape=(32, 32, 1), labels=BINARY, seed=config.seed).model

    def moved(rate: float) -> dict[str, Any]:
        model = model_of(small(**one_step, **{"optimizer.encoder_rate": rate}), tmp_path)
        pairs = zip(model.trainable_variables, start.trainable_variables, strict=True)
        return {new.path: np.asarray(new) - np.asarray(old) for new, old in pairs}

    whole, scaled = moved(1.0), moved(share)
    for path, step in whole.items():
        expected = share * step if path.startswith("encoder_") else step
        np.testing.assert_allclose(scaled[path], expected, atol=3e-6, err_msg=path)
    encoders = [np.abs(step).max() for path, step in whole.items() if path.startswith("encoder_")]
    assert len(encoders) == 144
    assert np.median(encoders) > 1e-4  # they do move


def test_a_model_is_trained_on_for_other_classes_with_a_new_head(small: Make, tmp_path: Path) -> None:
    binary = model_of(small(**{"train.epochs": 1}), tmp_path)
    classes = {"data.phantom_kind": "classes", "data.score_by": "auto", "train.epochs": 1}
    listener = Listener()
    start = {"model.weights": str(tmp_path / "model.keras")}
    config = small(**classes, **STANDING, **start)
    other = model_of(config, tmp_path / "other", listener)
    origin = f"{tmp_path}/model.keras"
    assert f"starts from {origin}; the head starts anew, since {origin} has other classes" in listener.lines
    kept = {variable.path: np.asarray(variable) for variable in binary.trainable_variables}
    for variable in other.trainable_variables:
        if not variable.path.startswith("head/"):
            np.testing.assert_allclose(np.asarray(variable), kept[variable.path], atol=1e-6, err_msg=variable.path)


def test_weights_of_another_network_are_refused_by_the_layer_that_differs(small: Make, tmp_path: Path) -> None:
    model_of(small(**{"train.epochs": 1}), tmp_path)
    config = small(**{"model.base_filters": 8, "model.weights": str(tmp_path / "model.keras")})
    with pytest.raises(InputError, match=r"model\.keras is of another network, whose layer encoder1_conv1 differs"):
        run(config, MemoryTracker())


@pytest.mark.parametrize(
    ("weights", "keys", "told"),
    [
        ("gone.keras", {}, "gone.keras isn't there; name a .keras file, or the id of a run"),
        ("gone.pth", ENCODER, "model.weights=gone.pth isn't there; name a file, the id of a run, or imagenet"),
        ("a.pth", {}, "model.weights=a.pth is for an encoder, got model.name=unet"),
        (
            "a.h5",
            ENCODER,
            "model.weights=a.h5: model.encoder=efficientnet_lite0 takes .pth, or .keras of a whole network",
        ),
        ("nobody", {}, "no runs are kept in sqlite:"),
    ],
)
def test_weights_that_cannot_be_had_are_one_line(
    small: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: str, keys: dict[str, Any], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.h5").touch()
    with pytest.raises(InputError) as refused:
        starting_weights(small(**keys, **{"model.weights": weights}))
    assert str(refused.value).startswith(told)


class Killed(BaseException):
    """Nothing is done any more in such a process."""


def killed(*_: Any, **__: Any) -> None:
    raise Killed


@pytest.fixture
def started(small: Make, tmp_path: Path) -> RunConfig:
    """The configuration of a run that starts from a file."""
    model_of(small(**{"train.epochs": 1, "seed": 1}), tmp_path)
    return small(**{"train.epochs": 1, "model.weights": str(tmp_path / "model.keras")})


def whole_of(config: RunConfig, folder: Path) -> Any:
    """The model that the run makes when nothing disturbs it."""
    undisturbed = dataclasses.replace(config, tracking=TrackingConfig(root=str(folder / "other")))
    return model_of(undisturbed, folder / "whole")


def resumed(config: RunConfig, tracker: MemoryTracker, folder: Path) -> Any:
    """The model at the end."""
    run(dataclasses.replace(config, resume="memory"), tracker)
    (folder / "resumed.keras").write_bytes(tracker.files[MODEL_FILE])
    return keras.saving.load_model(folder / "resumed.keras", compile=False)


@pytest.mark.parametrize(
    "last",
    [
        pytest.param("brainseg.train.loop.Trainer.fit", id="before a step", marks=pytest.mark.slow),
        pytest.param("brainseg.train.loop.Trainer._validate", id="after all steps"),
    ],
)
def test_a_run_that_is_killed_in_its_first_epoch_needs_the_weights_no_more(
    started: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: str
) -> None:
    tracker = MemoryTracker()
    with monkeypatch.context() as patched:
        patched.setattr(last, killed)
        with pytest.raises(Killed):
            run(started, tracker)
    whole = whole_of(started, tmp_path)
    (tmp_path / "model.keras").unlink()
    for array, expected in zip(resumed(started, tracker, tmp_path).get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(array, expected)
    assert tracker.tags["weights"] == f"{tmp_path}/model.keras"


def test_a_run_that_is_killed_before_it_has_its_weights_asks_for_them_again(
    started: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = MemoryTracker()
    with monkeypatch.context() as patched:
        patched.setattr("brainseg.train.checkpoint.Checkpoints.save", killed)
        with pytest.raises(Killed):
            run(started, tracker)
    (tmp_path / "model.keras").rename(tmp_path / "elsewhere.keras")
    with pytest.raises(InputError, match=r"model\.keras isn't there"):
        resumed(started, tracker, tmp_path)
    (tmp_path / "elsewhere.keras").rename(tmp_path / "model.keras")
    whole = whole_of(started, tmp_path)
    for array, expected in zip(resumed(started, tracker, tmp_path).get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(array, expected)


@pytest.fixture
def store(trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MemoryStore:
    """memory-1, which `champion` names, started from ImageNet."""
    made = MemoryStore()
    monkeypatch.setattr("brainseg.tracking.open_store", lambda config: made)
    record_again(trained, made.open_tracker(run_name="one"), tmp_path, weights="Lite0 of ImageNet (Apache-2.0)")
    made.registered["brainseg@champion"] = "memory-1"
    return made


def test_a_run_is_trained_on_by_its_alias_in_other_channels_for_other_classes_and_its_origin_stays_known(
    store: MemoryStore, small: Make, tmp_path: Path
) -> None:
    file = tmp_path / "model.keras"
    file.write_bytes(store.trackers["memory-1"].files[MODEL_FILE])
    first = keras.saving.load_model(file, compile=False)
    grey = first.get_layer("encoder1_conv1").get_weights()[0]
    keys = {"data.phantom_kind": "classes", "data.channels": "rgb", "data.score_by": "auto", "train.epochs": 1}
    config = small(**keys, **STANDING, **{"model.depth": 2, "model.weights": "champion"})
    listener = Listener()
    origin = "brainseg@champion, run memory-1, which started from Lite0 of ImageNet (Apache-2.0)"
    tracker = store.open_tracker(run_name="two")
    run(config, tracker, reporter=listener)
    assert f"starts from {origin}; the head starts anew, since {origin} has other classes" in listener.lines
    assert tracker.tags["weights"] == origin
    file.write_bytes(tracker.files[MODEL_FILE])
    second = keras.saving.load_model(file, compile=False)
    kernel = second.get_layer("encoder1_conv1").get_weights()[0]
    np.testing.assert_allclose(kernel, np.repeat(grey, 3, axis=2) / 3, atol=1e-6)
    assert (
        starting_weights(small(**{"model.weights": "memory-1"})).sha256
        == weights_of_model(first, origin="", classes=None).sha256
    )


def test_a_head_for_as_many_classes_of_other_names_starts_anew(small: Make) -> None:
    def network(seed: int) -> Network:
        return build_network(small().model, input_shape=(32, 32, 1), labels=CLASSES, seed=seed)

    given = network(1).model
    for classes, told in [(("a", "b"), ""), (("b", "a"), "the head starts anew, since a test has other classes")]:
        made = network(0)
        before = made.model.get_layer(HEAD).get_weights()
        assert start_from(weights_of_model(given, origin="a test", classes=classes), made, CLASSES) == told
        expected = before if told else given.get_layer(HEAD).get_weights()
        for array, other in zip(made.model.get_layer(HEAD).get_weights(), expected, strict=True):
            np.testing.assert_array_equal(array, other)
