"""Reads the pixels of Pillow's images of any mode, in the same way for training, r2b and r2b-run.

r2b_zoo and r2b_runtime have identical copies of this file, because neither depends on the other; a test compares them.
Pillow is needed only when a function is called.
"""

import contextlib
import os
import stat
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Optional, Union

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS = 178_956_970
"""Default limit on height times width of a file, about 13,377², equal to Pillow's default ``MAX_IMAGE_PIXELS``."""

LUMA = (0.299, 0.587, 0.114)  # weights of red, green and blue in grey (ITU-R BT.601)
RANGE_OF_BICUBIC = (-255, 510)  # contains all results of bicubic interpolation of values in 0–255
_ORIENTATION = 0x0112  # EXIF's tag
# EXIF orientations whose columns or rows are displayed in reverse order, or whose rows and columns are exchanged.
_COLUMNS_REVERSED, _ROWS_REVERSED, _TURNED_ON_ITS_SIDE = (2, 3, 7, 8), (3, 4, 6, 7), (5, 6, 7, 8)
_BAND = 1 << 20  # pixels that are converted at a time, so that a large image is not held in every form at once
_DEEP_WHITE = 65535
_BITS_PER_SAMPLE, _WHITE_IS = 258, 262  # tags of TIFF
_WRITTEN_IN_16_BITS = ("PNG", "PPM")  # some versions of Pillow open 16-bit files of these formats as 32 bits
# Pillow would run another program to read these.
_REFUSED_FORMATS = ("EPS",)
_limit_lock = threading.Lock()


class ImageError(ValueError):
    """An image cannot be read. The message says why, without the name of the file."""


def is_pillow_image(image: object) -> bool:
    """Whether this is one of Pillow's images, found out without importing Pillow."""
    module = sys.modules.get("PIL.Image")
    return module is not None and isinstance(image, module.Image)


@contextlib.contextmanager
def opened(path: Union[str, "os.PathLike[str]"], max_pixels: int = MAX_PIXELS) -> "Iterator[Image.Image]":
    """Opens an image file of any format that Pillow recognises by its content, without decoding it.

    Args:
        path: path of a regular file; reading a pipe or a device might never end.
        max_pixels: refuse an image with more pixels; even a small file could exhaust memory.

    Raises:
        FileNotFoundError: there is no such file.
        ImageError: it is not an image, or has too many pixels.
    """
    from PIL import Image

    with _pillows_limit(max_pixels):
        with explained():
            if not stat.S_ISREG(os.stat(path).st_mode):
                raise ImageError("it is not a regular file")
            image = Image.open(path)
        with image:
            if image.format in _REFUSED_FORMATS:
                raise ImageError(f"{image.format} is a drawing, not pixels; export it as PNG")
            if image.width * image.height > max_pixels:
                raise _too_large(f"Image size ({image.width * image.height} pixels) exceeds limit of {max_pixels}")
            yield image


@contextlib.contextmanager
def _pillows_limit(max_pixels: int) -> Iterator[None]:
    """Lets Pillow read images of up to ``max_pixels``.

    Pillow refuses images of more than twice its limit, which is a global variable.
    """
    from PIL import Image

    if max_pixels == MAX_PIXELS:
        yield
        return
    with _limit_lock:
        pillows = Image.MAX_IMAGE_PIXELS
        if pillows is not None and max_pixels > 2 * pillows:
            Image.MAX_IMAGE_PIXELS = max_pixels
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = pillows


def rgb(image: "Image.Image", crop_fraction: Optional[float] = None) -> np.ndarray:
    """Red, green and blue of one of Pillow's images, rotated as its EXIF data says.

    Grey is repeated, alpha is dropped, and other colour spaces are converted. 16-bit grey is divided by 257, and so is
    32-bit grey, which must lie in 0–65535; float grey must lie in 0–255 and is rounded.

    Args:
        image: an image of any mode, opened from a file or made in memory.
        crop_fraction: keep the centre square of this share of the shorter side, as ``centre_square``; None: keep all.

    Returns:
        uint8 (H, W, 3).

    Raises:
        ImageError: it is damaged, or the range of its values is unknown.
    """
    with explained():
        image.load()
        white, black_and_white_swapped = _white(image), getattr(image, "tag_v2", {}).get(_WHITE_IS) == 0
        # Read the orientation after loading, because loading makes Pillow rotate TIFF files itself.
        turned = orientation(image)
        top, left, height, width = 0, 0, image.height, image.width
        if crop_fraction is not None:
            height, width = (width, height) if turned in _TURNED_ON_ITS_SIDE else (height, width)
            top, left, side = centre_square(height, width, crop_fraction)
            # Convert from displayed coordinates to the file's.
            if turned in _TURNED_ON_ITS_SIDE:
                top, left = left, top
            if turned in _ROWS_REVERSED:
                top = image.height - side - top
            if turned in _COLUMNS_REVERSED:
                left = image.width - side - left
            height = width = side
        result = np.empty((height, width, 3), np.uint8)
        rows = max(1, _BAND // width)
        for start in range(0, height, rows):
            stop = min(start + rows, height)
            box = (left, top + start, left + width, top + stop)
            band = image if box == (0, 0, *image.size) else image.crop(box)
            result[start:stop] = _converted(band, white)
        if white and black_and_white_swapped:  # Pillow swaps them only in 8-bit images
            np.subtract(255, result, out=result)
        return _turned(result, turned)


def check(image: "Image.Image") -> tuple[int, int]:
    """Decodes an image as small as its format allows. It cannot be used afterwards. Raises as ``rgb``.

    Returns:
        Height and width of the array that ``rgb`` would have given.
    """
    with explained():
        whole = image.size
        image.draft(None, (1, 1))
        drafted = image.size != whole
        image.load()
        _white(image)
        width, height = whole if drafted else image.size
        return (width, height) if orientation(image) in _TURNED_ON_ITS_SIDE else (height, width)


def orientation(image: "Image.Image") -> int:
    """EXIF's orientation, 1 to 8; 1 if the image is not rotated."""
    with explained():
        found = image.getexif().get(_ORIENTATION, 1)
        return found if found in range(1, 9) else 1


def centre_square(height: int, width: int, fraction: float) -> tuple[int, int, int]:
    """Top, left and side of the centre square of ``fraction`` of the shorter side.

    The side is rounded down; an odd margin is cut at the top and left. Computed in float32, as in TensorFlow.
    """
    side = max(int(np.float32(fraction) * np.float32(min(height, width))), 1)
    return (height - side + 1) // 2, (width - side + 1) // 2, side


def crop(image: np.ndarray, fraction: float) -> np.ndarray:
    """The centre square of an image (H, W, C), see ``centre_square``."""
    top, left, side = centre_square(image.shape[0], image.shape[1], fraction)
    return image[top : top + side, left : left + side]


def with_channels(image: np.ndarray, channels: int, height: int) -> np.ndarray:
    """An image (H, W, 1, 3 or 4) with 1 or 3 channels: grey is repeated, alpha dropped, colours become float32 grey.

    Args:
        image: uint8 or float32.
        channels: 1 or 3.
        height: number of rows to which the image is resized by bicubic interpolation. In the float32 grey of a colour
            image only the rows that this reads are filled, as the floats of a large image would take too much memory.
    """
    image = image[..., :3]
    if image.shape[2] == channels:
        return image
    if channels == 3:
        return np.repeat(image, 3, axis=2)
    rows = image.shape[0]
    samples = (np.arange(height) * (rows / height)).astype(np.int64)
    # Bicubic interpolation reads four rows around a sample; a few more allow for rounding of positions in float32.
    read = np.unique(np.clip(samples[:, np.newaxis] + np.arange(-3, 6), 0, rows - 1))
    grey = np.zeros((*image.shape[:2], 1), np.float32)
    grey[read] = np.sum(image[read].astype(np.float32) * np.array(LUMA, np.float32), axis=2, keepdims=True)
    return grey


def normalises(mean: Sequence[float], std: Sequence[float]) -> bool:
    """Whether (value - mean) / std in float32 is finite for every value that an image can have."""
    with np.errstate(all="ignore"):
        means, deviations = np.array(mean, np.float32), np.array(std, np.float32)
        ends = [(np.float32(value) - means) / deviations for value in RANGE_OF_BICUBIC]
    return bool(np.isfinite(means).all() and np.isfinite(deviations).all() and np.isfinite(ends).all())


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Turns all errors but a missing file into ImageError, because Pillow's readers raise errors of any type."""
    from PIL import Image

    try:
        yield
    except (FileNotFoundError, ImageError):
        raise
    except Image.DecompressionBombError as error:
        raise _too_large(str(error).partition(" pixels, ")[0]) from error
    except OSError as error:
        raise ImageError(error.strerror or _sentence(error)) from error
    except Exception as error:
        raise ImageError(_sentence(error)) from error


def _too_large(rule: str) -> ImageError:
    return ImageError(f"{rule} pixels; give a larger max_pixels for an image that you trust")


def _sentence(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


def _white(image: "Image.Image") -> int:
    """The value of white if Pillow's mode does not define the scale of grey, else 0.

    Raises ImageError for values outside the scale.
    """
    if image.mode.startswith("I;"):
        tags = getattr(image, "tag_v2", {})
        return 4095 if tags.get(_BITS_PER_SAMPLE) in (12, (12,)) else _DEEP_WHITE
    if image.mode not in ("I", "F"):
        return 0
    if image.mode == "I":
        low, high = image.getextrema()
    else:
        values = np.asarray(image)
        low, high = float(values.min()), float(values.max())  # NaN if any value is NaN
    limit = _DEEP_WHITE if image.mode == "I" else 255
    kind = "whole numbers of 32 bits" if image.mode == "I" else "floats"
    if not (low >= 0 and high <= limit):  # NaN fails too
        raise ImageError(f"grey in {kind} must lie in 0–{limit}; it goes from {low} to {high}: save it in 8 or 16 bits")
    unclear = 255 if image.mode == "I" else 1
    if 0 < high <= unclear and image.format not in _WRITTEN_IN_16_BITS:
        raise ImageError(
            f"grey in {kind} must lie in 0–{limit}; it goes from {low} to {high}, which may also mean 0–{unclear}: "
            "save it in 8 or 16 bits"
        )
    return limit


def _converted(image: "Image.Image", white: int) -> np.ndarray:
    if not white:
        # Pillow does not convert grey with premultiplied alpha to colours directly.
        return np.asarray((image.convert("LA") if image.mode == "La" else image).convert("RGB"))
    values = np.asarray(image)
    grey = np.rint(values) if values.dtype.kind == "f" else (values.astype(np.uint32) * 255 + white // 2) // white
    grey = np.minimum(grey, 255).astype(np.uint8)
    return np.repeat(grey[..., np.newaxis], 3, axis=2)


def _turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    if orientation in _ROWS_REVERSED:
        pixels = pixels[::-1]
    if orientation in _COLUMNS_REVERSED:
        pixels = pixels[:, ::-1]
    return pixels.transpose(1, 0, 2) if orientation in _TURNED_ON_ITS_SIDE else pixels
