"""Crops of slices at their stored size: where they lie, what they hold, and how they are standardised."""

import itertools

import numpy as np
import pytest

from brainseg.classes import BINARY, Labels
from brainseg.data.batches import TrainingBatches
from brainseg.data.cache import SliceSet
from brainseg.data.patches import Patches, cut
from brainseg.data.ragged import Ragged, RaggedFile
from brainseg.data.source import SliceInfo
from brainseg.data.standardize import statistics

SIZES = [(20, 30), (16, 12), (6, 40)]


def picture(position, *, channels=1):
    """Every pixel of a slice is its own: no two crops are alike."""
    height, width = SIZES[position]
    return np.random.default_rng(position).integers(1, 256, (height, width, channels), dtype=np.uint8)


def mask(position):
    """One pixel of foreground at row 3, column 11; none on the second slice."""
    found = np.zeros((*SIZES[position], 1), np.uint8)
    found[3, 11] = position != 1
    return found


def ragged(pictures, path):
    with RaggedFile(path) as file:
        for one in pictures:
            file.add(one)
    flat = np.load(path, mmap_mode="r")
    return Ragged(flat, np.array([one.shape[:2] for one in pictures], np.int32))


@pytest.fixture
def slices(tmp_path):
    return SliceSet(
        slices=tuple(SliceInfo(id=f"{position}") for position in range(3)),
        images=ragged([picture(position) for position in range(3)], tmp_path / "images.npy"),
        masks=ragged([mask(position) for position in range(3)], tmp_path / "masks.npy"),
        labels=BINARY,
        channels_are_alike=True,
        sizes=np.array(SIZES, np.int32),
        fingerprint="f",
        source=None,
    )


def patches(slices, **changes):
    options = {"size": (8, 8), "count": 4, "foreground_share": None, "standardize": False, "seed": 3}
    return Patches(slices, np.arange(3), **options | changes)


def batches(slices, count, **changes):
    options = {
        "batch_size": 5,
        "augment": "none",
        "foreground_share": 0.5,
        "seed": 3,
        "epoch": 1,
        "step": 0,
        "device": "/CPU:0",
        "patches": 4,
        "size": (8, 8),
    }
    with TrainingBatches(slices, ["0", "1", "2"], **options | changes) as found:
        return [(images.numpy(), masks.numpy()) for images, masks in itertools.islice(found, count)]


def place_of(crop, image):
    """The top and left of a crop in an image, found by comparing pixels; None if it isn't there."""
    windows = np.lib.stride_tricks.sliding_window_view(image, crop.shape[:2], axis=(0, 1))
    places = np.argwhere((np.moveaxis(windows, 2, -1) == crop).all(axis=(2, 3, 4)))
    return tuple(places[0].tolist()) if len(places) else None


def test_pictures_of_any_size_are_read_as_they_were_written(tmp_path):
    colours = [picture(position, channels=3) for position in range(3)]
    found = ragged(colours, tmp_path / "three.npy")
    for position in range(3):
        np.testing.assert_array_equal(found[position], colours[position])


def test_an_epoch_has_as_many_crops_of_each_slice_in_an_order_of_its_own(slices):
    drawn = patches(slices)
    first, second = (drawn.order(epoch=epoch)[:, 0] for epoch in (1, 2))
    assert len(drawn) == 12
    assert sorted(first) == sorted(second) == list(range(12))
    assert first.tolist() != second.tolist()


def test_a_crop_is_what_the_stored_slice_has_there(slices):
    drawn = patches(slices)
    images, masks = drawn.read(drawn.order(epoch=1), epoch=1)
    assert images.shape == masks.shape == (12, 8, 8, 1)
    places = set()
    for number, image, found in zip(drawn.order(epoch=1)[:, 0], images, masks, strict=True):
        position = number % 3
        inside = image[: min(8, SIZES[position][0])]
        top, left = place_of(inside, picture(position))
        np.testing.assert_array_equal(found, cut(mask(position), (top, left), (8, 8)))
        places.add((position, top, left))
    assert len(places) > 8  # they lie anywhere


@pytest.mark.parametrize(("has_ignored", "outside"), [(False, 0), (True, 255)])
def test_a_slice_that_is_smaller_than_a_crop_is_filled(slices, has_ignored, outside):
    labels = Labels(names=("",), exclusive=False, has_ignored=has_ignored)
    object.__setattr__(slices, "labels", labels)
    drawn = patches(slices)
    chosen = np.array([[2, 0]])  # of the third slice, 6 pixels high
    images, masks = drawn.read(chosen, epoch=1)
    assert not images[0, 6:].any()
    assert images[0, :6].all()
    assert (masks[0, 6:] == outside).all()
    assert (masks[0, :6] <= 1).all()


def test_a_share_of_each_batch_lies_near_a_foreground_pixel(slices):
    drawn = patches(slices, count=40, foreground_share=0.25)
    order = drawn.order(epoch=1)
    assert [int(batch[:, 1].sum()) for batch in np.split(order, 30)] == [1] * 30
    near = order[order[:, 1] == 1]
    _, masks = drawn.read(near, epoch=1)
    with_foreground = masks.any(axis=(1, 2, 3))
    # The second slice has none, and its crops lie anywhere.
    assert with_foreground.tolist() == (near[:, 0] % 3 != 1).tolist()


def test_without_a_share_crops_lie_anywhere(slices):
    assert not patches(slices).order(epoch=1)[:, 1].any()


@pytest.mark.heavy
@pytest.mark.parametrize(("augment", "standardize"), [("none", False), ("standard", True)])
def test_starting_in_mid_epoch_gives_the_batches_that_were_left(slices, augment, standardize):
    whole = batches(slices, 6, augment=augment, standardize=standardize)  # epochs of 3 steps
    assert [len(images) for images, _ in whole] == [5, 5, 2] * 2
    for epoch, step in ((1, 2), (2, 1)):
        done = (epoch - 1) * 3 + step
        rest = batches(slices, 6 - done, augment=augment, standardize=standardize, epoch=epoch, step=step)
        for (images, masks), (expected_images, expected_masks) in zip(rest, whole[done:], strict=True):
            np.testing.assert_array_equal(images, expected_images)
            np.testing.assert_array_equal(masks, expected_masks)


def test_patches_are_standardised_as_their_whole_slice_is(slices):
    plain, scaled = (batches(slices, 3, standardize=standardize) for standardize in (False, True))
    order = patches(slices, foreground_share=0.5).order(epoch=1)[:, 0]
    images, expected = (np.concatenate([images for images, _ in each]) for each in (scaled, plain))
    for number, image, before in zip(order, images, expected, strict=True):
        whole = picture(number % 3) / 255
        np.testing.assert_allclose(image, (before - whole.mean()) / np.sqrt(whole.var() + 1e-3), atol=1e-5)


def test_the_statistics_of_a_large_image_are_those_of_each_channel():
    image = np.random.default_rng(0).integers(0, 256, (700, 3, 2), dtype=np.uint8)
    mean, deviation = statistics(image)
    values = image / 255
    np.testing.assert_allclose(mean, values.mean(axis=(0, 1)), rtol=1e-6)
    np.testing.assert_allclose(deviation, np.sqrt(values.var(axis=(0, 1)) + 1e-3), rtol=1e-6)
