"""Turns an image of any size into a network's input tensor.

Every normalisation constant of the project is here or in the module of the data set from which it was computed.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf

from r2b_zoo.data import pixels

MAX_SIDE = 1 << 15
"""The most rows and columns of an input, which is also r2b_runtime's limit."""

# Images that together have more values are resized from their bytes, since floats would take four times the memory.
_MOST_AS_FLOATS = 1 << 22


@dataclass(frozen=True)
class Preprocessing:
    """Centre crop, resize, normalise: from uint8 (H, W, 1, 3 or 4) to float32 (height, width, channels).

    Attributes:
        height: rows of the result.
        width: columns of the result.
        channels: 3 (RGB) or 1 (grey).
        crop_fraction: side of the centre square that is kept, as a share of the image's shorter side.
        mean: one number per channel, in levels of 0–255.
        std: one number per channel, in levels of 0–255; the result is (image - mean) / std.

    Raises:
        ValueError: no image can be prepared with these numbers.
    """

    height: int
    width: int
    channels: int
    crop_fraction: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        sizes = (self.height, self.width)
        if not all(isinstance(size, (int, np.integer)) and 0 < size <= MAX_SIDE for size in sizes):
            raise ValueError(f"height and width must be whole numbers from 1 to {MAX_SIDE}; received {sizes}.")
        if self.channels not in (1, 3):
            raise ValueError(f"Preprocessing makes images of 1 or 3 channels; received channels={self.channels}.")
        for name in ("mean", "std"):
            if len(getattr(self, name)) != self.channels:
                raise ValueError(
                    f"{name} needs one number per channel ({self.channels}); received {getattr(self, name)}."
                )
        if not 0 < self.crop_fraction <= 1:
            raise ValueError(f"crop_fraction must be in (0, 1]; received {self.crop_fraction}.")
        if not pixels.normalises(self.mean, self.std):
            raise ValueError(
                f"mean and std must be finite in float32 and std not 0; received mean={self.mean}, std={self.std}."
            )

    @property
    def input_shape(self) -> tuple[int, int, int]:
        return self.height, self.width, self.channels

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "Preprocessing":
        """The inverse of ``to_dict``.

        Raises:
            ValueError: a field is missing, unknown or of the wrong type, or no image can be prepared with the numbers.
        """
        try:
            moments = {name: _numbers(fields[name]) for name in ("mean", "std")}
            return cls(**{**fields, **moments})
        except KeyError as error:
            raise ValueError(f"Preprocessing needs {error}; received {fields!r}.") from None
        except TypeError as error:
            raise ValueError(f"Preprocessing cannot be made from {fields!r}: {error}.") from None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def with_size(self, height: int, width: int) -> "Preprocessing":
        return replace(self, height=height, width=width)

    def tensor(self, image: tf.Tensor) -> tf.Tensor:
        """Prepares one image (H, W, C) with TensorFlow, for data pipelines; the number of channels must be static."""
        return self.batch(image[tf.newaxis])[0]

    def batch(self, images: tf.Tensor) -> tf.Tensor:
        """Prepares images of one size: (N, H, W, C) → (N, height, width, channels)."""
        top, left, height, width = tf.unstack(self.centre_window(tf.shape(images)[1:3]))
        return self.normalise(self.resize(images[:, top : top + height, left : left + width]))

    def centre_window(self, size: tf.Tensor) -> tf.Tensor:
        """Top, left, height and width, int32 (4,), of the centre square of an image of this size.

        ``size`` is height and width, int32 (2,); for N images, (N, 2) → (N, 4). The square's side is ``crop_fraction``
        of the image's shorter side, rounded down. Of an odd margin, the larger part is cut at the top and left.
        """
        shorter = tf.cast(tf.reduce_min(size, axis=-1, keepdims=True), tf.float32)
        side = tf.maximum(tf.cast(self.crop_fraction * shorter, tf.int32), 1)
        return tf.concat([(size - side + 1) // 2, side, side], axis=-1)

    def resize(self, images: tf.Tensor, bilinear: bool = False) -> tf.Tensor:
        """Resizes uint8 or float32 (N, H, W, 1, 3 or 4) to float32 (N, height, width, channels), in levels of 0–255.

        The rule is bicubic as in TensorFlow 1 (``align_corners`` and ``half_pixel_centers`` false, a = -0.75). The
        published weights were trained with this rule. Its results may lie outside 0–255 (``pixels.RANGE_OF_BICUBIC``).
        With ``bilinear``, the rule is bilinear with half-pixel centres, which takes less time.
        """
        images = tf.convert_to_tensor(_with_channels(images, self.channels))
        if (images.shape.num_elements() or 0) <= _MOST_AS_FLOATS:
            # Convert to floats first: the operators are faster on floats than on bytes, with the same bits.
            images = tf.cast(images, tf.float32)
        size = [self.height, self.width]
        if bilinear:
            resized = tf.raw_ops.ResizeBilinear(images=images, size=size, half_pixel_centers=True)
        else:
            resized = tf.raw_ops.ResizeBicubic(images=images, size=size)
        return tf.ensure_shape(resized, (None, *self.input_shape))

    def normalise(self, images: tf.Tensor) -> tf.Tensor:
        """(image - mean) / std: (..., height, width, channels) → float32 (N, height, width, channels)."""
        # Use constants as large as the image: TensorFlow takes longer to broadcast three numbers, for the same bits.
        pixels = self.height * self.width
        mean, std = (tf.constant([values * pixels], tf.float32) for values in (self.mean, self.std))
        flat = tf.reshape(tf.cast(images, tf.float32), (-1, pixels * self.channels))
        return tf.reshape((flat - mean) / std, (-1, *self.input_shape))

    def pixels(self, images: tf.Tensor) -> tf.Tensor:
        """The inverse of ``normalise``, up to rounding: images in levels of 0–255, (N, height, width, channels)."""
        return images * tf.constant(self.std, tf.float32) + tf.constant(self.mean, tf.float32)

    def __call__(self, image: Any) -> np.ndarray:
        """Prepares an image of any size: uint8 (or float in 0–255), (H, W), (H, W, 1), (H, W, 3) or (H, W, 4).

        It may also be one of Pillow's images, of any mode, which is rotated as its EXIF data says. An alpha channel is
        dropped. For three channels, grey is repeated; for one channel, colours become grey (``pixels.LUMA``).

        Returns:
            float32 (height, width, channels).

        Raises:
            ValueError: the argument is not one image, has no pixels, has values outside 0–255, or is one of Pillow's
                images that cannot be read.
        """
        if pixels.is_pillow_image(image):
            centre = pixels.rgb(image, self.crop_fraction)
        else:
            centre = pixels.crop(_checked(image), self.crop_fraction)
        centre = pixels.with_channels(centre, self.channels, self.height)
        return self.normalise(self.resize(tf.constant(centre)[tf.newaxis]))[0].numpy()


def _checked(image: Any) -> np.ndarray:
    """The image with three axes, uint8 or float32."""
    array = np.asarray(image)
    if array.ndim == 2:
        array = array[..., np.newaxis]
    rule = "An image must be one array of shape (height, width), or (height, width, 1, 3 or 4)"
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        hint = " Preprocess the images of a batch one by one." if array.ndim == 4 else ""
        raise ValueError(f"{rule}; received shape {np.shape(image)}.{hint}")
    if 0 in array.shape:
        raise ValueError(f"{rule} with at least one pixel; received shape {array.shape}.")
    if array.dtype != np.uint8:
        if array.dtype.kind not in "iuf" or not (array.min() >= 0 and array.max() <= 255):
            raise ValueError(
                f"An image must hold uint8 values, or numbers in 0–255; received {array.dtype} with other values."
            )
        array = array.astype(np.float32)
    return array


def _numbers(values: Any) -> tuple[float, ...]:
    try:
        if isinstance(values, (list, tuple)):
            return tuple(map(float, values))
    except (OverflowError, TypeError, ValueError):
        pass
    raise TypeError(f"mean and std must be lists of numbers; received {values!r}")


# Larq Zoo's published weights were trained with this: crop 224/256 of the shorter side, ImageNet statistics.
IMAGENET = Preprocessing(
    height=224,
    width=224,
    channels=3,
    crop_fraction=224 / 256,
    mean=(0.485 * 255, 0.456 * 255, 0.406 * 255),
    std=(0.229 * 255, 0.224 * 255, 0.225 * 255),
)


def preprocess_input(image: Any) -> np.ndarray:
    """Prepares one image for networks trained on ImageNet, including those with ``weights="imagenet"``.

    Crops the centre square of 87.5 % of the shorter side, resizes it bicubically to 224×224, and normalises it with
    ImageNet's mean and standard deviation.

    Args:
        image: uint8 of any size: RGB (H, W, 3), RGBA (H, W, 4), or grey (H, W) or (H, W, 1). See
            ``Preprocessing.__call__`` for other types.

    Returns:
        float32 (224, 224, 3).

    Raises:
        ValueError: see ``Preprocessing.__call__``.
    """
    return IMAGENET(image)


def _with_channels(images: tf.Tensor, channels: int) -> tf.Tensor:
    found = images.shape[-1]
    if found == 4:
        images, found = images[..., :3], 3
    if found == channels:
        return images
    if channels == 3:
        return tf.repeat(images, 3, axis=-1)
    return tf.reduce_sum(tf.cast(images, tf.float32) * tf.constant(pixels.LUMA), axis=-1, keepdims=True)
