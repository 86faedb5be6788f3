"""From probabilities to masks: threshold and small parts."""

import numpy as np
import pytest

from brainseg.classes import BINARY, Labels
from brainseg.errors import ConfigError
from brainseg.inference.postprocess import MaskSettings, classified, masks_by_threshold, without_small_parts

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


def test_a_probability_at_the_threshold_is_foreground():
    probability = np.array([[0.3, 0.5, 0.7], [0.0, 0.4999, 0.0]], np.float32)[..., np.newaxis]

    def mask(settings):
        return settings.masks(probability, BINARY)[..., 0].tolist()

    assert mask(MaskSettings()) == [[False, True, True], [False, False, False]]
    assert mask(MaskSettings(threshold=0.25)) == [[True, True, True], [False, True, False]]
    assert not np.any(mask(MaskSettings(threshold=0.6, min_area_px=2)))


# Two exclusive classes; of each pixel the probabilities of the background, of car and of road.
PIXELS = np.array([[0.5, 0.3, 0.2], [0.1, 0.5, 0.4], [0.2, 0.4, 0.4], [0.4, 0.4, 0.2]], np.float32)
EXCLUSIVE = Labels(names=("car", "road"), exclusive=True)


def test_an_exclusive_pixel_goes_to_the_most_probable_class():
    # Of equal ones the last: a class before the background.
    assert classified(PIXELS, EXCLUSIVE).tolist() == [[False, False], [True, False], [False, True], [True, False]]


def test_a_threshold_weighs_the_odds_of_an_exclusive_class():
    # car at 0.3: 0.3 * 7/3 = 0.7 beats the background's 0.5. road at 0.6: 0.4 * 2/3 loses against car.
    assert classified(PIXELS, EXCLUSIVE, (0.3, 0.6)).tolist() == [[True, False]] * 4
    # A single class beside the background: from its threshold on, as for a sigmoid.
    single = np.stack([1 - PIXELS[:, 1], PIXELS[:, 1]], axis=-1)
    alone = Labels(names=("car",), exclusive=True)
    for threshold in (0.25, 0.35, 0.45):
        found = classified(single, alone, threshold)[:, 0]
        assert found.tolist() == (PIXELS[:, 1] >= threshold).tolist()


def test_overlapping_classes_have_a_threshold_each():
    regions = Labels(names=("whole", "core"), exclusive=False)
    found = classified(np.array([[0.6, 0.6], [0.4, 0.3]], np.float32), regions, (0.4, 0.7))
    assert found.tolist() == [[True, False], [True, False]]


def test_without_a_background_every_pixel_has_a_class():
    labels = Labels(names=("a", "b", "c"), exclusive=True, has_background=False)
    assert classified(PIXELS, labels).tolist() == [[True, False, False], [False, True, False],
                                                   [False, False, True], [False, True, False]]  # fmt: skip


@pytest.mark.parametrize("labels", [EXCLUSIVE, Labels(names=("a", "b", "c"), exclusive=False)], ids=str)
def test_a_class_alone_is_found_as_among_the_others(labels):
    probability = np.random.default_rng(0).dirichlet([1, 1, 1], (6, 5)).astype(np.float32)
    thresholds = (0.3, 0.5, 0.65)
    for place in range(len(labels.names)):
        for threshold, mask in zip(thresholds, masks_by_threshold(probability, labels, place, thresholds), strict=True):
            every = tuple(threshold if other == place else 0.5 for other in range(len(labels.names)))
            np.testing.assert_array_equal(mask, classified(probability, labels, every)[..., place])


def test_small_parts_are_removed_by_class():
    found = MaskSettings(min_area_px=(0, 3)).masks(np.stack([np.ones((2, 1)), [[1], [0]]], axis=-1), Labels(
        names=("a", "b"), exclusive=False))  # fmt: skip
    assert found.sum(axis=(0, 1)).tolist() == [2, 0]
    settings = MaskSettings(threshold=(0.4, 0.5), min_area_px=(0, 3))
    assert settings.text == "no flips, threshold 0.4/0.5, parts below 0/3 px removed"
    assert MaskSettings.stored({"flip": "none", "threshold": [0.4, 0.5], "min_area_px": [0, 3]}) == settings


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
