"""Image files."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Optional, Union

import numpy as np

from r2b_zoo.data import pixels
from r2b_zoo.data.pixels import MAX_PIXELS

if TYPE_CHECKING:
    from PIL import Image

PathLike = Union[str, "os.PathLike[str]"]

# What an image is, its content says. A file of such a name that cannot be read is one that a person expects to be told
# about; of other names, any file may lie beside photographs.
IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jfif", ".jpe", ".png", ".apng", ".bmp", ".dib", ".webp", ".gif", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".jp2", ".j2k", ".avif", ".qoi"),
)
UNREAD_SUFFIXES = (".heic", ".heif", ".jxl")
"""Image formats that Pillow reads with a plugin or not at all."""
RAW_SUFFIXES = (".dng", ".cr2", ".cr3", ".nef", ".nrw", ".arw", ".orf", ".rw2", ".raf", ".pef", ".srw")
"""Raw data of a camera's sensor, in which Pillow would find a thumbnail or nothing."""

PILLOW_DCT = "INTEGER_ACCURATE"
"""The ``dct_method`` of ``tf.io.decode_jpeg`` that gives the same bits as Pillow."""


@dataclass(frozen=True)
class Header:
    """What one needs to know of an image file before decoding it.

    Attributes:
        height: rows, of the image turned as its EXIF data says.
        width: columns of the same.
        is_plain_jpeg: a JPEG of red, green and blue, or grey, that need not be turned; TensorFlow decodes it as Pillow.
    """

    height: int
    width: int
    is_plain_jpeg: bool


def read_image(path: PathLike, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Any image file that Pillow knows by its content, as uint8 (H, W, 3), turned as its EXIF data says.

    Grey is repeated over the channels, that of 16 bits divided by 257; an alpha channel is dropped, CMYK and other
    colours are converted. Of several frames it is the first.

    Args:
        path: of a regular file.
        max_pixels: height times width of the largest image that is read.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not an image, is damaged or too large, or holds numbers of which it does not say how
            bright they are.
    """
    with opened(path, max_pixels) as image:
        return pixels.rgb(image)


def check_image(path: PathLike, max_pixels: int = MAX_PIXELS) -> Header:
    """Decodes an image file, as small as its format allows, to see whether it can be. Raises as ``read_image``."""
    import tensorflow as tf

    with opened(path, max_pixels) as image:
        if image.format == "JPEG" and image.mode in ("RGB", "L") and pixels.orientation(image) == 1:
            try:
                tf.io.decode_jpeg(Path(path).read_bytes(), channels=3, ratio=8)
                return Header(image.height, image.width, True)
            except tf.errors.InvalidArgumentError:
                pass  # Pillow says why, or reads what TensorFlow does not
        return Header(*pixels.check(image), False)


def is_unidentified(error: Optional[BaseException]) -> bool:
    """Whether the cause of a reader's error is that Pillow found the file to be of no kind that it knows."""
    return error is not None and (type(error).__name__ == "UnidentifiedImageError" or is_unidentified(error.__cause__))


def is_image_file(path: PathLike) -> bool:
    """Whether a file's name or its content says that it is an image; it may be damaged."""
    if Path(path).suffix.lower() in (*IMAGE_SUFFIXES, *UNREAD_SUFFIXES, *RAW_SUFFIXES):
        return True
    try:
        with opened(path):
            return True
    except (ValueError, OSError) as error:
        return not is_unidentified(error)


@contextmanager
def opened(path: PathLike, max_pixels: int = MAX_PIXELS) -> "Iterator[Image.Image]":
    """An image file in Pillow, not yet decoded, its errors with the name of the file. Raises as ``read_image``."""
    try:
        with pixels.opened(path, max_pixels) as image:
            yield image
    except FileNotFoundError:
        raise FileNotFoundError(f"There is no image {str(path)!r}.") from None
    except pixels.ImageError as error:
        raise ValueError(f"{path} cannot be read as an image: {error}.") from error
