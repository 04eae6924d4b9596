"""Random changes of training batches, each a function of the batch and a seed alone."""

from collections.abc import Callable

import tensorflow as tf

Augmentation = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
"""``augment(images, seed)``: images float32 (N, H, W, C), seed int (2,)."""

AFFINE_ROTATION = 0.2  # radians
AFFINE_SCALE = 0.15
AFFINE_SHIFT = 1.0  # pixels


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


AUGMENTATIONS: dict[str, Augmentation] = {"none": none, "affine": affine}


def check_augmentation(name: str, possible: tuple[str, ...], dataset: str) -> None:
    """Raises ValueError, listing those there are, for an augmentation that is unknown or of other data sets."""
    if name not in possible:
        raise ValueError(f"There is no augmentation {name!r}; there are {', '.join(possible)} for {dataset}.")
