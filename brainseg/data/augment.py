"""Random changes of training slices: geometry on image and mask together, intensity on the image alone.

Everything is drawn from (seed, epoch, step) without state, so that a resumed run sees the same slices.
TensorFlow is imported inside the functions; all of them work inside `tf.data.Dataset.map`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from brainseg.plugins import is_built_in, made, part

if TYPE_CHECKING:
    import tensorflow as tf


# Takes images and masks as `augment` does, and a key that it draws from.
Augmentation: TypeAlias = "Callable[..., tuple[tf.Tensor, tf.Tensor]]"


@dataclass(frozen=True, kw_only=True)
class AugmentationRanges:
    """The ranges from which each image draws its own values, uniformly; half of the images are mirrored left-right."""

    upside_down: bool  # whether half of the images are mirrored top-bottom as well
    rotation_deg: float  # to either side
    scale: float  # of the brain's size, to either side of 1
    shift_fraction: float  # of the height and of the width, to either side
    log_gamma: float  # of the exponent of the intensity, to either side of 0
    brightness: float  # of the factor of every pixel, like the gain of a scanner, to either side of 1
    contrast: float  # of the factor of the distance from the image's mean, to either side of 1
    noise_stddev: float  # of the range of intensities, from 0

    def __call__(
        self, images: tf.Tensor, masks: tf.Tensor, *, key: tf.Tensor, alike: bool
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Mirrors, rotates, scales and shifts image and mask alike, filling with 0 from outside; then changes the
        images' gamma, brightness, contrast and noise.
        """
        import tensorflow as tf

        geometry, intensity = tf.unstack(tf.random.split(key, 2, alg=ALGORITHM))
        images, masks = warp(images, masks, _draw_transforms(images, geometry, self))
        return _change_intensity(images, intensity, self, alike=alike), masks


LIGHT = AugmentationRanges(
    upside_down=False,
    rotation_deg=10.0,
    scale=0.1,
    shift_fraction=0.05,
    log_gamma=0.15,
    brightness=0.05,
    contrast=0.1,
    noise_stddev=0.01,
)
STANDARD = AugmentationRanges(
    upside_down=True,
    rotation_deg=15.0,
    scale=0.15,
    shift_fraction=0.08,
    log_gamma=0.25,
    brightness=0.1,
    contrast=0.15,
    noise_stddev=0.02,
)

ALGORITHM = "philox"  # named, as TensorFlow's choice depends on the device
NO_OPTIONS: Mapping[str, Any] = {}


def augment(
    images: tf.Tensor,
    masks: tf.Tensor,
    *,
    seed: int,
    epoch: tf.Tensor | int,
    step: tf.Tensor | int,
    mode: str,
    options: Mapping[str, Any] = NO_OPTIONS,
    alike: bool = True,
) -> tuple[tf.Tensor, tf.Tensor]:
    """A batch of slices, changed as `mode` says; the same values for the same seed, epoch and step.

    images: float32 in [0, 1], (batch, height, width, channels); what is bright may come out above 1.
    masks: float32 whole numbers in [0, 255], (batch, height, width, mask channels). Shapes and dtypes stay.
    seed, epoch, step: integers in [0, 2**31).
    mode: none gives the batch back; light and standard change it within their `AugmentationRanges`; any other one is
    a plugin's, with its options.
    Every image of the batch draws its own values; alike: one for all of its channels, which are colours, and else one
    for each. Raises ConfigError for an unknown mode.
    """
    import tensorflow as tf

    # int32 throughout: an int64 of the same value folds into another key.
    seed, epoch, step = (tf.cast(number, tf.int32) for number in (seed, epoch, step))
    key = tf.random.fold_in(tf.stack([seed, epoch]), step, alg=ALGORITHM)
    if is_built_in("augmentations", mode):
        change: Augmentation = part("augmentations", mode)
        return change(images, masks, key=key, alike=alike)
    own: Augmentation = made("augmentations", mode, options)
    return own(images, masks, key=key)


def unchanged(images: tf.Tensor, masks: tf.Tensor, *, key: tf.Tensor, alike: bool) -> tuple[tf.Tensor, tf.Tensor]:
    """The batch as it is."""
    return images, masks


def transforms_of(
    *,
    height: tf.Tensor | int,
    width: tf.Tensor | int,
    flip_x: tf.Tensor,
    flip_y: tf.Tensor,
    angle_rad: tf.Tensor,
    scale: tf.Tensor,
    shift_x_px: tf.Tensor,
    shift_y_px: tf.Tensor,
) -> tf.Tensor:
    """One projective transform an image, (batch, 8): where each pixel of the result comes from.

    Applied to the image in this order: flips (+1 as it is, -1 mirrored, along x and y), scaling and rotation
    (counterclockwise as seen) about the centre, shift (right and down). All but the size are float32 of shape (batch,).
    """
    import tensorflow as tf

    centre_x = (tf.cast(width, tf.float32) - 1.0) / 2.0
    centre_y = (tf.cast(height, tf.float32) - 1.0) / 2.0
    # The inverse: shift back, rotate back, divide by the scale, flip.
    cosine, sine = tf.cos(angle_rad) / scale, tf.sin(angle_rad) / scale
    xx, xy = flip_x * cosine, -flip_x * sine
    yx, yy = flip_y * sine, flip_y * cosine
    from_x, from_y = centre_x + shift_x_px, centre_y + shift_y_px
    zero = tf.zeros_like(xx)
    return tf.stack(
        [xx, xy, centre_x - xx * from_x - xy * from_y, yx, yy, centre_y - yx * from_x - yy * from_y, zero, zero],
        axis=1,
    )


def warp(images: tf.Tensor, masks: tf.Tensor, transforms: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Images and masks moved by one transform each (see `transforms_of`), zero where nothing comes from.

    Images are interpolated bilinearly; masks take the nearest pixel, so that they stay whole numbers.
    """
    import tensorflow as tf

    def moved(pixels: tf.Tensor, interpolation: str) -> tf.Tensor:
        result = tf.raw_ops.ImageProjectiveTransformV3(
            images=pixels,
            transforms=transforms,
            output_shape=tf.shape(pixels)[1:3],
            fill_value=0.0,
            interpolation=interpolation,
            fill_mode="CONSTANT",
        )
        return tf.ensure_shape(result, pixels.shape)

    # uint8, as the kernel takes two thirds of the time then.
    moved_masks = moved(tf.cast(masks, tf.uint8), "NEAREST")
    return moved(images, "BILINEAR"), tf.cast(moved_masks, masks.dtype)


def _draw_transforms(images: tf.Tensor, key: tf.Tensor, ranges: AugmentationRanges) -> tf.Tensor:
    import tensorflow as tf

    batch, height, width = tf.unstack(tf.shape(images)[:3])
    keys = tf.unstack(tf.random.split(key, 6, alg=ALGORITHM))

    def draw(index: int, low: float, high: float) -> tf.Tensor:
        return tf.random.stateless_uniform([batch], keys[index], low, high, alg=ALGORITHM)

    angle = math.radians(ranges.rotation_deg)
    shift = ranges.shift_fraction
    return transforms_of(
        height=height,
        width=width,
        flip_x=tf.sign(draw(0, -1.0, 1.0)),
        flip_y=tf.sign(draw(1, -1.0, 1.0)) if ranges.upside_down else tf.ones([batch]),
        angle_rad=draw(2, -angle, angle),
        scale=draw(3, 1.0 - ranges.scale, 1.0 + ranges.scale),
        shift_x_px=draw(4, -shift, shift) * tf.cast(width, tf.float32),
        shift_y_px=draw(5, -shift, shift) * tf.cast(height, tf.float32),
    )


def _change_intensity(images: tf.Tensor, key: tf.Tensor, ranges: AugmentationRanges, *, alike: bool) -> tf.Tensor:
    import tensorflow as tf

    channels = 1 if alike else images.shape[-1]
    keys = tf.unstack(tf.random.split(key, 5, alg=ALGORITHM))

    def draw(index: int, middle: float, distance: float) -> tf.Tensor:
        return tf.random.stateless_uniform(
            [tf.shape(images)[0], 1, 1, channels], keys[index], middle - distance, middle + distance, alg=ALGORITHM
        )

    # exp(gamma * log(x)) is vectorised and pow is not: a seventh of the time. log(0) = -inf ends as 0.
    images = tf.exp(tf.exp(draw(0, 0.0, ranges.log_gamma)) * tf.math.log(images))
    brightness, contrast = draw(1, 1.0, ranges.brightness), draw(2, 1.0, ranges.contrast)
    mean = tf.reduce_mean(images, axis=(1, 2, 3) if alike else (1, 2), keepdims=True)
    images = brightness * contrast * images + brightness * (1.0 - contrast) * mean
    # One field a batch: one an image would be a third of the time of the whole augmentation. Half of the images
    # get it with its sign changed.
    noise = tf.random.stateless_normal(tf.shape(images)[1:], keys[3], alg=ALGORITHM)
    # Not cut off at 1: what is bright, as a tumour that takes up contrast agent, would lose its differences.
    return tf.maximum(images + draw(4, 0.0, ranges.noise_stddev) * noise, 0.0)
