"""Probabilities of images of any size, from overlapping windows."""

import tracemalloc

import numpy as np
import pytest

from brainseg.errors import InputError
from brainseg.inference.prediction import Predictor, ensemble
from brainseg.inference.windows import WINDOW_BATCH, Windows, in_bands, in_windows, windows_of


def noise(height, width, channels=1):
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)


def itself(images):
    """A model whose probability is the image."""
    return np.asarray(images)


def gaussian(size):
    return np.exp(-(((np.arange(size) - (size - 1) / 2) / (size / 8)) ** 2) / 2)


PLAIN = Windows(size=(8, 16), standardized=False)


@pytest.mark.parametrize("shape", [(8, 16), (20, 37), (9, 16), (5, 11), (3, 40), (64, 64)])
def test_a_model_that_gives_the_image_back_gives_all_of_it_at_its_own_size(shape):
    image = noise(*shape, 2)
    found = in_windows(image, PLAIN, itself)
    assert (found.shape, found.dtype) == (image.shape, np.float32)
    np.testing.assert_allclose(found, image / 255, atol=1e-6)


def test_windows_overlap_by_half_at_least_and_weigh_most_at_their_centres():
    """A row of 12 pixels in windows of 8: at 0 and 4, each of which says its own number."""
    numbers = iter([0.25, 0.75])

    def predict(images):
        found = np.zeros((WINDOW_BATCH, 8, 8, 1), np.float32)
        for place, number in zip(range(2), numbers, strict=False):
            found[place] = number
        return found

    (band,) = in_bands(noise(8, 12), Windows(size=(8, 8), standardized=False), predict)
    first, second = gaussian(8)[4:], gaussian(8)[:4]
    mixed = (0.25 * first + 0.75 * second) / (first + second)
    np.testing.assert_allclose(band[0, :, 0], [*[0.25] * 4, *mixed, *[0.75] * 4], atol=1e-6)
    assert 0.25 < mixed[0] < 0.3


def test_each_window_is_predicted_once_in_batches_of_one_shape():
    shapes = []

    def predict(images):
        shapes.append(images.shape)
        return np.asarray(images)

    in_windows(noise(16, 40), PLAIN, predict)  # 3 rows of 4 windows
    assert shapes == [(WINDOW_BATCH, 8, 16, 1)] * 2


def test_bands_of_rows_come_as_they_are_complete():
    image = noise(30, 16)
    bands = list(in_bands(image, PLAIN, itself))
    assert [len(band) for band in bands] == [4, 3, 4, 4, 3, 4, 8]
    np.testing.assert_allclose(np.concatenate(bands), image / 255, atol=1e-6)


def test_an_image_is_standardised_as_a_whole_before_it_is_cut():
    image = noise(20, 30)
    found = in_windows(image, Windows(size=(8, 16), standardized=True), lambda images: np.tanh(images) / 2)
    values = image / 255
    expected = np.tanh((values - values.mean()) / np.sqrt(values.var() + 1e-3)) / 2
    np.testing.assert_allclose(found, expected, atol=1e-5)


class Model:
    """What gives the image back, and says by its name what it sees."""

    def __init__(self, name, size=(8, 8)):
        self.name = name
        self.input_shape = (None, *size, 1)

    def __call__(self, images, training):
        weights = np.arange(64, dtype=np.float32).reshape(1, 8, 8, 1) / 64
        return images * weights


@pytest.mark.parametrize(
    ("name", "windows"),
    [
        ("unet", None),
        ("unet_of_windows", Windows(size=(8, 8), standardized=False)),
        ("unet_of_standardized_windows", Windows(size=(8, 8), standardized=True)),
    ],
)
def test_a_models_name_says_what_it_sees(name, windows):
    assert windows_of(Model(name)) == Predictor(ensemble([Model(name), Model(name)])).windows == windows


def test_models_that_see_images_otherwise_are_not_averaged():
    with pytest.raises(InputError, match="only models that see images alike can be averaged"):
        ensemble([Model("unet_of_windows"), Model("unet")])


def test_flips_and_shifts_are_of_each_window():
    image = noise(8, 8)
    views = Predictor(Model("unet_of_windows")).windowed(image, flip="left-right", shift="diagonal")
    assert views.shape == (3, 2, 8, 8, 1)
    weights = np.arange(64).reshape(8, 8, 1) / 64
    np.testing.assert_allclose(views[0, 1], image / 255 * np.flip(weights, 1), atol=1e-6)
    moved = np.roll(np.roll(image / 255, (3, 5), axis=(0, 1)) * weights, (-3, -5), axis=(0, 1))
    np.testing.assert_allclose(views[1, 0], moved, atol=1e-6)


def test_memory_holds_a_row_of_windows_and_not_the_whole_result():
    image = np.zeros((4096, 64, 1), np.uint8)
    tracemalloc.start()
    rows = sum(len(band) for band in in_bands(image, Windows(size=(32, 32), standardized=True), itself))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert rows == 4096
    assert peak < 4096 * 64 * 4 / 1.5  # the probabilities of all rows
