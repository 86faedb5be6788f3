"""Runs that are trained on patches: validated and scored over whole slices, and resumed to the same end."""

import dataclasses
import signal

import keras
import numpy as np
import pytest
from sklearn.metrics import f1_score
from tiny_run import TIMINGS

from brainseg.data.load import load_data
from brainseg.errors import Interrupted
from brainseg.inference.prediction import Predictor
from brainseg.inference.windows import Windows, windows_of
from brainseg.tracking import MODEL_FILE, MemoryTracker
from brainseg.train.experiment import run
from brainseg.train.progress import Silent

pytestmark = [pytest.mark.heavy, pytest.mark.usefixtures("unrendered")]

# Slices of 128x128 pixels in patches of 48x64.
KEYS = {
    "data.phantom_patients": 4,
    "data.image_size": [48, 64],
    "data.patches": 2,
    "data.foreground_share": 0.5,
    "data.batch_size": 7,
    "data.val_fraction": 0.3,
    "model.depth": 1,
    "model.base_filters": 2,
    "model.standardize": True,
    "optimizer.learning_rate": 0.02,
    "optimizer.warmup_epochs": 0.0,
}


@pytest.fixture(autouse=True)
def dtype_policy():
    """Runs set it for the whole process."""
    before = keras.config.dtype_policy()
    yield
    keras.config.set_dtype_policy(before)


class Told(Silent):
    """Keeps what is said; sends a signal after the first step of the second epoch, if asked to."""

    def __init__(self, *, stop=False):
        self._stop = stop
        self.said = []

    def say(self, text):
        self.said.append(text)

    def step(self, *, epoch, step, dice, images_per_second):
        if self._stop and (epoch, step) == (2, 1):
            signal.raise_signal(signal.SIGTERM)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_in):
    config, tracker, reporter = tiny_in(tmp_path_factory.mktemp("patches"), **KEYS), MemoryTracker(), Told()
    return config, tracker, run(config, tracker, reporter=reporter), reporter.said


def read_model(tracker, folder):
    path = folder / "model.keras"
    path.write_bytes(tracker.files[MODEL_FILE])
    return keras.saving.load_model(path, compile=False, safe_mode=True)


def test_the_final_score_is_over_whole_slices_at_their_stored_size(finished, tmp_path):
    config, tracker, result, _ = finished
    model, data = read_model(tracker, tmp_path), load_data(config)
    assert windows_of(model) == Windows(size=(48, 64), standardized=True)
    assert "standardize" not in {layer.name for layer in model.layers}
    predictor, dices = Predictor(model), []
    for slice_id in data.split.val:
        image, mask = data.slices.source.read(slice_id)
        probability = predictor.windowed(image, flip="none", shift="none")[0, 0]
        assert probability.shape == (128, 128, 1)
        dices.append(f1_score(mask.ravel(), (probability >= 0.5).ravel(), zero_division=1.0))
    assert result.final_dice == pytest.approx(np.mean(dices), abs=1e-6)
    assert result.final_dice == pytest.approx(result.best_val_dice_image, abs=1e-4)
    assert result.final_dice > 0


def test_the_run_says_what_a_step_sees(finished):
    config, _, _, said = finished
    count = len(load_data(config).split.train)
    steps = -(-2 * count // 7)
    assert f"patches of 64x48: 2 of each of {count} slices an epoch, in {steps} steps of 7" in said


@pytest.mark.slow  # test_experiment.py has it for whole slices, test_patches.py that batches go on in mid-epoch
def test_a_run_that_was_stopped_ends_as_if_it_had_not_been(finished, tiny, tmp_path):
    _, expected, result, _ = finished
    config, tracker = tiny(**KEYS), MemoryTracker()
    with pytest.raises(Interrupted):
        run(config, tracker, reporter=Told(stop=True))
    again = run(dataclasses.replace(config, resume="memory"), tracker)
    for epoch, before in zip(again.history, result.history, strict=True):
        assert {key: value for key, value in epoch.items() if key not in TIMINGS} == {
            key: value for key, value in before.items() if key not in TIMINGS
        }
    weights = zip(*(read_model(one, tmp_path).get_weights() for one in (tracker, expected)), strict=True)
    for one, other in weights:
        np.testing.assert_array_equal(one, other)
