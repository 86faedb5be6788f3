"""Augmentation: image and mask stay aligned, and everything follows from seed, epoch and step."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from scipy.ndimage import binary_dilation

from brainseg.data import augment as augmentation
from brainseg.data.augment import AugmentationRanges, augment, transforms_of, warp
from brainseg.errors import ConfigError
from brainseg.plugins import BUILT_IN

SIZE = 64


def square_batch(count=8, *, channels=1):
    """Masks of one off-centre rectangle each, and images that are bright exactly there."""
    masks = np.zeros((count, SIZE, SIZE, 1), np.float32)
    masks[:, 20:36, 26:50] = 1.0
    return tf.constant(np.repeat(masks, channels, axis=-1)), tf.constant(masks)


def noisy_batch(count=4, *, height=SIZE, width=SIZE):
    random = np.random.default_rng(0)
    images = random.random((count, height, width, 1), dtype=np.float32)
    return tf.constant(images), tf.constant((images > 0.7).astype(np.float32))


def changed_by(mode, images, masks, *, seed=0, epoch=0, step=0):
    changed = augment(images, masks, seed=seed, epoch=epoch, step=step, mode=mode)
    return tuple(np.asarray(part) for part in changed)


def standard(images, masks, **drawn_from):
    return changed_by("standard", images, masks, **drawn_from)


def transform(*, height=SIZE, width=SIZE, **changes):
    """The transform of one image that does nothing but `changes`."""
    still = {
        "flip_x": 1.0,
        "flip_y": 1.0,
        "angle_rad": 0.0,
        "scale": 1.0,
        "shift_x_px": 0.0,
        "shift_y_px": 0.0,
    }
    values = {key: tf.constant([value], tf.float32) for key, value in {**still, **changes}.items()}
    return transforms_of(height=height, width=width, **values)


def test_mode_none_changes_nothing():
    images, masks = noisy_batch()
    same_images, same_masks = augment(images, masks, seed=0, epoch=0, step=0, mode="none")
    np.testing.assert_array_equal(same_images, images)
    np.testing.assert_array_equal(same_masks, masks)


def test_every_configurable_mode_is_accepted():
    for mode in BUILT_IN["augmentations"]:
        augment(*noisy_batch(), seed=0, epoch=0, step=0, mode=mode)


def test_an_unknown_mode_lists_the_known_ones():
    with pytest.raises(ConfigError, match=r"must be one of none, light, standard, got 'heavy'"):
        augment(*noisy_batch(), seed=0, epoch=0, step=0, mode="heavy")


@pytest.mark.parametrize("channels", [1, 3])
def test_shape_type_and_range_are_kept_and_masks_stay_binary(channels):
    images, masks = square_batch(channels=channels)
    changed_images, changed_masks = standard(images, masks)
    assert (changed_images.shape, changed_images.dtype) == ((8, SIZE, SIZE, channels), np.float32)
    assert (changed_masks.shape, changed_masks.dtype) == ((8, SIZE, SIZE, 1), np.float32)
    assert 0.0 <= changed_images.min() < changed_images.max() <= 2.0
    assert set(np.unique(changed_masks)) == {0.0, 1.0}


@pytest.mark.parametrize("step", range(4))
def test_image_and_mask_move_together(step):
    images, masks = standard(*square_batch(), step=step)
    # Bright in the image where the mask is, but for pixels on its border, which are interpolated.
    differs = (images > 0.5) != (masks > 0.5)
    assert differs.sum(axis=(1, 2, 3)).max() <= 40  # the border is 76 pixels long
    assert masks.sum(axis=(1, 2, 3)).min() >= 0.85**2 * 16 * 24 * 0.95


def test_the_same_seed_epoch_and_step_give_the_same_batch():
    for first, again in zip(standard(*noisy_batch(), step=3), standard(*noisy_batch(), step=3), strict=True):
        np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize("other", [{"seed": 1}, {"epoch": 1}, {"step": 1}])
def test_another_seed_epoch_or_step_gives_another_batch(other):
    images, masks = standard(*noisy_batch())
    other_images, other_masks = standard(*noisy_batch(), **other)
    for one, changed in zip(images, other_images, strict=True):
        assert not np.array_equal(one, changed)
    assert not np.array_equal(masks, other_masks)


def test_each_image_of_a_batch_is_changed_in_its_own_way():
    images, masks = standard(*square_batch(count=6))
    assert len({image.tobytes() for image in images}) == 6
    assert len({mask.tobytes() for mask in masks}) == 6


@pytest.mark.heavy
def test_a_dataset_gives_the_same_as_a_direct_call():
    images, masks = noisy_batch()
    steps = tf.data.Dataset.range(2).map(
        lambda step: augment(images, masks, seed=7, epoch=2, step=step, mode="standard"), num_parallel_calls=2
    )
    for step, (mapped_images, mapped_masks) in enumerate(steps):
        direct_images, direct_masks = standard(images, masks, seed=7, epoch=2, step=step)
        np.testing.assert_allclose(mapped_images, direct_images, atol=1e-6)
        np.testing.assert_array_equal(mapped_masks, direct_masks)


@pytest.mark.heavy
def test_batches_of_unknown_size_keep_their_static_shape():
    traced = tf.function(
        lambda images, masks: augment(images, masks, seed=0, epoch=0, step=0, mode="standard"),
        input_signature=[tf.TensorSpec((None, SIZE, SIZE, 1))] * 2,
    ).get_concrete_function()
    assert [output.shape.as_list() for output in traced.outputs] == [[None, SIZE, SIZE, 1]] * 2


def test_flips_are_exact():
    images, masks = noisy_batch(count=1, height=6, width=9)
    for flip, axis in (({"flip_x": -1.0}, 2), ({"flip_y": -1.0}, 1)):
        moved = warp(images, masks, transform(height=6, width=9, **flip))
        for before, after in zip((images, masks), moved, strict=True):
            np.testing.assert_allclose(after, np.flip(before, axis=axis), atol=1e-6)


def test_both_flips_are_drawn():
    # A square in the upper left goes to each of the four quadrants.
    masks = np.zeros((32, SIZE, SIZE, 1), np.float32)
    masks[:, 18:24, 18:24] = 1.0
    _, moved = standard(tf.constant(masks), tf.constant(masks))
    rows, columns = (moved.sum(axis=(axis, 3)).argmax(axis=1) >= SIZE // 2 for axis in (2, 1))
    quadrants = set(zip(rows.tolist(), columns.tolist(), strict=True))
    assert len(quadrants) == 4


def test_light_leaves_the_upper_side_up_and_moves_less():
    masks = np.zeros((64, SIZE, SIZE, 1), np.float32)
    masks[:, 12:24, 12:24] = 1.0
    images, moved = changed_by("light", tf.constant(masks), tf.constant(masks))
    rows, columns = (moved.sum(axis=(axis, 3)).argmax(axis=1) for axis in (2, 1))
    assert rows.max() < SIZE // 2
    assert {bool(column >= SIZE // 2) for column in columns} == {False, True}
    areas, intensities = _areas_and_intensities(images, moved)
    standard_areas, standard_intensities = _areas_and_intensities(*standard(tf.constant(masks), tf.constant(masks)))
    assert areas.std() < standard_areas.std()
    assert 0.83 < intensities.min() < intensities.max() < 1.18  # 0.95 * 0.9 and 1.05 * 1.1, and noise
    assert intensities.std() < standard_intensities.std()


def _areas_and_intensities(images, masks):
    """Of each tumour: its pixels, and the median of their intensity, as the edges are interpolated."""
    inside = [np.median(image[mask > 0.5]) for image, mask in zip(images, masks, strict=True)]
    return masks.sum(axis=(1, 2, 3)), np.array(inside)


def test_a_quarter_turn_is_counterclockwise():
    images, masks = noisy_batch(count=1)
    for before, after in zip((images, masks), warp(images, masks, transform(angle_rad=np.pi / 2)), strict=True):
        np.testing.assert_allclose(after[0], np.rot90(before[0]), atol=1e-3)


def test_a_shift_moves_right_and_down_and_fills_with_zeros():
    images, masks = noisy_batch(count=1)
    moved_images, moved_masks = warp(images, masks, transform(shift_x_px=3.0, shift_y_px=2.0))
    for before, after in ((images, moved_images), (masks, moved_masks)):
        np.testing.assert_allclose(after[:, 2:, 3:], before[:, :-2, :-3], atol=1e-5)
        assert not np.any(after[:, :2])
        assert not np.any(after[:, :, :3])


def test_a_scale_of_two_doubles_a_centred_square():
    masks = np.zeros((1, SIZE, SIZE, 1), np.float32)
    masks[:, 24:40, 24:40] = 1.0
    expected = np.zeros_like(masks)
    expected[:, 16:48, 16:48] = 1.0
    _, moved = warp(tf.constant(masks), tf.constant(masks), transform(scale=2.0))
    np.testing.assert_array_equal(moved, expected)


def test_the_order_is_flip_then_rotation_then_shift():
    images, masks = noisy_batch(count=1)
    together, _ = warp(images, masks, transform(flip_x=-1.0, angle_rad=np.pi / 2, shift_y_px=4.0))
    expected = np.zeros_like(images)
    expected[0, 4:] = np.rot90(np.flip(images[0], axis=1))[:-4]
    np.testing.assert_allclose(together, expected, atol=1e-3)


def test_intensity_changes_stay_small():
    images, masks = square_batch(count=16)
    changed, moved_masks = standard(images, masks)
    inside = np.array([image[mask > 0.5].mean() for image, mask in zip(changed, moved_masks, strict=True)])
    assert inside.min() > 0.75
    assert inside.std() > 0.005  # and they are there


def test_what_is_bright_keeps_its_differences():
    images = np.full((32, SIZE, SIZE, 1), 0.95, np.float32)
    images[:, 24:40, 24:40] = 1.0
    masks = np.floor(images)
    changed, moved = (np.asarray(part) for part in standard(images, masks))
    for image, mask in zip(changed, moved, strict=True):
        ring = binary_dilation(mask[..., 0] > 0.5, iterations=4) & (mask[..., 0] < 0.5)
        assert image[mask > 0.5].mean() > image[ring].mean()


STILL = AugmentationRanges(
    upside_down=False,
    rotation_deg=0.0,
    scale=0.0,
    shift_fraction=0.0,
    log_gamma=0.0,
    brightness=0.0,
    contrast=0.0,
    noise_stddev=0.0,
)
# An upper and a lower half of one value each, in three channels: mirroring left-right changes nothing.
UPPER, LOWER = np.array([0.2, 0.4, 0.8]), np.array([0.1, 0.1, 0.4])


def banded(monkeypatch, *, alike, **ranges):
    """What becomes of the upper and of the lower half in four images, each (images, channels)."""
    monkeypatch.setattr(augmentation, "LIGHT", dataclasses.replace(STILL, **ranges))
    bands = np.empty((4, 8, 8, 3), np.float32)
    bands[:, :4], bands[:, 4:] = UPPER, LOWER
    found, _ = augment(tf.constant(bands), tf.zeros((4, 8, 8, 1)), seed=0, epoch=1, step=2, mode="light", alike=alike)
    return found.numpy()[:, 1, 1], found.numpy()[:, 6, 6]


@pytest.mark.parametrize("change", ["brightness", "log_gamma"])
def test_colours_change_alike_and_named_channels_each_by_itself(monkeypatch, change):
    def drawn(alike):
        """The factor, or the exponent, of each image and channel, which is the same in both halves."""
        upper, lower = banded(monkeypatch, alike=alike, **{change: 0.2})
        scale = (lambda values: values) if change == "brightness" else np.log
        np.testing.assert_allclose(scale(upper) / scale(UPPER), scale(lower) / scale(LOWER), rtol=1e-4)
        return scale(upper) / scale(UPPER)

    colours, named = drawn(True), drawn(False)
    np.testing.assert_allclose(colours, np.repeat(colours[:, :1], 3, axis=1), rtol=1e-4)
    assert np.diff(sorted(colours[:, 0])).min() > 1e-3
    assert np.diff(sorted(named.ravel())).min() > 1e-4


def test_contrast_keeps_the_mean_of_all_colours_and_of_each_named_channel(monkeypatch):
    def drawn(alike, means):
        """The factor of the distance from the mean, of each image and channel."""
        upper, lower = banded(monkeypatch, alike=alike, contrast=0.2)
        factors = (upper - lower) / (UPPER - LOWER)
        np.testing.assert_allclose(upper, means + factors * (UPPER - means), rtol=1e-4)
        return factors

    colours = drawn(True, means=2.0 / 6)  # the values of both halves add up to 2.0
    np.testing.assert_allclose(colours, np.repeat(colours[:, :1], 3, axis=1), rtol=1e-4)
    named = drawn(False, means=(UPPER + LOWER) / 2)
    assert np.diff(sorted(named.ravel())).min() > 1e-4


def test_grey_slices_change_as_in_version_0_1():
    images = np.random.default_rng(0).random((4, 16, 16, 1), dtype=np.float32)
    changed, masks = standard(
        tf.constant(images), tf.constant((images > 0.7).astype(np.float32)), seed=1, epoch=2, step=3
    )
    np.testing.assert_allclose(changed[:, 8, 5, 0], [0.192384, 0.47909, 0.818368, 0.376473], atol=2e-6)
    assert masks[:, 8].sum(axis=(1, 2)).tolist() == [3, 7, 6, 4]


def test_a_mask_of_classes_moves_as_whole_numbers_and_ignored_pixels_stay_ignored():
    images, masks = square_batch()
    changed, moved = standard(images, masks * 255)
    assert np.unique(moved).tolist() == [0, 255]
    same_changed, same = standard(images, masks)
    np.testing.assert_array_equal(moved, same * 255)
    np.testing.assert_array_equal(changed, same_changed)
