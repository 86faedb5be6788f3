"""What is chosen on validation slices, and what keeps a candidate from being chosen."""

import numpy as np
import pytest

from brainseg.classes import BINARY
from brainseg.config import DataConfig
from brainseg.data.cache import load_slices
from brainseg.data.source import SliceInfo
from brainseg.evaluate.tuning import MIN_AREAS_PX, THRESHOLDS, all_settings, choose, tables_of
from brainseg.inference.postprocess import MaskSettings
from brainseg.inference.prediction import Predictor
from brainseg.scoring.intervals import mean_interval
from brainseg.scoring.overlap import hard_dice
from brainseg.scoring.ranking import DiceTable

PEOPLE = ["a", "b", "c", "d", "e", "f"]
TYPES = ["glioma"] * 3 + ["meningioma"] * 3
START = np.full(6, 0.5)


def table(dices):
    """The Dice of the six slices, of one class."""
    dices = dices.reshape(6, -1)
    counted = np.ones(dices.shape, np.bool_)
    return DiceTable(dices=dices, counted=counted, people=tuple(PEOPLE), groups=tuple(TYPES))


def tables(changes):
    """Tables in which every setting has a Dice of 0.4, but the default 0.5, and those of `changes` their own."""
    dices = {settings: np.full(6, 0.4) for settings in all_settings()} | {MaskSettings(): START} | changes
    return {settings: table(own) for settings, own in dices.items()}


def test_nothing_is_chosen_where_nothing_is_better():
    choice = choose(tables({}), [""])
    assert (choice.settings, choice.dice, choice.slices) == (MaskSettings(), 0.5, 6)
    assert len(choice.candidates) == 2 + 1 + (len(THRESHOLDS) - 1) + (len(MIN_AREAS_PX) - 1)
    assert not any(candidate.is_chosen for candidate in choice.candidates)


def test_each_step_starts_from_what_was_chosen_before():
    flipped = MaskSettings(flip="left-right")
    shifted = MaskSettings(flip="left-right", shift="diagonal")
    lower = MaskSettings(flip="left-right", shift="diagonal", threshold=0.4)
    cleaned = MaskSettings(flip="left-right", shift="diagonal", threshold=0.4, min_area_px=50)
    best_of_all_but_not_on_the_way = MaskSettings(threshold=0.3, min_area_px=200)
    dices = {
        flipped: START + 0.1,
        shifted: START + 0.12,
        MaskSettings(flip="left-right", shift="diagonal", threshold=0.45): START + 0.15,
        lower: START + 0.2,
        cleaned: START + 0.25,
        best_of_all_but_not_on_the_way: START + 0.4,
    }
    choice = choose(tables(dices), [""])
    assert choice.settings == cleaned
    assert choice.dice == pytest.approx(0.75)
    chosen = [candidate for candidate in choice.candidates if candidate.is_chosen]
    assert [(candidate.against, candidate.settings) for candidate in chosen] == [
        (MaskSettings(), flipped),
        (flipped, shifted),
        (shifted, lower),
        (lower, cleaned),
    ]
    assert [candidate.difference.value for candidate in chosen] == pytest.approx([0.1, 0.02, 0.08, 0.05])


def test_a_candidate_that_is_surely_worse_for_a_type_is_not_chosen():
    # Gliomas gain 0.3 each, meningiomas lose 0.01 to 0.03: the interval of the latter lies below zero.
    worse = START + np.array([0.3, 0.3, 0.3, -0.01, -0.02, -0.03])
    # The same on average, but one meningioma gains.
    unsure = START + np.array([0.2, 0.2, 0.2, 0.02, -0.02, -0.03])
    dices = {MaskSettings(threshold=0.3): worse, MaskSettings(threshold=0.35): unsure}
    choice = choose(tables(dices), [""])
    assert choice.settings == MaskSettings(threshold=0.35)
    refused = next(each for each in choice.candidates if each.settings == MaskSettings(threshold=0.3))
    assert refused.dice > choice.dice
    assert refused.difference.value > 0
    assert refused.by_type["meningioma"] == mean_interval(worse[3:] - START[3:], PEOPLE[3:])
    assert refused.by_type["meningioma"].high < 0


def test_a_mean_that_stays_is_no_rise():
    assert choose(tables({MaskSettings(flip="left-right"): START}), [""]).settings == MaskSettings()


class Two:
    """Two slices whose image is what the model says of it; the second has a lone pixel far from the tumour."""

    name, location, labels = "two", "nowhere", BINARY

    def slices(self):
        return (SliceInfo(id="1"), SliceInfo(id="2"))

    def read(self, slice_id):
        image = np.zeros((16, 16), np.uint8)
        image[4:8, 4:8] = 160  # 0.63
        image[8:10, 4:8] = 89  # 0.35
        mask = (image > 0).astype(np.uint8)
        if slice_id == "2":
            image[14, 14] = 255
        return image[..., np.newaxis], mask[..., np.newaxis]

    def stamp(self):
        return "two"


def test_the_table_has_the_dice_of_every_slice_under_all_settings(tmp_path):
    slices = load_slices(Two(), DataConfig(image_size=16, channels="grey"), cache_dir=tmp_path)
    predictor = Predictor(lambda images, training: images)
    counted = []
    found = tables_of(predictor, slices, ["2", "1"], score_by="slice", on_slice=lambda: counted.append(1))
    assert len(counted) == 2
    assert set(found) == set(all_settings())
    dices = {settings: table.dices[:, 0] for settings, table in found.items()}
    assert list(dices[MaskSettings()]) == pytest.approx([2 * 16 / (16 + 24), 2 * 16 / (17 + 24)])
    assert list(dices[MaskSettings(threshold=0.3, min_area_px=10)]) == [1.0, 1.0]
    assert list(dices[MaskSettings(threshold=0.3)]) == pytest.approx([1.0, 48 / 49])
    for item in Predictor(lambda images, training: images).predict(slices, ["1", "2"], flip="all", shift="diagonal"):
        for settings in all_settings():  # the same as applying them one at a time
            predicted = settings.masks(item.probability(flip=settings.flip, shift=settings.shift), BINARY)
            assert dices[settings][int(item.id) - 1] == hard_dice(item.masks, predicted)


def test_each_class_gets_its_own_threshold_and_smallest_part():
    base = np.stack([START, START], axis=-1)
    lower, higher, cleaned = (
        MaskSettings(threshold=0.4),
        MaskSettings(threshold=0.6),
        MaskSettings(threshold=0.6, min_area_px=50),
    )
    gains = {lower: [0.2, -0.1], higher: [-0.1, 0.1], cleaned: [-0.2, 0.15]}
    found = {settings: table(base - 0.1) for settings in all_settings()} | {MaskSettings(): table(base)}
    found |= {settings: table(base + np.array(gain)) for settings, gain in gains.items()}
    choice = choose(found, ["car", "road"])
    assert choice.settings == MaskSettings(threshold=(0.4, 0.6), min_area_px=(0, 50))
    assert choice.dice == pytest.approx((0.7 + 0.65) / 2)
    chosen = [(each.class_name, each.settings) for each in choice.candidates if each.is_chosen]
    assert chosen == [("car", lower), ("road", higher), ("road", cleaned)]
