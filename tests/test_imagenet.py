"""Tests the ImageNet data set on a sample of its photographs: 160 for training and 40 for testing."""

import numpy as np
import pytest
import r2b_runtime
import tensorflow as tf

from r2b_zoo import data, preprocess_input
from r2b_zoo.data import imagenet as module
from r2b_zoo.data import photographs as photographs_module
from r2b_zoo.data.imagenet_classes import imagenet_classes
from r2b_zoo.data.photographs import decode_jpeg_window, windowed
from r2b_zoo.system import runtime
from tests.conftest import TEST_DATA
from tests.passes import check_changes, check_epochs, one_pass, same
from tests.prepared_data import write_in_shards, write_other_classes


@pytest.fixture(scope="module")
def imagenet(photographs):
    return data.load("imagenet", TEST_DATA)


@pytest.fixture(scope="module")
def small(photographs):
    """The data set with images of 64×64 pixels, which are faster to prepare."""
    return data.load("imagenet", TEST_DATA, image_size=64)


@pytest.fixture(scope="module")
def jpegs(imagenet):
    return [example["jpeg"] for example in imagenet._test_records().map(imagenet._encoded)]


def test_sizes_and_classes_of_the_data_set(imagenet):
    assert (imagenet.train_size, imagenet.test_size) == (160, 40)
    assert imagenet.input_shape == (224, 224, 3)
    assert imagenet.num_classes == 1000
    assert imagenet.class_names[0] == "tench"
    # TensorFlow Datasets numbers the classes in the order of imagenet_classes().
    assert imagenet.builder.info.features["label"].names == [identifier for identifier, _ in imagenet_classes()]


def test_test_images_equal_preprocess_input_bit_for_bit(imagenet, photographs):
    images, labels = one_pass(imagenet.test_batches(16))
    assert images.dtype == np.float32
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(images, [preprocess_input(photograph) for photograph in photographs])


def test_unaugmented_training_images_equal_preprocess_input(imagenet):
    ((images, _),) = imagenet.training_batches(8, "none", seed=0).take(1)
    expected = []
    for record in imagenet._training_records(photographs_module.epoch_seeds(0, 0)[0], 0).take(8):
        example = imagenet._encoded(record)
        expected.append(preprocess_input(tf.io.decode_image(example["jpeg"], channels=3).numpy()))
    np.testing.assert_array_equal(images, expected)


def test_r2b_runtime_makes_no_difference(imagenet, monkeypatch):
    """The last batch of test images is incomplete for both batch sizes, 7 and 64."""

    def batches():
        found = [one_pass(imagenet.test_batches(7)), one_pass(imagenet.test_batches(64))]
        found += [one_pass(imagenet.training_batches(24, augment, seed=1)) for augment in ("none", "resized_crop_flip")]
        return found

    monkeypatch.setattr(runtime, "is_installed", lambda: True)
    resized: list[np.ndarray] = []
    resize_batch = r2b_runtime.resize_batch

    def counted(images, *args, **options):
        resized.extend(images)
        return resize_batch(images, *args, **options)

    monkeypatch.setattr(r2b_runtime, "resize_batch", counted)
    with_it = batches()
    assert len(resized) >= 40 + 40 + 144 + 144
    resized.clear()
    monkeypatch.setattr(runtime, "is_installed", lambda: False)
    for found, expected in zip(batches(), with_it, strict=True):
        same(found, expected)
    assert not resized


def test_order_and_crops_are_functions_of_seed_epoch_and_position(small):
    check_epochs(small, "resized_crop_flip", 20, skips=(1, 7))
    check_changes(small, "resized_crop_flip")


def test_many_files(tmp_path, photographs, monkeypatch):
    """Reads seven files of different lengths, three at a time, through a shuffle buffer of 32 photographs."""
    monkeypatch.setattr(module, "FILES_AT_A_TIME", 3)
    monkeypatch.setattr(module, "SHUFFLED", 32)
    write_in_shards(TEST_DATA, tmp_path, [30, 10, 41, 9, 25, 20, 25])
    dataset = data.load("imagenet", tmp_path, image_size=32)
    assert dataset.train_size == 160
    check_epochs(dataset, "resized_crop_flip", 15, skips=(1, 2, 3, 5, 9))
    check_changes(dataset, "resized_crop_flip")


def test_a_window_of_a_jpeg_is_that_part_of_the_whole(jpegs, rng):
    without_margin = 0
    for jpeg in jpegs:
        whole = tf.io.decode_jpeg(jpeg, channels=3).numpy()
        size = whole.shape[:2]
        for _ in range(5):
            height, width = rng.integers(1, size[0] + 1), rng.integers(1, size[1] + 1)
            top, left = rng.integers(0, size[0] - height + 1), rng.integers(0, size[1] - width + 1)
            expected = whole[top : top + height, left : left + width]
            window = tf.constant([top, left, height, width], tf.int32)
            image, within = decode_jpeg_window(jpeg, size, window)
            np.testing.assert_array_equal(windowed(image, within), expected)
            assert image.shape[0] <= height + 4
            assert image.shape[1] <= width + 4 + 15
            alone = tf.io.decode_and_crop_jpeg(jpeg, window, channels=3).numpy()
            without_margin += not np.array_equal(alone, expected)
    assert without_margin > 0  # some windows are wrong without the margin that is decoded around them


def test_crops_have_the_areas_and_the_shapes_of_the_paper(imagenet, monkeypatch):
    """Small areas occur more often than large ones, because TensorFlow draws the height uniformly, not the area."""
    windows = []

    def remember(self, encoded, size, window):
        windows.append([int(value) for value in (*size, *window)])
        return tf.zeros((window[2], window[3], 3), tf.uint8), tf.concat([[0, 0], window[2:]], axis=0)

    monkeypatch.setattr(module.ImageNet, "_decode", remember)
    photograph = imagenet._encoded(next(iter(imagenet._test_records())))
    for i in range(400):
        imagenet._random_crop(photograph, tf.constant([i, 1]))
    found = np.array(windows)
    height, width, top, left, rows, columns = found.T
    share, aspect = rows * columns / (height * width), columns / rows
    assert 0.07 < share.min() < 0.15
    assert 0.8 < share.max() <= 1
    assert 0.3 < share.mean() < 0.45
    assert 0.74 < aspect.min() < 0.8
    assert 1.25 < aspect.max() < 1.35
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + rows <= height).all()
    assert (left + columns <= width).all()
    assert len({tuple(row) for row in found.tolist()}) > 390


@pytest.mark.parametrize("with_runtime", [True, False])
def test_about_half_of_the_crops_are_flipped(imagenet, monkeypatch, with_runtime):
    gradient = tf.tile(tf.range(102, dtype=tf.float32)[tf.newaxis, :, tf.newaxis] - 1, (100, 1, 3))
    part = tf.cast(tf.nn.relu(gradient), tf.uint8), tf.constant([0, 1, 100, 100])
    monkeypatch.setattr(module.ImageNet, "_decode", lambda self, encoded, size, window: part)
    monkeypatch.setattr(runtime, "is_installed", lambda: with_runtime)
    images, _ = one_pass(imagenet.training_batches(40, "resized_crop_flip", seed=3))
    falling = [image[0, 0, 0] > image[0, -1, 0] for image in images]
    assert 55 < sum(falling) < 105
    columns = np.clip((np.arange(224) + 0.5) * 100 / 224 - 0.5, 0, 99)  # bilinear interpolation between pixel centres
    upright = (np.tile(columns[:, np.newaxis], (224, 1, 3)) - imagenet.preprocessing.mean) / imagenet.preprocessing.std
    for image, flipped in zip(images[:10], falling, strict=False):
        np.testing.assert_allclose(image, upright[:, ::-1] if flipped else upright, atol=1e-5)


def test_a_sample_to_show_and_to_predict(imagenet, photographs):
    images, inputs, labels = imagenet.test_sample(3)
    np.testing.assert_array_equal(inputs, [preprocess_input(photograph) for photograph in photographs[:3]])
    assert images.dtype == np.uint8
    assert images.shape == (3, 224, 224, 3)
    mean, std = imagenet.preprocessing.mean, imagenet.preprocessing.std
    np.testing.assert_allclose(images, np.clip(inputs * std + mean, 0, 255), atol=0.51)
    first, _, classes = imagenet.test_sample(6, one_per_class=True)
    assert len(set(classes.tolist())) == 6
    assert sorted(classes) == list(classes)
    assert len(first) == 6
    assert len(imagenet.test_sample(100)[2]) == 40
    np.testing.assert_array_equal(labels, one_pass(imagenet.test_batches(40))[1][:3])


def test_another_size_of_the_input(small, photographs):
    assert small.input_shape == (64, 64, 3)
    np.testing.assert_array_equal(small.test_sample(1)[1][0], small.preprocessing(photographs[0]))


def test_an_augmentation_for_small_images_is_refused(imagenet):
    with pytest.raises(ValueError, match=r"There is no augmentation 'crop_flip'; there are none, resized_crop"):
        imagenet.training_batches(10, "crop_flip", seed=0)


def test_data_of_other_classes(tmp_path):
    write_other_classes(tmp_path)
    with pytest.raises(ValueError, match=r"imagenet2012.5\.1\.0 has 3 classes and ImageNet has 1000: prepare the"):
        data.load("imagenet", tmp_path)
