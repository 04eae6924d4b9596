"""The digits and the batches made of them."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from sklearn.datasets import load_digits

from r2b_zoo import data
from r2b_zoo.data.augmentation import AFFINE_SCALE, AUGMENTATIONS, affine, augmentation
from r2b_zoo.data.dataset import Split

SEED = [1, 2]


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


@pytest.fixture(scope="module")
def numbered(digits):
    """200 images whose label is their number, so that a batch tells which images are in it."""
    return replace(digits, train=Split(digits.train.images[:200], np.arange(200)))


def passes(batches, number):
    """The labels and images of some passes over batches."""
    result = []
    for _ in range(number):
        pairs = [(images.numpy(), labels.numpy()) for images, labels in batches]
        result.append((np.concatenate([p[0] for p in pairs]), np.concatenate([p[1] for p in pairs])))
    return result


# --- the split --------------------------------------------------------------------------------------------------------


def test_the_split_is_fixed(digits):
    assert (len(digits.train), len(digits.test)) == (1442, 355)
    assert np.bincount(digits.train.labels).tolist() == [143, 146, 142, 147, 145, 146, 145, 144, 140, 144]
    assert np.bincount(digits.test.labels).tolist() == [35, 36, 35, 36, 36, 36, 36, 35, 34, 36]
    assert digest(digits.train) == "7fa69e063a1f915e"
    assert digest(digits.test) == "c828ed8d66d49993"


def digest(split):
    return hashlib.sha256(split.images.tobytes() + split.labels.tobytes()).hexdigest()[:16]


def test_every_image_is_in_one_of_the_splits(digits):
    """As a multiset: the data itself holds no image twice."""
    everything = load_digits()
    pixels = np.round(everything.images * 255 / 16).astype(np.uint8)
    whole = sorted((int(label), image.tobytes()) for image, label in zip(pixels, everything.target, strict=True))
    split = [
        (int(label), image.tobytes())
        for part in (digits.train, digits.test)
        for image, label in zip(part.images, part.labels, strict=True)
    ]
    assert sorted(split) == whole
    assert len(set(split)) == len(split)


def test_the_digits_as_they_are_described(digits):
    assert digits.class_names == tuple("0123456789")
    assert digits.num_classes == 10
    assert digits.input_shape == (8, 8, 1)
    assert digits.train.images.shape == (1442, 8, 8, 1)
    assert digits.train.images.dtype == np.uint8
    assert (digits.train.images.min(), digits.train.images.max()) == (0, 255)


def test_inputs_are_normalised_with_the_training_splits_statistics(digits):
    assert digits.train_inputs.shape == (1442, 8, 8, 1)
    assert digits.train_inputs.dtype == np.float32
    assert digits.train_inputs.mean() == pytest.approx(0, abs=1e-4)
    assert digits.train_inputs.std() == pytest.approx(1, abs=1e-4)
    expected = (digits.test.images - digits.train.images.mean()) / digits.train.images.std()
    np.testing.assert_allclose(digits.test_inputs, expected, atol=1e-3)
    one_by_one = [digits.preprocessing(image) for image in digits.test.images[:20]]
    np.testing.assert_allclose(digits.test_inputs[:20], one_by_one, atol=1e-6)


def test_unknown_data_set():
    with pytest.raises(ValueError, match=r"There is no data set 'mnist'; the data sets are digits"):
        data.load("mnist")
    assert data.list_datasets() == ["digits"]


# --- batches ----------------------------------------------------------------------------------------------------------


def test_a_pass_takes_every_image_once_and_leaves_out_a_last_batch_that_is_not_full(numbered):
    (images, labels), *_ = passes(numbered.training_batches(64, "none", seed=0), 1)
    assert len(labels) == 192
    assert len(set(labels.tolist())) == 192
    np.testing.assert_array_equal(images, numbered.train_inputs[labels])  # labels stay with their images
    assert [len(batch) for _, batch in numbered.training_batches(64, "none", seed=0)] == [64, 64, 64]


def test_a_batch_of_all_images(numbered):
    ((_, labels),) = passes(numbered.training_batches(200, "none", seed=0), 1)
    assert sorted(labels) == list(range(200))
    assert list(labels) != list(range(200))


def test_every_pass_has_an_order_of_its_own_and_a_seed_repeats_them_all(numbered):
    first = passes(numbered.training_batches(50, "affine", seed=3), 3)
    # Whatever was drawn in between.
    tf.random.uniform([5])
    tf.keras.utils.set_random_seed(20260301)
    again = passes(numbered.training_batches(50, "affine", seed=3), 3)
    for (images, labels), (same_images, same_labels) in zip(first, again, strict=True):
        np.testing.assert_array_equal(labels, same_labels)
        np.testing.assert_array_equal(images, same_images)
    orders = {tuple(labels) for _, labels in first}
    assert len(orders) == 3


def test_another_seed_has_another_order_and_other_changes(numbered):
    ((images, labels),) = passes(numbered.training_batches(200, "affine", seed=3), 1)
    ((other_images, other_labels),) = passes(numbered.training_batches(200, "affine", seed=4), 1)
    assert list(labels) != list(other_labels)
    by_number, others = images[np.argsort(labels)], other_images[np.argsort(other_labels)]
    assert (np.abs(by_number - others).max(axis=(1, 2, 3)) > 0.01).mean() > 0.95


def test_test_batches_are_in_order_and_unchanged(digits):
    ((images, labels),) = passes(digits.test_batches(100), 1)
    np.testing.assert_array_equal(images, digits.test_inputs)
    np.testing.assert_array_equal(labels, digits.test.labels)
    assert [len(batch) for _, batch in digits.test_batches(100)] == [100, 100, 100, 55]


@pytest.mark.parametrize("size", [0, 201])
def test_a_batch_that_is_not_to_be_had(numbered, size):
    with pytest.raises(ValueError, match=rf"batch_size must be .*at most .*, 200 in digits; received {size}"):
        numbered.training_batches(size, "none", seed=0)


def test_unknown_augmentation(numbered):
    with pytest.raises(ValueError, match=r"There is no augmentation 'flip'; there are none, affine"):
        numbered.training_batches(10, "flip", seed=0)


# --- augmentation -----------------------------------------------------------------------------------------------------


@pytest.fixture
def images(rng):
    return tf.constant(rng.normal(size=(6, 8, 8, 1)).astype(np.float32))


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_an_augmentation_is_a_function_of_images_and_seed(images, name):
    change = augmentation(name)
    found = change(images, SEED)
    assert found.shape == images.shape
    np.testing.assert_array_equal(found, change(images, SEED))
    np.testing.assert_allclose(found, tf.function(change)(images, tf.constant(SEED)), atol=1e-5)
    assert np.array_equal(found, change(images, [1, 3])) == (name == "none")


def test_none_changes_nothing(images):
    np.testing.assert_array_equal(augmentation("none")(images, SEED), images)


def draws(monkeypatch, *values):
    """Makes the next draws of ``affine`` (rotation, scale, shift x, shift y, each in ±1) these."""
    monkeypatch.setattr(
        "r2b_zoo.data.augmentation.tf.random.stateless_uniform",
        lambda shape, *_: tf.repeat(tf.constant([values], tf.float32), shape[0], axis=0),
    )


def test_draws_of_zero_change_nothing(images, monkeypatch):
    draws(monkeypatch, 0.0, 0.0, 0.0, 0.0)
    np.testing.assert_allclose(affine(images, SEED), images, atol=1e-6)


def test_a_shift_by_one_pixel_repeats_the_border(images, monkeypatch):
    draws(monkeypatch, 0.0, 0.0, 1.0, 0.0)
    expected = np.concatenate([images[:, :, 1:], images[:, :, -1:]], axis=2)
    np.testing.assert_allclose(affine(images, SEED), expected, atol=1e-6)
    draws(monkeypatch, 0.0, 0.0, 0.0, -1.0)
    expected = np.concatenate([images[:, :1], images[:, :-1]], axis=1)
    np.testing.assert_allclose(affine(images, SEED), expected, atol=1e-6)


@pytest.mark.parametrize("scale", [-1.0, 1.0])
@pytest.mark.parametrize("angle", [-1.0, 0.0, 1.0])
def test_rotation_and_scale_keep_the_centre(monkeypatch, angle, scale):
    # A plane a + b·x + c·y about the centre of 9×9 pixels: bilinear interpolation follows it exactly.
    y, x = np.mgrid[-4:5, -4:5].astype(np.float32)
    plane = 3 + 0.5 * x - 0.25 * y
    draws(monkeypatch, angle, scale, 0.0, 0.0)
    found = affine(tf.constant(plane[np.newaxis, ..., np.newaxis]), SEED).numpy()[0, ..., 0]
    factor, radians = 1 + AFFINE_SCALE * scale, 0.2 * angle
    source_x = factor * (np.cos(radians) * x - np.sin(radians) * y)
    source_y = factor * (np.sin(radians) * x + np.cos(radians) * y)
    inside = (np.abs(source_x) <= 4) & (np.abs(source_y) <= 4)
    np.testing.assert_allclose(found[inside], (3 + 0.5 * source_x - 0.25 * source_y)[inside], atol=1e-4)
    assert found[4, 4] == pytest.approx(3, abs=1e-5)
    assert inside.sum() >= 25


def test_images_of_a_batch_are_changed_differently():
    one = np.random.default_rng(0).normal(size=(1, 8, 8, 1)).astype(np.float32)
    found = affine(tf.constant(np.repeat(one, 4, axis=0)), SEED).numpy()
    assert all(np.abs(found[i] - found[j]).max() > 0.1 for i in range(4) for j in range(i))
