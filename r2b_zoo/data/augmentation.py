"""Random changes to training batches. The result depends only on the batch and a seed."""

import math
from collections.abc import Callable
from typing import Union

import tensorflow as tf

Augmentation = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
"""``augment(images, seed)`` → changed images of the same shape.

Images are float32 (N, H, W, C), normalised; the seed is int (2,)."""

AFFINE_ROTATION = 0.2  # radians
AFFINE_SCALE = 0.15
AFFINE_SHIFT = 1.0  # pixels
CROP_PADDING = 4  # pixels
ROTATION = 15.0  # degrees
COLOUR = "_colour"
"""An augmentation whose name ends with this changes colours too."""
COLOUR_STRENGTH = 0.4


def none(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    return images


def affine(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Rotates, scales and shifts each image a little, for small images that must not be mirrored.

    The changes are uniform in ±0.2 radians, ±15 % and ±1 pixel. Interpolation is bilinear; the image's border is
    repeated outside the image.
    """
    draws = tf.random.stateless_uniform((tf.shape(images)[0], 4), seed, -1.0, 1.0)
    angle = draws[:, 0] * AFFINE_ROTATION
    scale = 1.0 + draws[:, 1] * AFFINE_SCALE
    shift_x, shift_y = draws[:, 2] * AFFINE_SHIFT, draws[:, 3] * AFFINE_SHIFT
    return _transformed(images, angle, scale, shift_x, shift_y, fill="NEAREST")


def _transformed(
    images: tf.Tensor, angle: tf.Tensor, scale: tf.Tensor, shift_x: tf.Tensor, shift_y: tf.Tensor, fill: str
) -> tf.Tensor:
    """Rotates and scales images (N, H, W, C) about their centre and shifts them.

    Args:
        images: float32 (N, H, W, C).
        angle: rotation of each image, (N,), in radians.
        scale: factors (N,) from distances in the output image to distances in the input: above 1, an image shrinks.
        shift_x: distance, (N,), in pixels of the input image; a positive value moves the content to the left.
        shift_y: distance, (N,), in pixels of the input image; a positive value moves the content up.
        fill: the operator's ``fill_mode``, for pixels outside the input image.
    """
    shape = tf.shape(images)
    height, width = tf.cast(shape[1], tf.float32), tf.cast(shape[2], tf.float32)
    cos, sin = tf.cos(angle) * scale, tf.sin(angle) * scale
    centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
    zeros = tf.zeros_like(angle)
    # The transforms map output pixels to input pixels: rotation and scaling about the centre, then the shift.
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
        fill_mode=fill,
        fill_value=0.0,
    )


def crop_flip(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Pads each image by 4 pixels on every side, crops it to its original size, and flips it with probability 1/2.

    The crop's position is random, the flip is horizontal, and the padding reflects the image.

    Source: Lee et al., "Deeply-Supervised Nets", AISTATS 2015; common for CIFAR since then. Lee et al. pad with zeros,
    which would be grey in a normalised image.
    """
    number, height, width = images.shape[0] or tf.shape(images)[0], images.shape[1], images.shape[2]
    draws = tf.random.stateless_uniform((number, 2), seed, 0, 2 * CROP_PADDING + 1, tf.int32) - CROP_PADDING
    flipped = tf.random.stateless_uniform((number, 1), position_seed(seed, 1), 0, 2, tf.int32) == 1
    rows = _mirrored(draws[:, :1] + tf.range(height), height)
    columns = _mirrored(draws[:, 1:] + tf.range(width), width)
    columns = tf.where(flipped, columns[:, ::-1], columns)
    # Crop and flip with a single gather: compute the index of the input pixel for each output pixel.
    pixels = rows[:, :, tf.newaxis] * width + columns[:, tf.newaxis, :]
    flat = tf.reshape(images, (number, height * width, images.shape[3]))
    return tf.gather(flat, pixels, batch_dims=1)


def _mirrored(index: tf.Tensor, size: int) -> tf.Tensor:
    """Reflects indices outside 0–size-1 at the border; the border pixel itself is not repeated."""
    index = tf.abs(index)
    return (size - 1) - tf.abs(size - 1 - index)


def crop_flip_rotate(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """``crop_flip``, then a rotation by up to 15 degrees, with bilinear interpolation and reflection at the border.

    Source: Martínez et al., ICLR 2020, section 4.1, for CIFAR-100.
    """
    images = crop_flip(images, seed)
    limit = math.radians(ROTATION)
    angle = tf.random.stateless_uniform((tf.shape(images)[0],), position_seed(seed, 2), -limit, limit)
    zeros = tf.zeros_like(angle)
    return _transformed(images, angle, tf.ones_like(angle), zeros, zeros, fill="REFLECT")


AUGMENTATIONS: dict[str, Augmentation] = {
    "none": none,
    "affine": affine,
    "crop_flip": crop_flip,
    "crop_flip_rotate": crop_flip_rotate,
}


def colour_draws(number: int, seed: tf.Tensor) -> tf.Tensor:
    """Factors of brightness, contrast and saturation for each image, uniform in 0.6–1.4, float32 (number, 3)."""
    return tf.random.stateless_uniform((number, 3), seed, 1 - COLOUR_STRENGTH, 1 + COLOUR_STRENGTH)


def colour_jittered(pixels: tf.Tensor, factors: tf.Tensor) -> tf.Tensor:
    """Changes brightness, contrast and saturation, in this order.

        brightness: b · x;   contrast: c · x + (1 − c) · mean of the image's grey;   saturation: s · x + (1 − s) · grey

    Each step starts from the result x of the step before, and clips its own result to 0–255. Grey is computed as by
    TensorFlow's ``rgb_to_grayscale``. A grey image has no saturation to change.

    Args:
        pixels: float32 (N, H, W, C), 0–255.
        factors: b, c and s of each image, (N, 3).

    Returns:
        float32 (N, H, W, C), 0–255.

    Source: Howard, "Some Improvements on Deep Convolutional Neural Network Based Image Classification", 2013,
    section 2.2. The order of the steps and the range of the factors are this project's choice.
    """
    brightness, contrast, saturation = (factors[:, i, tf.newaxis, tf.newaxis, tf.newaxis] for i in range(3))
    pixels = tf.clip_by_value(brightness * pixels, 0.0, 255.0)
    mean = tf.reduce_mean(_grey(pixels), axis=[1, 2], keepdims=True)
    pixels = tf.clip_by_value(mean + contrast * (pixels - mean), 0.0, 255.0)
    grey = _grey(pixels)
    return tf.clip_by_value(grey + saturation * (pixels - grey), 0.0, 255.0)


def _grey(pixels: tf.Tensor) -> tf.Tensor:
    return tf.image.rgb_to_grayscale(pixels) if pixels.shape[-1] == 3 else pixels


def mixed(
    images: tf.Tensor, labels: tf.Tensor, num_classes: int, alpha: float, seed: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Mix-up: mixes each image and its label with those of its neighbour in the batch.

        λ ~ Beta(alpha, alpha), one for the batch;   x ← λ x + (1 − λ) x',   y ← λ y + (1 − λ) y'

    Images 2k and 2k + 1 are neighbours. They are a random pair, because the batch is shuffled. They are on the same
    device, because each device processes an even number of images (see ``Dataset.check_mixup``). The result therefore
    does not depend on the number of devices. If N is odd, the last image is not changed.

    Args:
        images: float32 (N, H, W, C).
        labels: int (N,), in 0–num_classes-1.
        num_classes: number of classes.
        alpha: above 0; the larger, the closer λ is to one half.
        seed: seed of λ, int (2,).

    Returns:
        The images, and probabilities of the classes, float32 (N, num_classes).

    Raises:
        InvalidArgumentError: a label is outside 0–num_classes-1.

    Source: Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018, section 2.
    """
    in_range = tf.reduce_all((labels >= 0) & (labels < num_classes))
    message = "mixup: a label is outside the classes: number of classes and labels are"
    check = tf.debugging.Assert(in_range, [message, num_classes, labels])
    # In a graph, wait for the assertion; an eager call has already raised.
    with tf.control_dependencies([check] if isinstance(check, tf.Operation) else []):
        targets = tf.one_hot(labels, num_classes)
    gammas = tf.random.stateless_gamma((2,), seed, alpha=alpha)
    share = gammas[0] / tf.reduce_sum(gammas)
    number = tf.shape(images)[0]
    neighbour = tf.bitwise.bitwise_xor(tf.range(number), 1)
    neighbour = tf.where(neighbour < number, neighbour, number - 1)
    images, targets = (share * x + (1 - share) * tf.gather(x, neighbour) for x in (images, targets))
    return images, targets


def position_seed(seed: tf.Tensor, position: Union[int, tf.Tensor]) -> tf.Tensor:
    """Derives the seed (2,) of one position, for example of a batch in an epoch, from the seed (2,) of the epoch."""
    # The result depends on the integer type, and positions from Python and from tf.data have different types.
    return tf.random.experimental.stateless_fold_in(seed, tf.cast(position, tf.int32))


def check_augmentation(name: str, possible: tuple[str, ...], dataset: str) -> None:
    """Raises ValueError if ``name`` is not in ``possible``; the message lists the possible augmentations."""
    if name not in possible:
        raise ValueError(f"There is no augmentation {name!r}; there are {', '.join(possible)} for {dataset}.")
