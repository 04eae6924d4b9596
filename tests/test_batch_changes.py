"""Rotation, colour jitter, mix-up and validation split: their values, their reproducibility, and refused arguments."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from r2b_zoo import data
from r2b_zoo.data.augmentation import ROTATION, colour_draws, colour_jittered, crop_flip, crop_flip_rotate, mixed
from r2b_zoo.data.dataset import Shard
from r2b_zoo.data.in_memory import Split
from r2b_zoo.data.preprocessing import Preprocessing
from r2b_zoo.data.validation import held_out
from tests.conftest import TEST_DATA, skip_without
from tests.photo_folder import write_photographs

SEED = tf.constant([3, 4])


def load(*arguments, **options):
    """Loads a data set; has no result type, since the tests use attributes that only subclasses of Dataset have."""
    return data.load(*arguments, **options)


@pytest.fixture(scope="module")
def digits():
    return load("digits")


@pytest.fixture(scope="module")
def coloured():
    """Twelve colour images of 8×8 pixels, in four classes."""
    rng = np.random.default_rng(1)
    split = Split.of(rng.integers(0, 256, (12, 8, 8, 3), np.uint8), np.arange(12) % 4)
    return replace(
        load("digits"),
        class_names=("a", "b", "c", "d"),
        preprocessing=Preprocessing(8, 8, 3, 1.0, (100.0, 110.0, 120.0), (50.0, 60.0, 70.0)),
        train=split,
        test=split,
    )


# --- rotation ---------------------------------------------------------------------------------------------------------


def test_a_rotation_is_by_at_most_fifteen_degrees_and_follows_the_crop():
    """Rotates 64 copies of an image with a bright spot right of the centre, and measures the angle of the spot."""
    size, radius = 33, 10
    image = np.zeros((size, size, 1), np.float32)
    image[size // 2 - 1 : size // 2 + 2, size // 2 + radius - 1 : size // 2 + radius + 2] = 1
    images = tf.constant(np.repeat(image[np.newaxis], 64, axis=0))
    rotated, cropped = (function(images, SEED).numpy()[..., 0] for function in (crop_flip_rotate, crop_flip))

    def angles(maps):
        rows, columns = np.mgrid[:size, :size] - size // 2
        weight = maps.sum(axis=(1, 2))
        return np.arctan2((maps * rows).sum(axis=(1, 2)) / weight, np.abs((maps * columns).sum(axis=(1, 2)) / weight))

    # The crop moves the spot before the rotation, so compare with the angle of the spot in the cropped image.
    rows, columns = (np.abs(cropped).argmax(axis=i).max(axis=1) for i in (1, 2))
    assert len(set(rows)) > 3
    assert len(set(columns)) > 3
    turned = np.degrees(angles(rotated) - angles(cropped))
    assert np.abs(turned).max() <= ROTATION + 0.5
    assert np.abs(turned).max() > 0.8 * ROTATION
    assert turned.min() < 0 < turned.max()


# --- colour -----------------------------------------------------------------------------------------------------------


def test_colour_jitter_follows_its_formula(rng):
    pixels = rng.uniform(0, 255, (5, 4, 6, 3)).astype(np.float32)
    factors = rng.uniform(0.6, 1.4, (5, 3)).astype(np.float32)
    expected = np.empty_like(pixels)
    grey = np.array([0.2989, 0.587, 0.114], np.float32)
    for i, (b, c, s) in enumerate(factors):
        x = np.clip(b * pixels[i], 0, 255)
        mean = (x @ grey).mean()
        x = np.clip(c * x + (1 - c) * mean, 0, 255)
        expected[i] = np.clip(s * x + (1 - s) * (x @ grey)[..., np.newaxis], 0, 255)
    np.testing.assert_allclose(colour_jittered(tf.constant(pixels), tf.constant(factors)), expected, atol=1e-2)
    np.testing.assert_allclose(colour_jittered(tf.constant(pixels), tf.ones((5, 3))), pixels, atol=1e-3)
    drawn = colour_draws(1000, SEED).numpy()
    assert 0.6 <= drawn.min() < 0.61
    assert 1.39 < drawn.max() <= 1.4


def test_colour_jitter_follows_the_crop_and_differs_between_images(coloured):
    plain, changed = (
        next(iter(coloured.training_batches(12, name, 0)))[0] for name in ("crop_flip", "crop_flip_colour")
    )
    ratio = (coloured.preprocessing.pixels(changed) / tf.maximum(coloured.preprocessing.pixels(plain), 1.0)).numpy()
    assert len(np.unique(np.round(np.median(ratio, axis=(1, 2, 3)), 3))) > 8
    factors = colour_draws(12, tf.constant([0, 0]))
    assert factors.shape == (12, 3)


# --- mix-up -----------------------------------------------------------------------------------------------------------


def test_mixup_of_images_and_labels_follows_its_formula(rng):
    images, labels = rng.normal(size=(5, 2, 2, 1)).astype(np.float32), np.array([0, 1, 2, 2, 1], np.int32)
    found, targets = mixed(tf.constant(images), tf.constant(labels), 3, 1.0, SEED)
    share = float(targets[0, 0])
    assert 0 < share < 1
    one_hot = np.eye(3, dtype=np.float32)[labels]
    partner = [1, 0, 3, 2, 4]
    np.testing.assert_allclose(found, share * images + (1 - share) * images[partner], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(targets, share * one_hot + (1 - share) * one_hot[partner], rtol=1e-5)
    np.testing.assert_array_equal(found[4], images[4])


@pytest.mark.parametrize("alpha", [0.2, 4.0])
def test_the_weight_of_mixing_is_drawn_from_beta(alpha):
    images, labels = tf.zeros((2, 1, 1, 1)), tf.constant([0, 1])

    @tf.function  # run eagerly, 1,500 draws would take seconds
    def drawn():
        of_one = lambda i: mixed(images, labels, 2, alpha, tf.stack([i, 0]))[1][0, 0]  # noqa: E731
        return tf.map_fn(of_one, tf.range(1500), fn_output_signature=tf.float32)

    shares = drawn().numpy()
    assert shares.mean() == pytest.approx(0.5, abs=0.04)
    assert shares.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.15)


def test_changed_batches_are_functions_of_seed_epoch_and_position(coloured):
    def batches(**options):
        arguments = {"batch_size": 4, "augment": "crop_flip_rotate_colour", "mixup": 0.3, "seed": 5, "epoch": 2}
        arguments |= options
        return [(x.numpy(), y.numpy()) for x, y in coloured.training_batches(**arguments)]

    whole, again, later = batches(), batches(), batches(skip=1)
    halves = [batches(shard=Shard(i, 2)) for i in range(2)]
    assert [(x.shape, y.shape) for x, y in whole] == 3 * [((4, 8, 8, 3), (4, 4))]
    for step, (images, labels) in enumerate(whole):
        others = [again[step], *([later[step - 1]] if step else [])]
        others.append(tuple(np.concatenate([half[step][i] for half in halves]) for i in range(2)))
        for other_images, other_labels in others:
            np.testing.assert_array_equal(other_images, images)
            np.testing.assert_array_equal(other_labels, labels)
        np.testing.assert_allclose(labels.sum(axis=1), 1, rtol=1e-6)
    assert not np.array_equal(whole[0][1].max(axis=1), batches(epoch=3)[0][1].max(axis=1))


def test_mixup_refuses_labels_that_are_no_classes(coloured):
    odd = replace(coloured, train=Split.of(coloured.train.images, coloured.train.labels + 1))
    with pytest.raises(ValueError, match=r"mixup needs labels that are classes, 0–3 in digits; received 4\. Correct"):
        odd.training_batches(4, "none", 0, mixup=1.0)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"mixup: a label is outside the classes"):
        mixed(tf.zeros((2, 1, 1, 1)), tf.constant([0, -1]), 2, 1.0, SEED)
    soft = Split.of(coloured.train.images, np.full(12, 0.5, np.float32))
    with pytest.raises(
        ValueError, match=r"Labels must be the number of each image's class, integers .*float32 \(12,\)"
    ):
        replace(coloured, train=soft).training_batches(4, "none", 0, mixup=1.0)


def test_mixup_refuses_shards_with_an_odd_number_of_images(coloured):
    with pytest.raises(ValueError, match=r"must have an even number of images; it has 3 with batch_size=6"):
        coloured.training_batches(6, "none", 0, shard=Shard(0, 2), mixup=1.0)


# --- validation -------------------------------------------------------------------------------------------------------


def test_a_tenth_of_every_class_is_held_out_and_the_rest_trained_on(digits):
    split = digits.held_out(0.1)
    assert np.bincount(split.test.labels).tolist() == [round(n / 10) for n in np.bincount(digits.train.labels)]
    assert (split.train_size, split.test_size) == (digits.train_size - split.test_size, len(split.test.labels))
    whole = sorted(image.tobytes() for image in digits.train.images)
    assert sorted(image.tobytes() for part in (split.train, split.test) for image in part.images) == whole
    np.testing.assert_array_equal(digits.held_out(0.1).test.images, split.test.images)


def test_validation_images_come_from_all_over_a_class():
    apart = held_out(np.zeros(10, int), 0.3, ["a"])
    assert np.flatnonzero(apart).tolist() == [1, 5, 8]


@pytest.mark.parametrize(
    ("share", "message"),
    [
        (0.02, r"validation=0\.02 leaves class 'b' no image to validate with: it has 10, and 0 of them"),
        (0.97, r"validation=0\.97 leaves class 'b' no image to train on: it has 10, and 10 of them .*another share"),
        (1.0, r"validation must be 0 \(none\) or the share .* below 1, for example 0\.1; received 1\.0"),
        (-0.1, r"validation must be 0 \(none\) or the share .* received -0\.1"),
    ],
)
def test_unusable_validation_shares_are_refused(share, message):
    with pytest.raises(ValueError, match=message):
        held_out(np.repeat([0, 1], [50, 10]), share, ["a", "b"])


def test_photographs_are_held_out_by_class(tmp_path):
    folder = load("folder", write_photographs(tmp_path / "photos"), image_size=8)
    split = folder.held_out(0.25)
    labels = [photograph.label for photograph in split.test]
    assert np.bincount(labels).tolist() == [round(0.25 * n) for n in np.bincount([p.label for p in folder.train])]
    assert set(split.test) | set(split.train) == set(folder.train)
    assert not set(split.test) & set(folder.test)


def test_imagenet_photographs_are_held_out_within_their_files():
    skip_without("imagenet2012")
    whole = load("imagenet", TEST_DATA, image_size=8)
    split = whole.held_out(0.1)
    assert (split.train_size, split.test_size) == (144, 16)

    def encoded(records):
        return sorted(record.numpy() for record in records)

    sides = encoded(split._training_records(SEED, 0)), encoded(split._test_records())
    assert [len(side) for side in sides] == [144, 16]
    assert sorted(sides[0] + sides[1]) == encoded(whole._training_records(SEED, 0))
    with pytest.raises(ValueError, match=r"validation=0\.001 leaves no photograph on one side: there are 160 to train"):
        whole.held_out(0.001)
