"""Probabilities at the stored size, with and without flips and shifts."""

import numpy as np
import pytest

from brainseg.classes import BINARY
from brainseg.config import DataConfig
from brainseg.data.cache import load_slices
from brainseg.data.source import SliceInfo
from brainseg.inference.prediction import Predictor

SIZE = 8


class Made:
    """Twenty slices of random pixels, a batch and a bit, at the model's size; the last one is larger."""

    name, location, labels = "made", "nowhere", BINARY

    def slices(self):
        return tuple(SliceInfo(id=f"{number:02d}") for number in range(20))

    def read(self, slice_id):
        size = 2 * SIZE if slice_id == "19" else SIZE
        image = np.random.default_rng(int(slice_id)).integers(0, 256, (size, size, 1), dtype=np.uint8)
        return image, (image > 127).astype(np.uint8)

    def stamp(self):
        return "made"


@pytest.fixture
def slices(tmp_path):
    return load_slices(Made(), DataConfig(image_size=SIZE, channels="grey"), cache_dir=tmp_path)


def ramp(images, training):
    """A model that sees left and top: what it says of a pixel depends on where the pixel is."""
    weights = np.arange(SIZE * SIZE, dtype=np.float32).reshape(1, SIZE, SIZE, 1) / SIZE**2
    return images * weights


def test_the_plain_prediction_is_the_models(slices):
    found = list(Predictor(ramp).predict(slices, ["07", "03"]))
    assert [item.id for item in found] == ["03", "07"]
    for item in found:
        image, mask = slices.source.read(item.id)
        assert item.views.shape == (1, 1, SIZE, SIZE, 1)
        expected = image / np.float32(255) * np.arange(64, dtype=np.float32).reshape(SIZE, SIZE, 1) / 64
        np.testing.assert_allclose(item.probability(), expected, atol=1e-7)
        np.testing.assert_array_equal(item.masks, mask.astype(bool))


def test_flips_are_turned_back_and_averaged(slices):
    (item,) = Predictor(ramp).predict(slices, ["05"], flip="all")
    image = slices.source.read("05")[0] / 255
    weights = np.arange(64).reshape(SIZE, SIZE, 1) / 64
    views = [np.flip(np.flip(image, axes) * weights, axes) for axes in ((), (1,), (0,), (0, 1))]
    np.testing.assert_allclose(item.views[0], np.stack(views), atol=1e-6)
    np.testing.assert_allclose(item.probability(flip="all"), np.mean(views, axis=0), atol=1e-6)
    np.testing.assert_allclose(item.probability(flip="left-right"), np.mean(views[:2], axis=0), atol=1e-6)
    np.testing.assert_allclose(item.probability(), views[0], atol=1e-6)


def test_shifts_are_undone_and_averaged(slices):
    (item,) = Predictor(ramp).predict(slices, ["05"], flip="left-right", shift="diagonal")
    image = slices.source.read("05")[0] / 255
    weights = np.arange(64).reshape(SIZE, SIZE, 1) / 64

    def view(down, right, axes):
        seen = np.flip(np.roll(image, (down, right), axis=(0, 1)), axes) * weights
        return np.roll(np.flip(seen, axes), (-down, -right), axis=(0, 1))

    plain, mirrored = ([view(down, right, axes) for down, right in ((0, 0), (3, 5), (-3, -5))] for axes in ((), (1,)))
    for flip, views in {"none": plain, "left-right": plain + mirrored}.items():
        np.testing.assert_allclose(item.probability(flip=flip, shift="diagonal"), np.mean(views, axis=0), atol=1e-6)
    np.testing.assert_allclose(item.probability(), image * weights, atol=1e-6)
    assert np.abs(np.mean(plain, axis=0) - image * weights).max() > 0.1


def test_probabilities_have_the_stored_size_and_every_slice_comes_once(slices):
    found = list(Predictor(ramp).predict(slices, [f"{number:02d}" for number in range(20)], flip="all"))
    assert [item.id for item in found] == [f"{number:02d}" for number in range(20)]
    assert found[19].probability(flip="all").shape == found[19].masks.shape == (2 * SIZE, 2 * SIZE, 1)


def test_a_batch_is_announced_before_it_is_predicted(slices):
    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        next(Predictor(ramp).predict(slices, ["05"], on_batch=stop))


def test_views_that_were_not_predicted_are_no_mean(slices):
    (item,) = Predictor(ramp).predict(slices, ["05"], flip="left-right")
    for flip, shift in (("all", "none"), ("left-right", "diagonal")):
        message = f"slice 05 was predicted otherwise; predict it with flip='{flip}' and shift='{shift}'"
        with pytest.raises(ValueError, match=message):
            item.probability(flip=flip, shift=shift)
