"""Reads image files and Pillow's images of every mode, with code that r2b_zoo and r2b_runtime share."""

import contextlib
import os
import struct
import threading
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from r2b_zoo.conversion import attached_files, tensor_values
from r2b_zoo.data import pixels
from r2b_zoo.data.images import check_image, read_image
from r2b_zoo.system import envelope, terminal

EXPORT = Path(__file__).parents[1] / "export" / "runtime" / "src" / "r2b_runtime"
COLOURS = np.random.default_rng(3).integers(0, 256, (7, 10, 3), dtype=np.uint8)
GREY = COLOURS[..., 0]
DEEP = (GREY.astype(np.uint16) * 257) + np.arange(10, dtype=np.uint16) % 2  # GREY after division by 257 and rounding
THREE_GREY = np.repeat(GREY[..., np.newaxis], 3, axis=2)


def of_mode(mode: str) -> "Image.Image":
    """COLOURS or GREY as a Pillow image of this mode."""
    if mode.startswith("I"):
        kinds = {"I": "<i4", "I;16": "<u2", "I;16L": "<u2", "I;16B": ">u2", "I;16N": "=u2"}
        return Image.frombytes(mode, (10, 7), DEEP.astype(kinds[mode]).tobytes())
    if mode == "F":
        return Image.fromarray(GREY.astype(np.float32))
    colours = Image.fromarray(COLOURS)
    if mode in ("LA", "La", "PA", "RGBA", "RGBa"):
        plain = Image.fromarray(GREY) if mode in ("LA", "La") else colours
        plain = plain.convert("P") if mode == "PA" else plain
        plain = plain.convert({"La": "LA", "RGBa": "RGBA"}.get(mode, mode))
        plain.putalpha(Image.fromarray(255 - GREY // 2))
        return plain.convert(mode)
    if mode == "LAB":
        from PIL import ImageCms

        srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        return ImageCms.profileToProfile(colours, srgb, lab, outputMode="LAB")
    return Image.fromarray(GREY) if mode == "L" else colours.convert(mode)


MODES = [mode for mode in Image.MODES if not mode.startswith("BGR")]
# The RGB pixels that are expected from each mode. Modes in EXACT must give equal pixels. In ROUNDED, the number is the
# largest difference allowed, in levels of 0–255. The pixels of the remaining modes, "1", "P" and "PA", are compared
# with the image's bits or palette.
EXACT = {"L": THREE_GREY, "LA": THREE_GREY, "I": THREE_GREY, "F": THREE_GREY, "RGB": COLOURS, "RGBA": COLOURS}
EXACT |= {"RGBX": COLOURS, "CMYK": COLOURS, **dict.fromkeys(("I;16", "I;16L", "I;16B", "I;16N"), THREE_GREY)}
ROUNDED = {
    "YCbCr": (COLOURS, 3),
    "LAB": (COLOURS, 32),
    "HSV": (COLOURS, 8),
    "RGBa": (COLOURS, 2),
    "La": (THREE_GREY, 2),
}


@pytest.mark.parametrize("mode", MODES)
def test_images_of_every_pillow_mode_become_rgb(mode: str) -> None:
    image = of_mode(mode)
    assert image.mode == mode
    found = pixels.rgb(image)
    assert found.dtype == np.uint8
    assert found.shape == (7, 10, 3)
    if mode in EXACT:
        np.testing.assert_array_equal(found, EXACT[mode])
    elif mode in ROUNDED:
        expected, most = ROUNDED[mode]
        assert np.abs(found.astype(int) - expected).max() <= most
    elif mode == "1":
        np.testing.assert_array_equal(found[..., 1], np.where(np.asarray(image), 255, 0))
    else:
        palette = np.array(image.getpalette(), np.uint8).reshape(-1, 3)
        indices = np.asarray(image)
        np.testing.assert_array_equal(found, palette[indices[..., 0] if mode == "PA" else indices])
    np.testing.assert_array_equal(found, pixels.rgb(image.crop((0, 0, 10, 7))), "a copy gives other pixels")


# --- files ------------------------------------------------------------------------------------------------------------

# The file's format and mode, and the RGB pixels that are read from it.
KINDS = [
    *(("PNG", mode, THREE_GREY) for mode in ("L", "LA", "I;16")),
    *(("PNG", mode, COLOURS) for mode in ("RGB", "RGBA")),
    *(("TIFF", mode, THREE_GREY) for mode in ("L", "LA", "I;16", "I;16B", "I", "F")),
    *(("TIFF", mode, COLOURS) for mode in ("RGB", "RGBA", "CMYK")),
    *(("PPM", mode, THREE_GREY) for mode in ("L", "I")),
    *((kind, "RGB", COLOURS) for kind in ("PPM", "BMP", "TGA", "PCX", "SGI", "ICO")),
    *((kind, "L", THREE_GREY) for kind in ("BMP", "GIF", "TGA", "JPEG2000")),
]


@pytest.mark.parametrize(("kind", "mode", "expected"), KINDS)
def test_files_are_known_by_their_content(tmp_path: Path, kind: str, mode: str, expected: np.ndarray) -> None:
    path = tmp_path / "without a suffix"
    of_mode(mode).save(path, kind)
    np.testing.assert_array_equal(read_image(path), expected)
    header = check_image(path)
    assert (header.height, header.width) == (7, 10)


def test_tiff_files_with_white_as_zero_or_twelve_bits_are_read(tmp_path: Path) -> None:
    from PIL import TiffImagePlugin

    path = tmp_path / "x.tif"
    inverted = TiffImagePlugin.ImageFileDirectory_v2()
    inverted[262] = 0  # PhotometricInterpretation: WhiteIsZero
    of_mode("I;16").save(path, tiffinfo=inverted)
    np.testing.assert_array_equal(read_image(path), 255 - THREE_GREY)
    values = GREY[:, :2].astype(int) * 16 + 8  # 12-bit values, two of them in three bytes
    packed = np.stack([values[:, 0] >> 4, (values[:, 0] & 15) << 4 | values[:, 1] >> 8, values[:, 1] & 255], axis=1)
    Image.fromarray(np.zeros((7, 2), np.uint16)).save(path)
    data = bytearray(path.read_bytes())
    with Image.open(path) as image:
        start = image.tag_v2[273][0]
    entry = data.index((258).to_bytes(2, "little") + b"\3\0")
    data[entry + 8 : entry + 10] = (12).to_bytes(2, "little")
    data[start : start + 21] = packed.astype(np.uint8).tobytes()
    path.write_bytes(bytes(data))
    np.testing.assert_array_equal(read_image(path)[..., 0], np.rint(values / 4095 * 255))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "JPEG"])
@pytest.mark.parametrize("orientation", range(1, 10))
def test_images_are_turned_as_exif_says(tmp_path: Path, kind: str, orientation: int) -> None:
    """Compares the whole image and its centre square (cropped before turning) with Pillow's exif_transpose."""
    path, exif = tmp_path / "turned", Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    Image.fromarray(np.repeat(COLOURS, 2, axis=1)).save(path, kind, exif=exif, **options)
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    np.testing.assert_array_equal(read_image(path), expected)
    header = check_image(path)
    assert (header.height, header.width) == expected.shape[:2]
    for fraction in (0.5, 0.875, 1.0):
        top, left, side = pixels.centre_square(expected.shape[0], expected.shape[1], fraction)
        with pixels.opened(path) as image:
            np.testing.assert_array_equal(pixels.rgb(image, fraction), expected[top : top + side, left : left + side])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            np.array([[0, 70_000]], np.int32),
            r"32 bits must lie in 0–65535; it goes from 0 to 70000: save it in 8 or 16",
        ),
        (np.array([[-1, 5]], np.int32), r"32 bits must lie in 0–65535; it goes from -1 to 5: save"),
        (np.array([[0, 200]], np.int32), r"it goes from 0 to 200, which may also mean 0–255: save it in 8 or 16 bits"),
        (np.array([[0, 256]], np.float32), r"floats must lie in 0–255; it goes from 0\.0 to 256\.0: save"),
        (np.array([[0, 0.5]], np.float32), r"it goes from 0\.0 to 0\.5, which may also mean 0–1: save it in 8 or 16"),
        (np.array([[0, 7, np.nan]], np.float32), "floats must"),
        (np.array([[np.nan, 7, 0]], np.float32), "floats must"),
    ],
)
def test_numbers_of_unknown_range_are_refused(tmp_path: Path, values: np.ndarray, message: str) -> None:
    path = tmp_path / "x.tif"
    Image.fromarray(values).save(path)
    for read in (read_image, check_image):
        with pytest.raises(ValueError, match=rf"x\.tif cannot be read as an image: grey in .*{message}"):
            read(path)
    with pytest.raises(pixels.ImageError, match=message):
        pixels.rgb(Image.fromarray(values))
    np.testing.assert_array_equal(pixels.rgb(Image.fromarray(np.zeros_like(values))), 0)


def test_paths_that_are_not_images(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "drawing.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")
    for name, message in {
        "pipe.jpg": "it is not a regular file",
        "folder.jpg": "it is not a regular file",
        "drawing.png": "EPS is a drawing, not pixels; export it as PNG",
        "x" * 300: "File name too long",
        "nul\0.png": "embedded null byte",
    }.items():
        for read in (read_image, check_image):
            with pytest.raises(ValueError, match=f"cannot be read as an image: {message}"):
                read(tmp_path / name)
    with pytest.raises(FileNotFoundError, match=r"There is no image '.*none\.png'"):
        read_image(tmp_path / "none.png")


# --- size -------------------------------------------------------------------------------------------------------------


def test_an_image_with_too_many_pixels_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert pixels.MAX_PIXELS == 2 * Image.MAX_IMAGE_PIXELS
    path = tmp_path / "bomb.png"
    Image.new("1", (20, 20)).save(path)
    data = bytearray(path.read_bytes())
    data[16:24] = struct.pack(">II", 20_000, 20_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    path.write_bytes(data)
    for read in (read_image, check_image):
        with pytest.raises(
            ValueError,
            match=r"Image size \(400000000 pixels\) exceeds limit of 178956970 pixels; give a larger max_pix",
        ):
            read(path)
    # Test the other limits with a small image, which takes less time.
    Image.fromarray(COLOURS).save(path)
    with pytest.raises(ValueError, match=r"Image size \(70 pixels\) exceeds limit of 69 pixels; give a larger"):
        read_image(path, max_pixels=69)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 30)
    with pytest.raises(ValueError, match=r"Image size \(70 pixels\) exceeds limit of 60 pixels; give a larger"):
        read_image(path)
    np.testing.assert_array_equal(read_image(path, max_pixels=70), COLOURS)
    assert Image.MAX_IMAGE_PIXELS == 30


def test_pillows_limit_is_unchanged_after_concurrent_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 30)
    Image.fromarray(COLOURS).save(tmp_path / "x.png")
    found: list[Any] = []

    def read() -> None:
        for _ in range(20):
            found.append(read_image(tmp_path / "x.png", max_pixels=100))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 80
    assert Image.MAX_IMAGE_PIXELS == 30


@pytest.mark.filterwarnings("ignore:(Tag data|Corrupt EXIF|Truncated File|Image size)")
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", "PPM", "ICO", "TGA", "JPEG2000"])
def test_damaged_files_give_one_kind_of_error(tmp_path: Path, kind: str) -> None:
    rng = np.random.default_rng(len(kind))
    path, exif = tmp_path / "x", Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.repeat(COLOURS, 3, axis=0)).save(path, kind, exif=exif)
    whole, refused = path.read_bytes(), 0
    for _ in range(60):
        data = bytearray(whole)
        for _ in range(rng.integers(1, 5)):
            data[rng.integers(len(data)) if rng.random() < 0.5 else rng.integers(min(64, len(data)))] = rng.integers(
                256
            )
        path.write_bytes(data[: rng.integers(len(data))] if rng.random() < 0.3 else data)
        with contextlib.suppress(ValueError):
            assert read_image(path).shape[2] == 3
            continue
        refused += 1
        with pytest.raises(ValueError, match=r"x cannot be read as an image: \S"):
            read_image(path)
    assert refused > 3


# --- two packages -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", [attached_files, envelope, pixels, tensor_values, terminal])
def test_r2b_runtime_has_the_same_source(module: Any) -> None:
    path = Path(module.__file__)
    assert (EXPORT / path.name).read_text() == path.read_text()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a label", "a label"),
        ("\r  99.99%  all good", r"\r  99.99%  all good"),
        ("\x1b[2J\x1b]0;title\x07", r"\x1b[2J\x1b]0;title\x07"),
        ("\x9b31m, \x7f and \n", r"\x9b31m, \x7f and \n"),
        ("apple \u202egnp.exe\u2069", r"apple \u202egnp.exe\u2069"),
        ("\ufefflabel\u2028\u2029", r"\ufefflabel\u2028\u2029"),
        (os.fsdecode(b"caf\xe9.jpg"), r"caf\udce9.jpg"),
        ("Löwe, 猫, قطة, \U0001f469\u200d\U0001f4bb, e\u0301, می\u200cخواهم, a\u00a0b", None),
    ],
)
def test_printable_text_does_not_control_the_terminal(text: str, expected: str) -> None:
    assert terminal.printable(text) == (text if expected is None else expected)
