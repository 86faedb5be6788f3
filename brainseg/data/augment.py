"""Random changes of training slices: geometry on image and mask together, intensity on the image alone.

Everything is drawn from (seed, epoch, step) without state, so that a resumed run sees the same slices.
TensorFlow is imported inside the functions; all of them work inside `tf.data.Dataset.map`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from brainseg.config import AUGMENTATIONS, one_of

if TYPE_CHECKING:
    import tensorflow as tf

# Each image draws its own value between these limits, with equal probability.
ROTATION_RAD = (-math.radians(15.0), math.radians(15.0))
SCALE = (0.85, 1.15)  # above 1: the brain becomes larger
SHIFT_FRACTION = (-0.08, 0.08)  # of the height and of the width
LOG_GAMMA = (-0.25, 0.25)  # exponent of the intensity: 0.78 to 1.28
BRIGHTNESS = (0.9, 1.1)  # factor of every pixel, like the gain of a scanner
CONTRAST = (0.85, 1.15)  # factor of the distance from the image's mean
NOISE_STDDEV = (-0.02, 0.02)  # of the range of intensities; below 0: the batch's noise with its sign changed

# Named, as TensorFlow's choice depends on the device.
ALGORITHM = "philox"


def augment(
    images: tf.Tensor, masks: tf.Tensor, *, seed: int, epoch: tf.Tensor | int, step: tf.Tensor | int, mode: str
) -> tuple[tf.Tensor, tf.Tensor]:
    """A batch of slices, changed as `mode` says; the same values for the same seed, epoch and step.

    images: float32 in [0, 1], (batch, height, width, channels). masks: float32 {0, 1}, (batch, height,
    width, channels); they keep that range, shape and dtype. seed, epoch, step: integers in [0, 2**31).
    mode: none gives the batch back; standard flips both ways, rotates, scales and shifts image and
    mask alike, filling with 0 from outside, then changes the images' gamma, brightness, contrast and
    noise. Every image of the batch draws its own values. Raises ConfigError for an unknown mode.
    """
    import tensorflow as tf

    one_of("data.augment", mode, AUGMENTATIONS)
    if mode == "none":
        return images, masks
    # int32 throughout: an int64 of the same value folds into another key.
    seed, epoch, step = (tf.cast(number, tf.int32) for number in (seed, epoch, step))
    key = tf.random.fold_in(tf.stack([seed, epoch]), step, alg=ALGORITHM)
    geometry, intensity = tf.unstack(tf.random.split(key, 2, alg=ALGORITHM))
    images, masks = warp(images, masks, _draw_transforms(images, geometry))
    return _change_intensity(images, intensity), masks


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

    Applied to the image in this order: flips (+1 as it is, -1 mirrored, along x and y), scaling and
    rotation (counterclockwise as seen) about the centre, shift (right and down). All but the size are
    float32 of shape (batch,).
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

    Images are interpolated bilinearly; masks take the nearest pixel, so that they stay {0, 1}.
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


def _draw_transforms(images: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    import tensorflow as tf

    batch, height, width = tf.unstack(tf.shape(images)[:3])
    keys = tf.unstack(tf.random.split(key, 6, alg=ALGORITHM))
    return transforms_of(
        height=height,
        width=width,
        flip_x=tf.sign(_uniform(keys[0], batch, (-1.0, 1.0))),
        flip_y=tf.sign(_uniform(keys[1], batch, (-1.0, 1.0))),
        angle_rad=_uniform(keys[2], batch, ROTATION_RAD),
        scale=_uniform(keys[3], batch, SCALE),
        shift_x_px=_uniform(keys[4], batch, SHIFT_FRACTION) * tf.cast(width, tf.float32),
        shift_y_px=_uniform(keys[5], batch, SHIFT_FRACTION) * tf.cast(height, tf.float32),
    )


def _change_intensity(images: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    import tensorflow as tf

    keys = tf.unstack(tf.random.split(key, 5, alg=ALGORITHM))

    def draw(index: int, limits: tuple[float, float]) -> tf.Tensor:
        return _uniform(keys[index], tf.shape(images)[0], limits)[:, tf.newaxis, tf.newaxis, tf.newaxis]

    # exp(gamma * log(x)) is vectorised and pow is not: a seventh of the time. log(0) = -inf ends as 0.
    images = tf.exp(tf.exp(draw(0, LOG_GAMMA)) * tf.math.log(images))
    brightness, contrast = draw(1, BRIGHTNESS), draw(2, CONTRAST)
    mean = tf.reduce_mean(images, axis=(1, 2, 3), keepdims=True)
    images = brightness * contrast * images + brightness * (1.0 - contrast) * mean
    # One field a batch: one an image would be a third of the time of the whole augmentation.
    noise = tf.random.stateless_normal(tf.shape(images)[1:], keys[3], alg=ALGORITHM)
    return tf.clip_by_value(images + draw(4, NOISE_STDDEV) * noise, 0.0, 1.0)


def _uniform(key: tf.Tensor, count: tf.Tensor, limits: tuple[float, float]) -> tf.Tensor:
    import tensorflow as tf

    return tf.random.stateless_uniform([count], key, *limits, alg=ALGORITHM)
