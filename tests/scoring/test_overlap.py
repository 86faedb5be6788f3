"""Overlap of masks against values worked out by hand."""

import subprocess
import sys

import numpy as np
import pytest

from brainseg.scoring.overlap import dice_per_image, hard_dice, iou


def mask(*pixels, size=4):
    """A boolean mask of size x size with these flat pixels set."""
    values = np.zeros(size * size, bool)
    values[list(pixels)] = True
    return values.reshape(size, size)


EMPTY = mask()
FIRST = mask(0, 1, 2, 3)
SECOND = mask(2, 3, 4, 5)  # 4 pixels, of which 2 are FIRST's
APART = mask(8, 9)


def test_masks_of_four_pixels_that_share_two_have_dice_one_half_and_iou_one_third():
    assert hard_dice(FIRST, SECOND) == 0.5
    assert iou(FIRST, SECOND) == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("one", "other", "expected"), [(EMPTY, EMPTY, 1.0), (EMPTY, FIRST, 0.0), (FIRST, EMPTY, 0.0), (FIRST, APART, 0.0)]
)
def test_two_empty_masks_score_one_and_masks_that_share_nothing_zero(one, other, expected):
    assert hard_dice(one, other) == expected
    assert iou(one, other) == expected


def test_dice_per_image_is_the_dice_of_each_image():
    masks = np.stack([FIRST, EMPTY, FIRST, FIRST])
    predictions = np.stack([SECOND, EMPTY, FIRST, APART])
    np.testing.assert_array_equal(dice_per_image(masks, predictions), [0.5, 1.0, 1.0, 0.0])


def test_dice_per_image_of_no_images_is_empty():
    assert dice_per_image(np.zeros((0, 4, 4), bool), np.zeros((0, 4, 4), bool)).shape == (0,)


def test_masks_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match=r"must have one shape, got \(1, 4, 4\) and \(1, 2, 2\); resize"):
        hard_dice(FIRST, mask(size=2))


def test_probabilities_in_place_of_masks_are_refused():
    with pytest.raises(ValueError, match=r"must be boolean, got bool and float32; compare with 0.5 first"):
        hard_dice(FIRST, SECOND.astype(np.float32))


@pytest.mark.heavy
def test_the_scores_of_evaluation_need_no_tensorflow():
    code = (
        "import sys, numpy as np; from brainseg.scoring.overlap import hard_dice; "
        "assert hard_dice(np.ones((2, 2), bool), np.ones((2, 2), bool)) == 1.0; "
        "assert 'tensorflow' not in sys.modules and 'keras' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
