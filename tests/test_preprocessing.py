"""Preprocessing turns images of any size and kind into a network's input."""

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from r2b_zoo.data import pixels, preprocessing
from r2b_zoo.data.preprocessing import Preprocessing

COLOUR = Preprocessing(16, 20, 3, 0.7, (1.0, 2.0, 3.0), (4.0, 5.0, 6.0))
GREY = Preprocessing(8, 8, 1, 1.0, (77.82,), (95.88,))


@pytest.mark.parametrize("rule", [COLOUR, GREY], ids=["colour", "grey"])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("size", [(1, 1), (7, 5), (16, 20), (301, 200), (2000, 9), (9, 2000), (1411, 1500)])
def test_an_image_is_prepared_as_in_data_pipelines(rule: Preprocessing, channels: int, size: tuple[int, int]) -> None:
    """Compares with ``tensor``, which data pipelines use.

    ``tensor`` crops and converts colours in TensorFlow. A call does so in NumPy, and computes grey only for the rows
    that resizing reads.
    """
    image = np.random.default_rng(0).integers(0, 256, (*size, channels), dtype=np.uint8)
    np.testing.assert_array_equal(rule(image), rule.tensor(tf.constant(image)).numpy())


def test_large_images_are_resized_from_their_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.random.default_rng(1).integers(0, 256, (1300, 1400, 3), dtype=np.uint8)
    given: list[tf.DType] = []
    resize = tf.raw_ops.ResizeBicubic

    def noted(images: tf.Tensor, size: list[int]) -> tf.Tensor:
        given.append(images.dtype)
        return resize(images=images, size=size)

    monkeypatch.setattr(tf.raw_ops, "ResizeBicubic", noted)
    found = replace(COLOUR, crop_fraction=1.0)(image)
    monkeypatch.setattr(preprocessing, "_MOST_AS_FLOATS", image.size)
    np.testing.assert_array_equal(found, replace(COLOUR, crop_fraction=1.0)(image))
    assert given == [tf.uint8, tf.float32]


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA", "CMYK", "YCbCr", "HSV", "LA", "PA", "I;16"])
@pytest.mark.parametrize("rule", [COLOUR, GREY], ids=["colour", "grey"])
def test_pillow_images(rule: Preprocessing, mode: str) -> None:
    colours = Image.fromarray(np.random.default_rng(2).integers(0, 256, (31, 43, 3), dtype=np.uint8))
    deep = np.random.default_rng(3).integers(0, 256, (31, 43), dtype=np.uint16) * 257
    image = Image.fromarray(deep) if mode == "I;16" else colours.convert("P" if mode == "PA" else mode).convert(mode)
    assert image.mode == mode
    seen = np.repeat((deep // 257).astype(np.uint8)[..., np.newaxis], 3, 2) if mode == "I;16" else image.convert("RGB")
    np.testing.assert_array_equal(rule(image), rule(np.asarray(seen)))
    image.getexif()[0x0112] = 8
    np.testing.assert_array_equal(rule(image), rule(np.rot90(np.asarray(seen))))


def test_pillow_images_that_cannot_be_read() -> None:
    with pytest.raises(pixels.ImageError, match=r"grey in floats must lie in 0–255; it goes from -1\.0 to -1\.0: save"):
        COLOUR(Image.new("F", (4, 4), -1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"mean": (float("nan"), 0.0, 0.0)},
            r"mean and std must be finite in float32 and std not 0; received mean=\(nan",
        ),
        ({"mean": (1e39, 0.0, 0.0)}, r"mean and std must be finite in float32"),
        ({"std": (1.0, float("inf"), 1.0)}, r"std not 0; received .*std=\(1\.0, inf, 1\.0\)"),
        ({"std": (1.0, 0.0, 1.0)}, r"std not 0; received .*std=\(1\.0, 0\.0, 1\.0\)"),
        ({"std": (1.0, 1e-46, 1.0)}, r"in float32 and std not 0; received .*1e-46"),
        ({"std": (1.0, 1e-40, 1.0)}, r"in float32 and std not 0; received .*1e-40"),
        ({"std": (1.0, 1.0)}, r"std needs one number per channel \(3\); received \(1\.0, 1\.0\)"),
        ({"crop_fraction": float("nan")}, r"crop_fraction must be in \(0, 1\]; received nan"),
        ({"height": 0}, r"height and width must be whole numbers from 1 to 32768; received \(0, 20\)"),
        ({"width": 2.5}, r"height and width must be whole numbers from 1 to 32768; received \(16, 2\.5\)"),
        ({"height": 40_000}, r"from 1 to 32768; received \(40000, 20\)"),
    ],
)
def test_numbers_that_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(COLOUR, **changes)
    with pytest.raises(ValueError, match=message):
        Preprocessing.from_dict({**asdict(COLOUR), **changes})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, r"Preprocessing needs 'mean'; received \{\}"),
        (
            {**asdict(COLOUR), "std": "123"},
            r"cannot be made from .*: mean and std must be lists of numbers; received '123'",
        ),
        ({**asdict(COLOUR), "std": [1, 2, "x"]}, r"mean and std must be lists of numbers; received \[1, 2, 'x'\]"),
        ({**asdict(COLOUR), "std": [1, 2, 10**400]}, r"mean and std must be lists of numbers; received \[1, 2, 1"),
        ({**asdict(COLOUR), "crop": 1}, r"unexpected keyword argument 'crop'"),
        ([], r"Preprocessing cannot be made from \[\]: "),
        ({"mean": [1], "std": [1]}, r"missing 4 required positional arguments"),
    ],
)
def test_fields_that_are_no_preprocessing(fields: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Preprocessing.from_dict(fields)


def test_a_dictionary_and_back() -> None:
    assert Preprocessing.from_dict(COLOUR.to_dict()) == COLOUR
