"""Runs that start from weights of other images, and an encoder whose weights move less than the decoder's."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from brainseg.classes import BINARY
from brainseg.config import RunConfig
from brainseg.errors import InputError
from brainseg.model.models import build_network
from brainseg.tracking import MODEL_FILE, MemoryTracker
from brainseg.train.experiment import run
from brainseg.train.progress import Silent
from brainseg.train.starting_weights import starting_weights

pytestmark = pytest.mark.heavy

Make = Callable[..., RunConfig]
ENCODER = {"model.name": "encoder_unet", "data.image_size": 32, "model.decoder_filters": [8, 8, 4, 4]}
# Too small a step to be seen.
STANDING = {"optimizer.learning_rate": 1e-12, "optimizer.weight_decay": 0.0, "optimizer.warmup_epochs": 0.0}


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


def trained(config: RunConfig, folder: Path, reporter: Listener | None = None) -> Any:
    """The run's model, its file in the folder."""
    tracker = MemoryTracker()
    run(config, tracker, reporter=reporter or Listener())
    path = folder / "model.keras"
    path.write_bytes(tracker.files[MODEL_FILE])
    return keras.saving.load_model(path, compile=False)


def test_the_encoders_weights_move_by_a_share_of_the_step(tiny: Make, tmp_path: Path) -> None:
    one_step = ENCODER | {"train.epochs": 1, "data.batch_size": 4096, "optimizer.warmup_epochs": 0.0}
    config = tiny(**one_step)
    start = build_network(config.model, input_shape=(32, 32, 1), labels=BINARY, seed=config.seed).model

    def moved(rate: float) -> dict[str, Any]:
        model = trained(tiny(**one_step, **{"optimizer.encoder_rate": rate}), tmp_path)
        pairs = zip(model.trainable_variables, start.trainable_variables, strict=True)
        return {new.path: np.asarray(new) - np.asarray(old) for new, old in pairs}

    whole, quarter = moved(1.0), moved(0.25)
    for path, step in whole.items():
        share = 0.25 if path.startswith("encoder_") else 1.0
        np.testing.assert_allclose(quarter[path], share * step, atol=3e-6, err_msg=path)
    encoders = [np.abs(step).max() for path, step in whole.items() if path.startswith("encoder_")]
    assert len(encoders) == 144
    assert np.median(encoders) > 1e-4  # they do move


def test_a_model_is_trained_on_for_other_classes_with_a_new_head(tiny: Make, tmp_path: Path) -> None:
    binary = trained(tiny(**{"train.epochs": 1}), tmp_path)
    classes = {"data.phantom_kind": "classes", "data.score_by": "auto", "train.epochs": 1}
    listener = Listener()
    start = {"model.weights": str(tmp_path / "model.keras")}
    config = tiny(**classes, **STANDING, **start)
    (tmp_path / "other").mkdir()
    other = trained(config, tmp_path / "other", listener)
    said = f"starts from {tmp_path}/model.keras; the head starts anew: {tmp_path}/model.keras has 1 outputs, and this 4"
    assert said in listener.lines
    kept = {variable.path: np.asarray(variable) for variable in binary.trainable_variables}
    for variable in other.trainable_variables:
        if not variable.path.startswith("head/"):
            np.testing.assert_allclose(np.asarray(variable), kept[variable.path], atol=1e-6, err_msg=variable.path)


def test_weights_of_another_network_are_refused_by_the_layer_that_differs(tiny: Make, tmp_path: Path) -> None:
    trained(tiny(**{"train.epochs": 1}), tmp_path)
    config = tiny(**{"model.base_filters": 8, "model.weights": str(tmp_path / "model.keras")})
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
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: str, keys: dict[str, Any], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.h5").touch()
    with pytest.raises(InputError) as refused:
        starting_weights(tiny(**keys, **{"model.weights": weights}))
    assert str(refused.value).startswith(told)


def test_a_resumed_run_needs_the_weights_no_more(tiny: Make) -> None:
    assert starting_weights(tiny(**{"model.weights": "gone.keras", "resume": "0a1b"})) is None
