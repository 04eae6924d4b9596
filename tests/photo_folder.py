"""A realistic folder of photographs: three classes with every kind of image file, and two files that cannot be read."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("bricks [red]", "grass", "water")  # a name may look like console markup
BAD_FILES = ("grass/cut off.jpg", "water/text.jpg")
IMAGES = 20
_EXIF_ORIENTATION = 0x0112


def photograph(label: int, seed: int, height: int = 72, width: int = 96) -> Image.Image:
    """An RGB image: red without stripes (label 0), green with vertical ones (1) or blue with horizontal ones (2).

    Stripes, brightness, colour and noise vary with the seed.
    """
    rng = np.random.default_rng([label, seed])
    rows, columns = np.mgrid[:height, :width]
    phase, period = rng.uniform(0, 10), rng.uniform(7, 10)
    stripes = np.sin(2 * np.pi * (columns if label == 1 else rows) / period + phase)
    brightness = 128 + (60 * stripes if label else rng.uniform(-30, 30)) + rng.normal(0, 12, (height, width))
    colour = np.full(3, 0.55)
    colour[label] = 1.1
    pixels = brightness[..., np.newaxis] * (colour + rng.normal(0, 0.05, 3))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def write_photographs(root: Path, classes: tuple[str, ...] = CLASSES, number: int = IMAGES, seed: int = 0) -> Path:
    """Writes a folder of ``number`` JPEGs for each class, and returns ``root``."""
    for label, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for i in range(number):
            photograph(label, 1000 * seed + i).save(root / name / f"{i:03}.jpg", quality=90)
    return root


def write_every_kind(root: Path) -> Path:
    """Calls ``write_photographs``, adds other kinds of images and ``BAD_FILES``, and returns ``root``."""
    write_photographs(root)
    for label, name in enumerate(CLASSES):
        pictures = iter(photograph(label, 500 + i) for i in range(9))
        folder = root / name
        next(pictures).save(folder / "photo.png")
        next(pictures).save(folder / "photo.bmp")
        next(pictures).save(folder / "photo.webp")
        next(pictures).convert("L").save(folder / "grey.jpg")
        next(pictures).convert("L").save(folder / "grey.png")
        next(pictures).convert("RGBA").save(folder / "transparent.png")
        next(pictures).convert("CMYK").save(folder / "print.jpg")
        # Store this one on its side: without its EXIF orientation, its stripes have the direction of another class.
        exif = Image.Exif()
        exif[_EXIF_ORIENTATION] = 6
        next(pictures).transpose(Image.Transpose.ROTATE_90).save(folder / "turned.jpg", exif=exif)
    whole = io.BytesIO()
    photograph(1, 600).save(whole, "JPEG")
    (root / BAD_FILES[0]).write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
    (root / BAD_FILES[1]).write_text("This is no image.")
    return root
