"""From probabilities to masks: threshold and small parts."""

import numpy as np
import pytest

from brainseg.errors import ConfigError
from brainseg.inference.postprocess import MaskSettings, without_small_parts

# Parts of 4 (two of them touch the others at a corner alone), 2 and 1 pixels.
PARTS = np.array(
    [
        [1, 1, 0, 0, 0, 1],
        [0, 0, 1, 0, 0, 0],
        [0, 0, 0, 1, 0, 0],
        [0, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
    ],
    np.bool_,
)


def test_parts_that_are_too_small_are_removed():
    found = without_small_parts(PARTS, (0, 1, 2, 3, 4, 5))
    assert [int(mask.sum()) for mask in found] == [7, 7, 6, 4, 4, 0]
    assert all(mask.dtype == np.bool_ for mask in found)
    np.testing.assert_array_equal(found[3][:3, :4], PARTS[:3, :4])
    np.testing.assert_array_equal(found[3][4], np.zeros(6, np.bool_))


def test_a_mask_that_is_empty_or_full_stays():
    for mask in (np.zeros((4, 4), np.bool_), np.ones((4, 4), np.bool_)):
        np.testing.assert_array_equal(without_small_parts(mask, (16,))[0], mask)
    assert not without_small_parts(np.ones((4, 4), np.bool_), (17,))[0].any()


def test_a_probability_at_the_threshold_is_tumour():
    probability = np.array([[0.3, 0.5, 0.7], [0.0, 0.4999, 0.0]], np.float32)
    assert MaskSettings().mask(probability).tolist() == [[False, True, True], [False, False, False]]
    assert MaskSettings(threshold=0.25).mask(probability).tolist() == [[True, True, True], [False, True, False]]
    assert MaskSettings(threshold=0.6, min_area_px=2).mask(probability).sum() == 0


def test_settings_say_what_they_do():
    assert MaskSettings().text == "no flips, threshold 0.5, nothing removed"
    assert (
        MaskSettings(flip="left-right", threshold=0.45, min_area_px=25).text
        == "mean over left-right flips, threshold 0.45, parts below 25 px removed"
    )
    assert MaskSettings(shift="diagonal").text == "mean over diagonal shifts, threshold 0.5, nothing removed"
    assert (
        MaskSettings(flip="all", shift="diagonal").text
        == "mean over all flips and diagonal shifts, threshold 0.5, nothing removed"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"flip": "both"}, "--flip must be one of none, left-right, all, got 'both'"),
        ({"shift": "left"}, "--shift must be one of none, diagonal, got 'left'"),
        ({"threshold": 2.0}, "--threshold must be between 0 and 1, both excluded, got 2.0"),
        ({"threshold": 0.0}, "--threshold must be between 0 and 1, both excluded, got 0.0"),
        ({"threshold": float("nan")}, "--threshold must be between 0 and 1, both excluded, got nan"),
        ({"min_area_px": -1}, "--min-area must be at least 0, got -1"),
    ],
)
def test_settings_out_of_range_are_refused(change, message):
    with pytest.raises(ConfigError) as caught:
        MaskSettings(**change)
    assert str(caught.value) == message
