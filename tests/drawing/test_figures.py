"""Which slices a run shows, and that the pictures are there."""

import warnings

import numpy as np
import pytest
from PIL import Image

from brainseg.drawing.figures import (
    TYPE_COLOURS,
    Panel,
    choose_panels,
    save_curves,
    save_dice_by_size,
    save_panels,
    save_reliability,
)
from brainseg.scoring.calibration import Calibration

DPI = 110


@pytest.mark.parametrize(
    ("dices", "count", "expected"),
    [
        # In order of Dice: 3, 0, 6, 1, 5, 2, 4.
        ([0.2, 0.5, 0.8, 0.1, 0.9, 0.6, 0.3], 3, [3, 1, 4]),
        ([0.2, 0.5, 0.8, 0.1, 0.9, 0.6, 0.3], 6, [3, 0, 6, 1, 2, 4]),
        ([0.2, 0.5, 0.8, 0.1, 0.9, 0.6, 0.3], 7, [3, 0, 6, 1, 5, 2, 4]),
        ([0.2, 0.5, 0.8, 0.1, 0.9, 0.6, 0.3], 1, [3]),
        ([0.2, 0.5, 0.8, 0.1, 0.9, 0.6, 0.3], 2, [3, 1]),
        ([0.2, 0.5], 6, [0, 1]),  # no more than there are
        ([0.5, 0.5, 0.5], 3, [0, 1, 2]),  # equal ones in the order of ids
        ([0.7], 3, [0]),
    ],
)
def test_the_worst_the_median_and_the_best_slices_are_shown(dices, count, expected):
    assert choose_panels(dices, count=count) == expected


@pytest.mark.parametrize("slices", range(1, 12))
def test_no_slice_is_shown_twice(slices):
    dices = np.random.default_rng(slices).random(slices)
    for count in range(1, 13):
        chosen = choose_panels(dices, count=count)
        assert len(set(chosen)) == len(chosen) == min(count, slices)
        assert [dices[position] for position in chosen] == sorted(dices[position] for position in chosen)


def history(epochs):
    keys = ("train_loss", "val_loss", "train_dice", "val_dice", "val_dice_image")
    return [{key: (epoch + number) / 20 for number, key in enumerate(keys)} for epoch in range(epochs)]


@pytest.mark.parametrize("epochs", [1, 2, 12])
def test_curves_are_a_picture_of_10_by_4_inches(tmp_path, epochs):
    save_curves(tmp_path / "curves.png", history(epochs), best_epoch=1)
    with Image.open(tmp_path / "curves.png") as picture:
        assert (picture.format, picture.size) == ("PNG", (10 * DPI, 4 * DPI))
        assert len(picture.convert("RGB").getcolors(2**20)) > 20


def panel(mask, predicted):
    image = np.random.default_rng(0).integers(0, 256, (*mask.shape, 1), dtype=np.uint8)
    return Panel(
        id="7", tumor_type="glioma", dice=0.5, image=image, mask=mask[..., None], predicted=predicted[..., None]
    )


def square(shape=(40, 30)):
    mask = np.zeros(shape, np.bool_)
    mask[10:20, 8:18] = True
    return mask


def has_colour(picture, colour, *, within=40):
    pixels = np.asarray(picture.convert("RGB"), int)
    return bool((np.abs(pixels - colour).max(axis=2) < within).any())


GREEN, ORANGE = (0x2C, 0xA0, 0x2C), (0xFF, 0x5A, 0x36)


def test_panels_show_both_outlines_in_their_colours(tmp_path):
    save_panels(tmp_path / "panels.png", [panel(square(), np.roll(square(), 5, axis=0))] * 3)
    with Image.open(tmp_path / "panels.png") as picture:
        assert picture.format == "PNG"
        assert picture.size == pytest.approx((3 * 2.1 * DPI, 4.9 * DPI), abs=1)
        assert has_colour(picture, GREEN)
        assert has_colour(picture, ORANGE)


@pytest.mark.parametrize("predicted", [np.zeros((40, 30), np.bool_), np.ones((40, 30), np.bool_)], ids=["none", "all"])
def test_a_mask_without_an_outline_is_shown_without_a_warning(tmp_path, predicted):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save_panels(tmp_path / "panels.png", [panel(square(), predicted)])
    with Image.open(tmp_path / "panels.png") as picture:
        assert has_colour(picture, GREEN)
        assert not has_colour(picture, ORANGE)


@pytest.mark.parametrize("types", [["glioma", "", "pituitary"], ["", "", ""]], ids=["known", "unknown"])
def test_dice_by_size_is_a_picture_with_a_colour_for_each_type(tmp_path, types):
    save_dice_by_size(tmp_path / "sizes.png", sizes=[0.004, 0.02, 0.05], dices=[0.1, 0.5, 0.9], types=types)
    with Image.open(tmp_path / "sizes.png") as picture:
        assert (picture.format, picture.size) == ("PNG", (7 * DPI, 5 * DPI))
        on_white = [0.6 * np.array(list(bytes.fromhex(colour[1:]))) + 0.4 * 255 for colour in TYPE_COLOURS[:3]]
        shown = [has_colour(picture, colour, within=10) for colour in on_white]  # not the grey of letters
    assert shown == [True, types[0] != "", types[0] != ""]


def test_slices_without_a_tumour_have_no_place_among_the_sizes(tmp_path):
    save_dice_by_size(tmp_path / "sizes.png", sizes=[0.0, 0.0], dices=[0.0, 1.0], types=["", ""])
    assert (tmp_path / "sizes.png").stat().st_size > 0


def test_reliability_is_a_picture_of_both_curves(tmp_path):
    calibration = Calibration()
    rng = np.random.default_rng(0)
    probability = rng.random((50, 50)).astype(np.float32)
    calibration.add(probability, rng.random((50, 50)) < probability)
    calibration.add(np.zeros((50, 50), np.float32), np.zeros((50, 50), np.bool_))
    save_reliability(tmp_path / "r.png", {"near": calibration.near_tumor, "all": calibration.all_pixels})
    with Image.open(tmp_path / "r.png") as picture:
        assert picture.size == (10 * DPI, round(4.5 * DPI))
        assert all(has_colour(picture, tuple(bytes.fromhex(colour[1:]))) for colour in TYPE_COLOURS[:2])
