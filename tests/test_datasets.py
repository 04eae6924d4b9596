"""Tests the digits data set: its split, its batches and its augmentation."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from sklearn.datasets import load_digits

from r2b_zoo import data
from r2b_zoo.data.augmentation import AFFINE_SCALE, AUGMENTATIONS, affine
from r2b_zoo.data.in_memory import Split

SEED = [1, 2]


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


@pytest.fixture(scope="module")
def numbered(digits):
    """The first 200 training images, each labelled with its index, so that labels show which images are in a batch."""
    return replace(digits, train=Split.of(digits.train.images[:200], np.arange(200)))


def passes(data_sets):
    """Reads tf.data data sets of batches; returns all images and all labels of each, as a pair of arrays."""
    result = []
    for batches in data_sets:
        pairs = [(images.numpy(), labels.numpy()) for images, labels in batches]
        result.append((np.concatenate([p[0] for p in pairs]), np.concatenate([p[1] for p in pairs])))
    return result


# --- the split --------------------------------------------------------------------------------------------------------


def test_the_split_is_fixed(digits):
    assert (digits.train_size, digits.test_size) == (1442, 355)
    assert np.bincount(digits.train.labels).tolist() == [143, 146, 142, 147, 145, 146, 145, 144, 140, 144]
    assert np.bincount(digits.test.labels).tolist() == [35, 36, 35, 36, 36, 36, 36, 35, 34, 36]
    assert digest(digits.train) == "7fa69e063a1f915e"
    assert digest(digits.test) == "c828ed8d66d49993"


def digest(split):
    return hashlib.sha256(split.images.tobytes() + split.labels.astype(np.int64).tobytes()).hexdigest()[:16]


def test_every_image_is_in_one_of_the_splits(digits):
    """Compares the labelled images of both splits with scikit-learn's, in any order. None may occur twice."""
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


def test_digits_have_the_expected_classes_shape_and_range(digits):
    assert digits.class_names == tuple("0123456789")
    assert digits.num_classes == 10
    assert digits.input_shape == (8, 8, 1)
    assert digits.train.images.shape == (1442, 8, 8, 1)
    assert digits.train.images.dtype == np.uint8
    assert (digits.train.images.min(), digits.train.images.max()) == (0, 255)


def test_inputs_are_normalised_with_the_training_splits_statistics(digits):
    ((training_inputs, _),) = passes([digits.training_batches(1442, "none", seed=0)])
    assert training_inputs.shape == (1442, 8, 8, 1)
    assert training_inputs.dtype == np.float32
    assert training_inputs.mean() == pytest.approx(0, abs=1e-4)
    assert training_inputs.std() == pytest.approx(1, abs=1e-4)
    ((inputs, _),) = passes([digits.test_batches(100)])
    expected = (digits.test.images - digits.train.images.mean()) / digits.train.images.std()
    np.testing.assert_allclose(inputs, expected, atol=1e-3)
    np.testing.assert_array_equal(inputs, [digits.preprocessing(image) for image in digits.test.images])


def test_unknown_data_set():
    with pytest.raises(ValueError, match=r"There is no data set 'mnist'; the data sets are digits"):
        data.load("mnist")
    assert data.list_datasets() == list(data.DATASETS)


# --- batches ----------------------------------------------------------------------------------------------------------


def test_an_epoch_repeats_no_image_and_drops_an_incomplete_last_batch(numbered):
    batches = numbered.training_batches(64, "none", seed=0)
    ((images, labels),) = passes([batches])
    assert len(labels) == 192
    assert len(set(labels.tolist())) == 192
    inputs = [numbered.preprocessing(numbered.train.images[label]) for label in labels]
    np.testing.assert_array_equal(images, inputs)  # labels stay with their images
    assert [len(batch) for _, batch in batches] == [64, 64, 64]


def test_a_batch_of_all_images(numbered):
    ((_, labels),) = passes([numbered.training_batches(200, "none", seed=0)])
    assert sorted(labels) == list(range(200))
    assert list(labels) != list(range(200))


def test_the_same_seed_and_epoch_give_the_same_bits_whatever_came_before(numbered):
    (first,) = passes([numbered.training_batches(50, "affine", seed=3, epoch=2)])
    passes([numbered.training_batches(50, "affine", seed=3, epoch=epoch) for epoch in (0, 1)])
    tf.keras.utils.set_random_seed(999)
    (again,) = passes([numbered.training_batches(50, "affine", seed=3, epoch=2)])
    np.testing.assert_array_equal(first[1], again[1])
    np.testing.assert_array_equal(first[0], again[0])


@pytest.mark.parametrize("other", [{"seed": 3, "epoch": 1}, {"seed": 4, "epoch": 0}])
def test_another_epoch_or_seed_has_another_order_and_other_changes(numbered, other):
    first, second = (
        passes([numbered.training_batches(200, "affine", **choice)])[0] for choice in ({"seed": 3, "epoch": 0}, other)
    )
    assert (first[1] == second[1]).mean() < 0.1
    by_number, others = (images[np.argsort(labels)] for images, labels in (first, second))
    assert (np.abs(by_number - others).max(axis=(1, 2, 3)) > 0.01).mean() > 0.95


def test_epochs_made_inside_a_pipeline_equal_separate_epochs(numbered):
    def epoch(number):
        return numbered.training_batches(64, "affine", seed=3, epoch=number)

    together = passes([tf.data.Dataset.range(2).flat_map(epoch)])[0]
    one_by_one = passes([epoch(0), epoch(1)])
    for i in (0, 1):
        np.testing.assert_array_equal(together[i], np.concatenate([one[i] for one in one_by_one]))


@pytest.mark.parametrize("skip", [1, 3, 4])
def test_skipping_batches_does_not_change_the_others(numbered, skip):
    def batches(skip):
        return list(numbered.training_batches(50, "affine", seed=3, epoch=1, skip=skip))

    rest, expected = batches(skip), batches(0)[skip:]
    assert len(rest) == len(expected) == 4 - skip
    for (images, labels), (same_images, same_labels) in zip(rest, expected, strict=True):
        np.testing.assert_array_equal(labels, same_labels)
        np.testing.assert_array_equal(images, same_images)


@pytest.mark.parametrize("skip", [-1, 5])
def test_a_skip_out_of_range_is_refused(numbered, skip):
    with pytest.raises(ValueError, match=rf"skip must be in 0–4, the number of batches of an epoch; received {skip}"):
        numbered.training_batches(50, "none", seed=0, skip=skip)


def test_test_batches_are_in_order_and_unchanged(digits):
    ((images, labels),) = passes([digits.test_batches(100)])
    np.testing.assert_array_equal(images, digits.preprocessing.batch(digits.test.images))
    np.testing.assert_array_equal(labels, digits.test.labels)
    assert labels.dtype == np.int32
    assert [len(batch) for _, batch in digits.test_batches(100)] == [100, 100, 100, 55]


def test_batches_are_made_without_autotuning(digits):
    """With tf.data's autotuning, reading all batches could take twice as long (see ``dataset._ahead``)."""
    for batches in (digits.test_batches(100), digits.training_batches(100, "none", seed=0)):
        assert batches.options().autotune.enabled is False
        # Training concatenates the batches of its epochs. This must not turn autotuning on again.
        assert batches.concatenate(batches).take(1).options().autotune.enabled is False


def test_a_sample_is_the_first_images_or_the_first_of_each_class(digits):
    images, inputs, labels = digits.test_sample(7)
    np.testing.assert_array_equal(images, digits.test.images[:7])
    np.testing.assert_array_equal(inputs, [digits.preprocessing(image) for image in images])
    np.testing.assert_array_equal(labels, digits.test.labels[:7])
    images, inputs, labels = digits.test_sample(6, one_per_class=True)
    assert labels.tolist() == [0, 1, 2, 3, 4, 5]
    first = [np.flatnonzero(digits.test.labels == label)[0] for label in range(6)]
    np.testing.assert_array_equal(images, digits.test.images[first])
    assert len(digits.test_sample(20, one_per_class=True)[2]) == 10
    assert len(digits.test_sample(1000)[2]) == 355


def test_images_can_be_prepared_for_another_network(digits):
    other = digits.with_preprocessing(replace(digits.preprocessing, height=12, width=10))
    assert other.input_shape == (12, 10, 1)
    assert next(iter(other.training_batches(8, "affine", seed=0)))[0].shape == (8, 12, 10, 1)
    np.testing.assert_array_equal(other.test_sample(1)[1][0], other.preprocessing(digits.test.images[0]))


def test_a_folder_for_the_digits_is_refused(tmp_path):
    with pytest.raises(
        ValueError, match=r"The data set 'digits' comes with scikit-learn and has no folder; received data_dir='"
    ):
        data.load("digits", tmp_path)


@pytest.mark.parametrize("size", [0, 201])
def test_a_batch_size_out_of_range_is_refused(numbered, size):
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
    change = AUGMENTATIONS[name]
    found = change(images, SEED)
    assert found.shape == images.shape
    np.testing.assert_array_equal(found, change(images, SEED))
    np.testing.assert_allclose(found, tf.function(change)(images, tf.constant(SEED)), atol=1e-5)
    assert np.array_equal(found, change(images, [1, 3])) == (name == "none")


def test_augmentation_none_changes_nothing(images):
    np.testing.assert_array_equal(AUGMENTATIONS["none"](images, SEED), images)


def draws(monkeypatch, *values):
    """Makes ``affine`` draw these values for every image: rotation, scale, shift x and shift y, each from -1 to 1."""
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
    # Bilinear interpolation reproduces a plane a + b·x + c·y exactly; (0, 0) is the centre of 9×9 pixels.
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
