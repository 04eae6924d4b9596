"""Tests that preprocessing gives the same bits as r2b_zoo's, and refuses wrong images and damaged JSON."""

import dataclasses
import json
import pathlib

import numpy as np
import pytest
from r2b_runtime import preprocessing
from r2b_runtime.preprocessing import Preprocessing

PHOTOGRAPHS = pathlib.Path(__file__).resolve().parents[4] / "shared" / "tfds"
IMAGENET = Preprocessing(
    224, 224, 3, 224 / 256, (0.485 * 255, 0.456 * 255, 0.406 * 255), (0.229 * 255, 0.224 * 255, 0.225 * 255)
)
GREY = Preprocessing(8, 8, 1, 1.0, (77.82,), (95.88,))
WIDE = Preprocessing(33, 50, 3, 0.7, (1.0, 2.0, 3.0), (4.0, 5.0, 6.0))
VALID = {
    "format": 1,
    "resize": preprocessing.RESIZE_RULE,
    "height": 8,
    "width": 8,
    "channels": 1,
    "crop_fraction": 1.0,
    "mean": [1.0],
    "std": [2.0],
}


@pytest.mark.parametrize("rule", [IMAGENET, GREY, WIDE], ids=["imagenet", "grey", "wide"])
@pytest.mark.parametrize("channels", [0, 1, 3, 4])
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (1, 50), (224, 224), (301, 200), (99, 400)])
def test_equals_r2b_zoo(rule, channels, size):
    zoo = pytest.importorskip("r2b_zoo.data.preprocessing", reason="r2b_zoo is not installed")
    image = np.random.default_rng(0).integers(0, 256, size + (channels,) * bool(channels), dtype=np.uint8)
    expected = zoo.Preprocessing(**dataclasses.asdict(rule))(image)
    np.testing.assert_array_equal(rule(image), expected)
    np.testing.assert_array_equal(rule(image.astype(np.float64)), expected)


def test_equals_r2b_zoo_on_photographs():
    zoo = pytest.importorskip("r2b_zoo", reason="r2b_zoo is not installed")
    datasets = pytest.importorskip("tensorflow_datasets")
    if not (PHOTOGRAPHS / "imagenet2012").exists():
        pytest.skip(f"there are no photographs in {PHOTOGRAPHS}")
    split = datasets.load("imagenet2012", split="validation", data_dir=str(PHOTOGRAPHS), download=False)
    number = 0
    for example in datasets.as_numpy(split):
        np.testing.assert_array_equal(IMAGENET(example["image"]), zoo.preprocess_input(example["image"]))
        number += 1
    assert number == 40


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((2, 8, 8, 3), np.uint8), r"shape \(2, 8, 8, 3\); Classifier.predict takes the images of a batch"),
        (np.zeros((8, 8, 2), np.uint8), r"or \(height, width, 1, 3 or 4\); received shape \(8, 8, 2\)"),
        (np.zeros((0, 8, 3), np.uint8), r"at least one pixel; received shape \(0, 8, 3\)"),
        (np.full((8, 8), 256.0), r"0–255; received float64 from 256.0 to 256.0"),
        (np.full((8, 8), -1), r"0–255; received int64 from -1 to -1"),
        (np.full((8, 8), np.nan), r"0–255; received float64 from nan"),
        (np.full((8, 8), "a"), r"0–255; received <U1"),
    ],
)
def test_refuses_what_is_no_image(image, message):
    with pytest.raises(ValueError, match=message):
        GREY(image)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "has format 2 .* knows format 1 .*install a newer wheel of it"),
        ({"resize": "bilinear"}, "resize 'bilinear'.*install a newer wheel of it"),
        ({"channels": 2}, "damaged .*channels must be 1 or 3.*channels=2"),
        ({"mean": []}, "damaged .*one mean and std each"),
        ({"std": [0.0]}, r"damaged .*std not 0; received .*std=\(0.0,\)"),
        ({"crop_fraction": 1.5}, r"damaged .*crop_fraction must be in \(0, 1\]; received 1.5"),
        ({"height": 0}, r"damaged .*height and width must be 1 to 32768; received \(0, 8\)"),
        ({"gamma": 2}, "damaged .*gamma"),
    ],
)
def test_refuses_json_with_invalid_fields(changes, message):
    with pytest.raises(ValueError, match=message):
        Preprocessing.from_json(json.dumps({**VALID, **changes}))


def test_refuses_text_that_is_no_json_object():
    with pytest.raises(ValueError, match=r"is damaged .*convert the model again"):
        Preprocessing.from_json("{")
    with pytest.raises(ValueError, match=r"is damaged"):
        Preprocessing.from_json("[]")
