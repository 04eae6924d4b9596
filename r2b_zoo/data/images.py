"""Reads image files."""

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

# The content decides whether a file is an image. If Pillow does not recognise the content, a file with one of these
# suffixes counts as an unreadable image; a file with another suffix does not count as an image.
IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jfif", ".jpe", ".png", ".apng", ".bmp", ".dib", ".webp", ".gif", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".jp2", ".j2k", ".avif", ".qoi"),
)
UNREAD_SUFFIXES = (".heic", ".heif", ".jxl")
"""Suffixes of image formats that Pillow reads only with a plugin, or not at all."""
RAW_SUFFIXES = (".dng", ".cr2", ".cr3", ".nef", ".nrw", ".arw", ".orf", ".rw2", ".raf", ".pef", ".srw")
"""Suffixes of files with raw data of a camera's sensor, in which Pillow would find only a thumbnail, or nothing."""

PILLOW_DCT = "INTEGER_ACCURATE"
"""The ``dct_method`` of ``tf.io.decode_jpeg`` that gives the same pixels as Pillow."""


@dataclass(frozen=True)
class Header:
    """The facts about an image file that are needed before decoding it.

    Attributes:
        height: rows of the image, rotated as its EXIF data says.
        width: columns of the rotated image.
        is_plain_jpeg: whether it is an RGB or grey JPEG without rotation, which TensorFlow decodes as Pillow does.
    """

    height: int
    width: int
    is_plain_jpeg: bool


def read_image(path: PathLike, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Reads an image of any format that Pillow recognises, as uint8 (H, W, 3), rotated as its EXIF data says.

    Grey is repeated over the channels, and 16-bit grey is divided by 257; an alpha channel is dropped; CMYK and other
    colours are converted. Of several frames, the first is read.

    Args:
        path: path of a regular file.
        max_pixels: limit on height times width.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not an image, is damaged or too large, or the range of its values is unknown.
    """
    with opened(path, max_pixels) as image:
        return pixels.rgb(image)


def check_image(path: PathLike, max_pixels: int = MAX_PIXELS) -> Header:
    """Checks an image file by decoding it, at the smallest size that its format allows. Raises as ``read_image``."""
    import tensorflow as tf

    with opened(path, max_pixels) as image:
        if image.format == "JPEG" and image.mode in ("RGB", "L") and pixels.orientation(image) == 1:
            try:
                tf.io.decode_jpeg(Path(path).read_bytes(), channels=3, ratio=8)
                return Header(image.height, image.width, True)
            except tf.errors.InvalidArgumentError:
                pass  # Pillow either reads the file or gives the reason why it cannot
        return Header(*pixels.check(image), False)


def is_unidentified(error: Optional[BaseException]) -> bool:
    """Whether a reader's error was caused by a file format that Pillow does not recognise."""
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
    """Opens an image file in Pillow without decoding it; errors name the file. Raises as ``read_image``."""
    try:
        with pixels.opened(path, max_pixels) as image:
            yield image
    except FileNotFoundError:
        raise FileNotFoundError(f"There is no image {str(path)!r}.") from None
    except pixels.ImageError as error:
        raise ValueError(f"{path} cannot be read as an image: {error}.") from error
