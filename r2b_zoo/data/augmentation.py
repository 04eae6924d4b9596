"""Random changes of training batches, each a function of the batch and a seed alone."""

from collections.abc import Callable
from typing import Union

import tensorflow as tf

Augmentation = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
"""``augment(images, seed)``: images float32 (N, H, W, C), seed int (2,)."""

AFFINE_ROTATION = 0.2  # radians
AFFINE_SCALE = 0.15
AFFINE_SHIFT = 1.0  # pixels
CROP_PADDING = 4  # pixels


def none(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    return images


def affine(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Rotates, scales and shifts each image a little, for small images without a left and right of their own.

    Uniform in ±0.2 radians, ±15 % and ±1 pixel; bilinear, the border repeated.
    """
    shape = tf.shape(images)
    number, height, width = shape[0], tf.cast(shape[1], tf.float32), tf.cast(shape[2], tf.float32)
    draws = tf.random.stateless_uniform((number, 4), seed, -1.0, 1.0)
    angle = draws[:, 0] * AFFINE_ROTATION
    scale = 1.0 + draws[:, 1] * AFFINE_SCALE
    shift_x, shift_y = draws[:, 2] * AFFINE_SHIFT, draws[:, 3] * AFFINE_SHIFT
    cos, sin = tf.cos(angle) * scale, tf.sin(angle) * scale
    centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
    zeros = tf.zeros_like(angle)
    # Where each output pixel comes from: a rotation and scale about the centre, then the shift.
    transforms = tf.stack(
        [
            cos,
            -sin,
            centre_x - cos * centre_x + sin * centre_y + shift_x,
            sin,
            cos,
            centre_y - sin * centre_x - cos * centre_y + shift_y,
            zeros,
            zeros,
        ],
        axis=1,
    )
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=transforms,
        output_shape=shape[1:3],
        interpolation="BILINEAR",
        fill_mode="NEAREST",
        fill_value=0.0,
    )


def crop_flip(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """A random crop of the image's size, after 4 pixels of mirror image on each side, and a flip of every second one.

    Source: Lee et al., "Deeply-Supervised Nets", AISTATS 2015, as usual for CIFAR since; mirror image in place of
    zeros, which would be grey.
    """
    number, height, width = images.shape[0] or tf.shape(images)[0], images.shape[1], images.shape[2]
    draws = tf.random.stateless_uniform((number, 2), seed, 0, 2 * CROP_PADDING + 1, tf.int32) - CROP_PADDING
    flipped = tf.random.stateless_uniform((number, 1), position_seed(seed, 1), 0, 2, tf.int32) == 1
    rows = _mirrored(draws[:, :1] + tf.range(height), height)
    columns = _mirrored(draws[:, 1:] + tf.range(width), width)
    columns = tf.where(flipped, columns[:, ::-1], columns)
    # One gather for all of it: which of its own pixels each pixel of an image becomes.
    pixels = rows[:, :, tf.newaxis] * width + columns[:, tf.newaxis, :]
    flat = tf.reshape(images, (number, height * width, images.shape[3]))
    return tf.gather(flat, pixels, batch_dims=1)


def _mirrored(index: tf.Tensor, size: int) -> tf.Tensor:
    """Indices outside 0–size-1 as in a mirror at the border; the border pixel itself is not repeated."""
    index = tf.abs(index)
    return (size - 1) - tf.abs(size - 1 - index)


AUGMENTATIONS: dict[str, Augmentation] = {"none": none, "affine": affine, "crop_flip": crop_flip}


def position_seed(seed: tf.Tensor, position: Union[int, tf.Tensor]) -> tf.Tensor:
    """The seed (2,) of what happens at one position of whatever ``seed`` is of."""
    # The result depends on the type too, and Python's integers come as another one than those of tf.data.
    return tf.random.experimental.stateless_fold_in(seed, tf.cast(position, tf.int32))


def check_augmentation(name: str, possible: tuple[str, ...], dataset: str) -> None:
    """Raises ValueError, listing those there are, for an augmentation that is unknown or of other data sets."""
    if name not in possible:
        raise ValueError(f"There is no augmentation {name!r}; there are {', '.join(possible)} for {dataset}.")
