"""Tests that resized images have the same bits as TensorFlow's."""

import concurrent.futures

import numpy as np
import pytest
import r2b_runtime
from hypothesis import given, settings
from hypothesis import strategies as st

IMAGE = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)


def tensorflows(image, height, width, bilinear):
    tf = pytest.importorskip("tensorflow")
    images, size = image[np.newaxis], [height, width]
    if bilinear:
        return tf.raw_ops.ResizeBilinear(images=images, size=size, half_pixel_centers=True)[0].numpy()
    return tf.raw_ops.ResizeBicubic(images=images, size=size)[0].numpy()


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    size=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    out=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    channels=st.sampled_from([1, 3]),
    dtype=st.sampled_from([np.uint8, np.float32]),
    bilinear=st.booleans(),
    mirrored=st.booleans(),
    kernels=st.sampled_from(r2b_runtime.available_kernels()),
    seed=st.integers(0, 99),
)
def test_it_equals_tensorflow(size, out, channels, dtype, bilinear, mirrored, kernels, seed):
    image = np.random.default_rng(seed).integers(0, 256, (*size, channels), dtype=np.uint8).astype(dtype)
    expected = tensorflows(image[:, ::-1] if mirrored else image, *out, bilinear)
    found = r2b_runtime.resize(image, *out, bilinear=bilinear, mirrored=mirrored, kernels=kernels)
    np.testing.assert_array_equal(found, expected)
    mean, std = np.float32([1.1, 2.2, 3.3][:channels]), np.float32([4.4, 5.5, 6.6][:channels])
    options = {"bilinear": bilinear, "mirrored": mirrored, "mean": mean, "std": std, "kernels": kernels}
    np.testing.assert_array_equal(r2b_runtime.resize(image, *out, **options), (expected - mean) / std)


def test_the_same_size_changes_nothing():
    for bilinear in (False, True):
        np.testing.assert_array_equal(r2b_runtime.resize(IMAGE, 9, 7, bilinear=bilinear), IMAGE)


def test_bicubic_slope_equals_a_calculation_by_hand():
    """Compares with cubic convolution (a = -0.75), calculated by hand.

    The width is doubled, so every second result lies half a pixel to the right of a pixel.
    """
    row = np.array([0, 10, 20, 30], np.uint8).reshape(1, 4, 1)
    # The kernel is 0.59375 at a distance of half a pixel, and -0.09375 at 1.5 pixels. Beyond the image, its border
    # pixels are repeated.
    inside = 0.59375 * (10 + 20) - 0.09375 * (0 + 30)
    first = 0.59375 * (0 + 10) - 0.09375 * (0 + 20)
    last = 0.59375 * (30 + 30) - 0.09375 * (20 + 30)
    third = 0.59375 * (20 + 30) - 0.09375 * (10 + 30)
    expected = [0, first, 10, inside, 20, third, 30, last]
    np.testing.assert_allclose(r2b_runtime.resize(row, 1, 8)[0, :, 0], expected, rtol=1e-6)


def test_bilinear_slope_equals_a_calculation_by_hand():
    """Compares with a calculation by hand: the results lie 1/4 of a pixel before and after the pixels' centres."""
    row = np.array([0, 10, 20, 30], np.uint8).reshape(1, 4, 1)
    expected = [0, 2.5, 7.5, 12.5, 17.5, 22.5, 27.5, 30]
    np.testing.assert_array_equal(r2b_runtime.resize(row, 1, 8, bilinear=True)[0, :, 0], expected)
    np.testing.assert_array_equal(r2b_runtime.resize(row, 1, 8, bilinear=True, mirrored=True)[0, ::-1, 0], expected)


def test_images_of_any_layout():
    wide = np.zeros((20, 9, 3), np.uint8)
    for view in (wide[1:10, 1:8], wide[9:0:-1, 1:8], wide[2::2, 1:8], np.asfortranarray(IMAGE), IMAGE[:, ::-1]):
        if view.base is wide:
            view[:] = IMAGE
        expected = r2b_runtime.resize(np.ascontiguousarray(view), 5, 4)
        np.testing.assert_array_equal(r2b_runtime.resize(view, 5, 4), expected)
    assert expected.ctypes.data % 64 == 0  # TensorFlow copies arrays with a smaller alignment


@pytest.mark.parametrize("kernels", r2b_runtime.available_kernels())
@pytest.mark.parametrize("size", [(16, 16), (7, 5)], ids=["whole vectors", "odd"])
def test_a_batch_equals_its_images_resized_one_by_one(kernels, size):
    images = [np.random.default_rng(i).integers(0, 256, (20 + i, 41 - i, 3), dtype=np.uint8) for i in range(5)]
    images[3] = images[3][2:-3, 4:-5]
    mirrored = np.array([True, False, True, True, False])
    for options in ({}, {"bilinear": True, "mean": (1, 2, 3), "std": (4, 5, 6)}):
        batch = r2b_runtime.resize_batch(images, *size, mirrored=mirrored, kernels=kernels, **options)
        for image, is_mirrored, found in zip(images, mirrored, batch, strict=True):
            np.testing.assert_array_equal(found, r2b_runtime.resize(image, *size, mirrored=is_mirrored, **options))


def test_many_threads():
    images = [np.random.default_rng(i).integers(0, 256, (20 + i, 30, 3), dtype=np.uint8) for i in range(24)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda image: r2b_runtime.resize(image, 16, 16), images))
    for image, resized in zip(images, found, strict=True):
        np.testing.assert_array_equal(resized, r2b_runtime.resize(image, 16, 16))


@pytest.mark.parametrize(
    ("image", "options", "message"),
    [
        (np.zeros((8, 8), np.uint8), {}, r"must be uint8 or float32 \(height, width, 1 or 3\) .* uint8 \(8, 8\)"),
        (np.zeros((8, 8, 4), np.uint8), {}, r"received uint8 \(8, 8, 4\)"),
        (np.zeros((0, 8, 3), np.uint8), {}, r"at least one pixel; received uint8 \(0, 8, 3\)"),
        (np.zeros((8, 8, 3)), {}, r"received float64 \(8, 8, 3\)"),
        (IMAGE, {"height": 0}, "height and width must be 1 to 16777216; received 0 and 4"),
        (IMAGE, {"mean": [1, 2, 3]}, r"one number per channel \(3\) each; received \[1, 2, 3\] and None"),
        (IMAGE, {"mean": [1, 2], "std": [1, 2]}, r"received \[1, 2\] and \[1, 2\]"),
        (IMAGE, {"kernels": "mmx"}, "kernels 'mmx' do not run here; available: auto, .*portable"),
    ],
    ids=range(8),
)
def test_what_cannot_be_resized_is_refused(image, options, message):
    with pytest.raises(ValueError, match=message):
        r2b_runtime.resize(image, **{"height": 5, "width": 4, **options})


@pytest.mark.parametrize(
    ("images", "mirrored", "message"),
    [
        ([], [], "one dtype .* received 0 images of 0 kinds and 0 flags"),
        ([IMAGE, IMAGE.astype(np.float32)], [False] * 2, "received 2 images of 2 kinds and 2 flags"),
        ([IMAGE, IMAGE[..., :1]], [False] * 2, "received 2 images of 2 kinds"),
        ([IMAGE, IMAGE], [False], "received 2 images of 1 kinds and 1 flags"),
    ],
    ids=["none", "types", "channels", "flags"],
)
def test_images_that_make_no_batch_are_refused(images, mirrored, message):
    with pytest.raises(ValueError, match=message):
        r2b_runtime.resize_batch(images, 5, 4, mirrored=mirrored)
