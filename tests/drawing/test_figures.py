"""Which slices a run shows, and that the pictures are there."""

import warnings

import numpy as np
import pytest
from PIL import Image

from brainseg.classes import Labels
from brainseg.data.encode import class_colour
from brainseg.drawing.figures import (
    TYPE_COLOURS,
    Panel,
    choose_panels,
    panel_of,
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


CLASSES = Labels(names=("car", "road"), exclusive=True)
CAR, ROAD = (0xE6, 0x9F, 0x00), (0x56, 0xB4, 0xE9)


def class_panel(image, *, channel=""):
    """A car that is predicted further down, and a road that is there alone in truth."""
    road = np.zeros((40, 30), np.bool_)
    road[30:36, 2:28] = True
    truth = np.stack([square(), road], axis=-1)
    predicted = np.stack([np.roll(square(), 5, axis=0), np.zeros_like(road)], axis=-1)
    return Panel(
        id="7",
        tumor_type="",
        dice=0.5,
        image=image,
        mask=truth,
        predicted=predicted,
        labels=CLASSES,
        channel=channel,
    )


def test_panels_in_colour_have_an_outline_of_each_class_and_a_legend(tmp_path):
    picture = np.full((40, 30, 3), (10, 20, 90), np.uint8)
    save_panels(tmp_path / "panels.png", [class_panel(picture)] * 3)
    with Image.open(tmp_path / "panels.png") as drawn:
        assert drawn.size == pytest.approx((3 * 2.1 * DPI, 5.1 * DPI), abs=1)
        assert has_colour(drawn, (10, 20, 90), within=3)
        assert has_colour(drawn, CAR)
        assert has_colour(drawn, ROAD)
        assert not has_colour(drawn, GREEN)
        legend = drawn.crop((0, drawn.height - 50, drawn.width, drawn.height))
        assert has_colour(legend, CAR)
        assert has_colour(legend, ROAD)


class FolderOfOne:
    """A source of one slice with channels that are no colours, a pixel of which is ignored."""

    name = location = "one"
    labels = Labels(names=("car", "road"), exclusive=True, has_ignored=True)

    def read(self, slice_id):
        mask = np.zeros((4, 5, 1), np.uint8)
        mask[0, :2], mask[1, 0], mask[3, 4] = 1, 2, 255
        return np.zeros((4, 5, 2), np.uint8), mask


def test_a_panel_has_the_mask_of_each_class_and_says_which_channel_it_shows():
    predicted = np.ones((4, 5, 2), np.bool_)
    panel = panel_of(FolderOfOne(), "7", tumor_type="", dice=0.5, predicted=predicted, channels=("flair", "t1"))
    assert [tuple(place) for place in np.argwhere(panel.mask)] == [(0, 0, 0), (0, 1, 0), (1, 0, 1)]
    assert [tuple(place) for place in np.argwhere(~panel.counted)] == [(3, 4, 0), (3, 4, 1)]
    assert (panel.channel, panel.labels.names) == ("flair", ("car", "road"))


def test_points_are_coloured_by_class_where_there_are_some(tmp_path):
    numbers = {"sizes": [0.004, 0.02, 0.05], "dices": [0.1, 0.5, 0.9]}
    save_dice_by_size(tmp_path / "sizes.png", **numbers, types=["road", "car", "car"], classes=["car", "road", "sky"])
    with Image.open(tmp_path / "sizes.png") as picture:
        on_white = [0.6 * np.array(colour) + 0.4 * 255 for colour in (CAR, ROAD)]
        assert [has_colour(picture, colour, within=10) for colour in on_white] == [True, True]


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


@pytest.mark.heavy
def test_of_many_classes_the_first_eight_have_a_curve(tmp_path):
    usual, other = Calibration(), Calibration()
    usual.add(np.array([0.1, 0.9], np.float32), np.array([False, True]))
    other.add(np.array([0.3, 0.6], np.float32), np.array([True, False]))

    def drawn(others):
        """The picture of nine classes; those at the places in `others` have another curve."""
        curves = {f"class {place}": (other if place in others else usual).near_tumor for place in range(9)}
        save_reliability(tmp_path / "r.png", curves, of_classes=True)
        with Image.open(tmp_path / "r.png") as picture:
            assert has_colour(picture, class_colour(7), within=10)
            return np.asarray(picture)

    plain = drawn(())
    assert (drawn((7,)) != plain).any()
    np.testing.assert_array_equal(drawn((8,)), plain)
