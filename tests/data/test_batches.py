"""Which slices a step sees follows from seed, epoch and step alone."""

import dataclasses
import itertools
import threading
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest

from brainseg.classes import BINARY, Labels
from brainseg.data.batches import (
    TrainingBatches,
    epoch_order,
    evaluation_batches,
    foreground_order,
    steps_per_epoch,
    targets,
)
from brainseg.data.cache import SliceSet
from brainseg.data.source import SliceInfo

COUNT = 37  # 2 batches of 16 and one of 5
IDS = [f"s{number:02d}" for number in range(COUNT)]


@dataclass
class Nowhere:
    """A source that is never read."""

    name: str = "made"
    location: str = "nowhere"


@pytest.fixture(scope="module")
def slices():
    """Slices whose every pixel is the slice's number; masks are 1 for odd numbers."""
    numbers = np.arange(COUNT, dtype=np.uint8)[:, None, None, None]
    images = np.broadcast_to(numbers, (COUNT, 8, 8, 1)).copy()
    infos = tuple(SliceInfo(id=slice_id) for slice_id in IDS)
    sizes = np.full((COUNT, 2), 8, dtype=np.int32)
    return SliceSet(
        slices=infos,
        images=images,
        masks=images % 2,
        labels=BINARY,
        channels_are_alike=True,
        sizes=sizes,
        fingerprint="f",
        source=Nowhere(),
    )


def batches(slices, count, *, ids=IDS, **changes):
    """The next `count` batches, as NumPy arrays."""
    options = {
        "batch_size": 16,
        "augment": "none",
        "foreground_share": None,
        "seed": 3,
        "epoch": 1,
        "step": 0,
        "device": "/CPU:0",
    }
    with TrainingBatches(slices, ids, **options | changes) as found:
        return [(images.numpy(), masks.numpy()) for images, masks in itertools.islice(found, count)]


def numbers(images):
    """Which slices a batch holds."""
    return np.round(images[:, 0, 0, 0] * 255).astype(int).tolist()


@pytest.mark.parametrize(("slices", "batch_size", "steps"), [(37, 16, 3), (32, 16, 2), (1, 16, 1), (5, 1, 5)])
def test_an_epoch_has_a_step_for_every_started_batch(slices, batch_size, steps):
    assert steps_per_epoch(slices, batch_size=batch_size) == steps


def test_the_order_of_an_epoch_follows_from_seed_and_epoch():
    expected = np.random.default_rng([5, 2]).permutation(9)
    np.testing.assert_array_equal(epoch_order(9, seed=5, epoch=2), expected)
    assert epoch_order(9, seed=5, epoch=3).tolist() != expected.tolist()
    assert epoch_order(9, seed=6, epoch=2).tolist() != expected.tolist()


# Of ten slices, 0 to 3 have foreground.
FOREGROUND = np.arange(10) < 4


@pytest.mark.parametrize(
    ("share", "counts", "others"),
    [
        (0.0, {0: 4}, {1: 2, 2: 4}),  # slices drawn so often -> how many; ten draws of the other six
        (0.5, {1: 3, 2: 1}, {0: 1, 1: 5}),
        (0.24, {0: 2, 1: 2}, {1: 4, 2: 2}),
        (0.4, {1: 4}, {1: 6}),
        (1.0, {2: 2, 3: 2}, {0: 6}),
    ],
)
def test_an_epoch_draws_the_share_from_slices_with_foreground_and_each_about_as_often(share, counts, others):
    order = foreground_order(FOREGROUND, share=share, seed=1, epoch=2)
    drawn = np.bincount(order, minlength=10)
    assert drawn.sum() == 10
    assert Counter(drawn[:4].tolist()) == counts
    assert Counter(drawn[4:].tolist()) == others


def test_a_drawn_order_follows_from_seed_and_epoch_and_mixes_both_kinds():
    def order(seed, epoch):
        return foreground_order(np.arange(100) < 50, share=0.5, seed=seed, epoch=epoch).tolist()

    assert order(5, 2) == order(5, 2)
    assert order(5, 2) != order(5, 3)
    assert order(5, 2) != order(6, 2)
    assert 15 <= sum(number < 50 for number in order(5, 2)[:50]) <= 35


@pytest.mark.parametrize("foreground", [True, False])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_where_all_slices_are_of_one_kind_each_is_drawn_once(foreground, share):
    order = foreground_order(np.full(9, foreground), share=share, seed=1, epoch=1)
    assert sorted(order) == list(range(9))


def test_batches_have_the_share_of_slices_with_foreground(slices):
    for epoch in (1, 2):  # odd slices have foreground: 18 of 37
        found = batches(slices, 3, epoch=epoch, foreground_share=0.8)
        seen = [number for images, _ in found for number in numbers(images)]
        assert len(seen) == COUNT
        assert sum(number % 2 for number in seen) == 30  # round(0.8 * 37)


def test_a_pixel_of_any_class_is_foreground_and_an_ignored_one_is_not(slices):
    masks = np.zeros((COUNT, 8, 8, 1), np.uint8)
    masks[4, 2, 3], masks[5, 7, 7], masks[6] = 1, 2, 255
    labels = Labels(names=("core", "rim"), exclusive=True, has_ignored=True)
    marked = dataclasses.replace(slices, masks=masks, labels=labels)
    found = batches(marked, 3, foreground_share=1.0)
    assert {number for images, _ in found for number in numbers(images)} == {4, 5}


def test_every_slice_is_seen_exactly_once_an_epoch(slices):
    epochs = [batches(slices, 3, epoch=epoch) for epoch in (1, 2)]
    for epoch in epochs:
        seen = [number for images, _ in epoch for number in numbers(images)]
        assert sorted(seen) == list(range(COUNT))
    assert numbers(epochs[0][0][0]) != numbers(epochs[1][0][0])


def test_a_batch_holds_the_next_slices_of_the_order(slices):
    order = epoch_order(COUNT, seed=3, epoch=4)
    found = batches(slices, 3, epoch=4)
    assert [numbers(images) for images, _ in found] == [
        sorted(order[:16]), sorted(order[16:32]), sorted(order[32:])
    ]  # fmt: skip


def test_the_last_batch_is_smaller_and_the_next_epoch_follows(slices):
    assert [len(images) for images, _ in batches(slices, 5)] == [16, 16, 5, 16, 16]


def test_images_are_scaled_to_one_and_masks_stay_zero_and_one(slices):
    images, masks = batches(slices, 1)[0]
    assert images.dtype == masks.dtype == np.float32
    assert images.shape == masks.shape == (16, 8, 8, 1)
    np.testing.assert_allclose(images[:, 0, 0, 0], np.array(numbers(images)) / 255, rtol=1e-6)
    np.testing.assert_array_equal(masks[:, 3, 4, 0], np.array(numbers(images)) % 2)


@pytest.mark.parametrize(
    ("labels", "mask", "expected"),
    [
        (BINARY, [[0], [1]], [[0], [1]]),
        (Labels(names=("",), exclusive=False, has_ignored=True), [[255], [1]], [[-1], [1]]),
        (Labels(names=("a", "b"), exclusive=True), [[0], [2]], [[1, 0, 0], [0, 0, 1]]),
        (Labels(names=("a", "b"), exclusive=True, has_ignored=True), [[255], [1]], [[-1, -1, -1], [0, 1, 0]]),
        # 0 is what an augmentation brings in from outside: it has no class.
        (Labels(names=("a", "b"), exclusive=True, has_background=False), [[0], [2]], [[0, 0], [0, 1]]),
        (Labels(names=("a", "b"), exclusive=False, has_ignored=True), [[1, 1], [255, 255]], [[1, 1], [-1, -1]]),
    ],
)
def test_targets_say_what_a_network_is_to_give_at_each_pixel(labels, mask, expected):
    found = targets(np.array([[mask]], np.uint8), labels)
    assert found.dtype == np.float32
    assert found.numpy()[0, 0].tolist() == expected


def test_only_the_named_slices_are_seen_whatever_their_order(slices):
    named = ["s30", "s02", "s11"]
    first, second = (batches(slices, 2, ids=ids, batch_size=2)[0][0] for ids in (named, named[::-1]))
    np.testing.assert_array_equal(first, second)
    epoch = batches(slices, 2, ids=named, batch_size=2)
    assert sorted(number for images, _ in epoch for number in numbers(images)) == [2, 11, 30]


@pytest.mark.heavy
@pytest.mark.parametrize(("augment", "share"), [("none", None), ("standard", None), ("none", 0.8)])
def test_starting_in_mid_epoch_gives_the_batches_that_were_left(slices, augment, share):
    whole = batches(slices, 8, augment=augment, foreground_share=share)
    for epoch, step in ((1, 2), (2, 0), (2, 1), (3, 1)):
        done = (epoch - 1) * 3 + step
        rest = batches(slices, 8 - done, augment=augment, foreground_share=share, epoch=epoch, step=step)
        for (images, masks), (expected_images, expected_masks) in zip(rest, whole[done:], strict=True):
            np.testing.assert_array_equal(images, expected_images)
            np.testing.assert_array_equal(masks, expected_masks)


@pytest.mark.heavy
def test_augmentation_differs_between_epochs(slices):
    noise = np.random.default_rng(0).integers(0, 256, slices.images.shape, dtype=np.uint8)
    one = dataclasses.replace(slices, images=noise)
    first, second = (batches(one, 1, ids=["s05"], augment="standard", epoch=epoch)[0][0] for epoch in (1, 2))
    assert np.abs(first - second).max() > 0.1


def test_evaluation_sees_every_slice_once_in_the_order_of_ids(slices):
    found = [(images.numpy(), masks.numpy()) for images, masks in evaluation_batches(slices, IDS[::-1])]
    assert [numbers(images) for images, _ in found] == [
        list(range(16)), list(range(16, 32)), list(range(32, COUNT))
    ]  # fmt: skip
    assert [masks[:, 0, 0, 0].tolist() for _, masks in found][2] == [0, 1, 0, 1, 0]


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "brainseg-batches"]


def test_closing_ends_the_thread_even_while_batches_wait(slices):
    before = threads()
    made = TrainingBatches(
        slices, IDS, batch_size=4, augment="none", foreground_share=None, seed=0, epoch=1, step=0, device="/CPU:0"
    )
    assert len(threads()) == len(before) + 1
    next(made)
    made.close()
    assert threads() == before
    with pytest.raises(StopIteration):
        next(made)


def test_what_fails_in_the_thread_is_raised_where_the_batch_is_asked_for(slices):
    class Unreadable:
        def __getitem__(self, position):
            if threading.current_thread().name == "brainseg-batches":
                raise OSError("the cache is gone")
            return slices.images[position]

    broken = dataclasses.replace(slices, images=Unreadable())
    made = TrainingBatches(
        broken, IDS, batch_size=4, augment="none", foreground_share=None, seed=0, epoch=1, step=0, device="/CPU:0"
    )
    with made, pytest.raises(OSError, match="the cache is gone"):
        next(made)
