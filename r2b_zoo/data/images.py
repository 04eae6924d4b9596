"""Image files."""

import os
from pathlib import Path
from typing import Optional, Union

import numpy as np

PathLike = Union[str, "os.PathLike[str]"]

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif")


def read_image(path: PathLike) -> np.ndarray:
    """An image file as uint8 (H, W, 3), turned as its EXIF data says.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not an image, or is truncated.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except FileNotFoundError:
        raise FileNotFoundError(f"There is no image {str(path)!r}.") from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as an image: {error}.") from error


def image_files(folder: PathLike, number: Optional[int] = None) -> list[Path]:
    """The image files in a folder and its subfolders, in the order of their names, ``number`` of them at most.

    Raises:
        ValueError: there are none.
    """
    paths = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)[:number]
    if not paths:
        raise ValueError(f"There are no images ({', '.join(IMAGE_SUFFIXES)}) in {folder}.")
    return paths
