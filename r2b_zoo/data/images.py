"""Image files."""

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Optional, Union

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

PathLike = Union[str, "os.PathLike[str]"]

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif")

# Image files of other kinds, which a person would expect to be told about.
UNREAD_SUFFIXES = (".heic", ".heif", ".avif", ".tif", ".tiff", ".jxl", ".jp2", ".dng", ".cr2", ".nef", ".arw")

PILLOW_DCT = "INTEGER_ACCURATE"
"""The ``dct_method`` of ``tf.io.decode_jpeg`` that gives the same bits as Pillow."""

_ORIENTATION = 0x0112
_TURNED_ON_ITS_SIDE = (5, 6, 7, 8)


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


def read_image(path: PathLike) -> np.ndarray:
    """An image file as uint8 (H, W, 3), turned as its EXIF data says; an alpha channel is dropped.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not an image, or is truncated.
    """
    from PIL import ImageOps

    with _opened(path) as image:
        return _rgb(ImageOps.exif_transpose(image))


def check_image(path: PathLike) -> Header:
    """Decodes an image file, as small as its format allows, to see whether it can be. Raises as ``read_image``."""
    import tensorflow as tf

    with _opened(path) as image:
        width, height = image.size
        orientation = image.getexif().get(_ORIENTATION, 1)
        if orientation in _TURNED_ON_ITS_SIDE:
            width, height = height, width
        is_plain_jpeg = image.format == "JPEG" and image.mode in ("RGB", "L") and orientation not in range(2, 9)
        if is_plain_jpeg:
            try:
                tf.io.decode_jpeg(Path(path).read_bytes(), channels=3, ratio=8)
                return Header(height, width, True)
            except tf.errors.InvalidArgumentError:
                pass  # Pillow says why, or reads what TensorFlow does not
        image.draft(None, (1, 1))
        image.load()
        return Header(height, width, False)


@contextmanager
def _opened(path: PathLike) -> "Iterator[Image.Image]":
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            yield image
    except FileNotFoundError:
        raise FileNotFoundError(f"There is no image {str(path)!r}.") from None
    except (
        UnidentifiedImageError,
        Image.DecompressionBombError,
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        struct.error,
    ) as error:
        raise ValueError(f"{path} cannot be read as an image: {error}.") from error


def _rgb(image: "Image.Image") -> np.ndarray:
    if image.mode == "I" or image.mode.startswith("I;16"):
        # Grey of 16 bits, which Pillow would cut off at 255.
        grey = np.clip(np.asarray(image, np.float64) / 257, 0, 255).round().astype(np.uint8)
        return np.repeat(grey[..., np.newaxis], 3, axis=-1)
    return np.asarray(image.convert("RGB"))


def image_files(folder: PathLike, number: Optional[int] = None) -> list[Path]:
    """The image files in a folder and its subfolders, in the order of their names, ``number`` of them at most.

    Raises:
        ValueError: there are none.
    """
    paths = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)[:number]
    if not paths:
        raise ValueError(f"There are no images ({', '.join(IMAGE_SUFFIXES)}) in {folder}.")
    return paths
