"""Resizing of probabilities against values worked out by hand, TensorFlow and Pillow."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from brainseg.inference.resize import resize_probability


def test_resizing_to_the_same_shape_changes_nothing():
    probability = np.random.default_rng(0).random((5, 7), dtype=np.float32)
    np.testing.assert_array_equal(resize_probability(probability, (5, 7)), probability)


def test_resizing_repeats_the_edge_and_interpolates_between_centres():
    row = np.array([[0.0, 1.0]], np.float32)
    np.testing.assert_allclose(resize_probability(row, (1, 4)), [[0.0, 0.25, 0.75, 1.0]])


@pytest.mark.parametrize("shape", [(13, 10), (8, 32), (9, 16), (3, 5)])
def test_resizing_equals_tensorflow_without_antialiasing(shape):
    probability = np.random.default_rng(1).random((8, 10, 1), dtype=np.float32)
    expected = tf.image.resize(probability, shape, method="bilinear", antialias=False)
    resized = resize_probability(probability, shape)
    assert resized.dtype == np.float32
    np.testing.assert_allclose(resized, expected, atol=1e-6)


def test_enlarging_equals_pillow():
    probability = np.random.default_rng(2).random((8, 10), dtype=np.float32)
    expected = np.asarray(Image.fromarray(probability).resize((31, 20), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(resize_probability(probability, (20, 31)), expected, atol=1e-6)
