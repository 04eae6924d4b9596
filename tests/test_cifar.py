"""CIFAR from the files that TensorFlow Datasets prepared, and its augmentation."""

import numpy as np
import pytest
import tensorflow as tf

from r2b_zoo import data
from r2b_zoo.data.augmentation import crop_flip
from tests.conftest import TEST_DATA, skip_without
from tests.passes import check_changes, check_epochs, one_pass
from tests.prepared_data import write_cifar100


@pytest.fixture(scope="module")
def cifar100(tmp_path_factory):
    path = tmp_path_factory.mktemp("prepared")
    write_cifar100(path)
    return data.load("cifar100", path)


@pytest.fixture(scope="module")
def cifar10():
    skip_without("cifar10")
    return data.load("cifar10", TEST_DATA)


def test_cifar10_as_it_is_described(cifar10):
    assert (cifar10.train_size, cifar10.test_size) == (50_000, 10_000)
    assert cifar10.input_shape == (32, 32, 3)
    names = "airplane automobile bird cat deer dog frog horse ship truck"
    assert cifar10.class_names == tuple(names.split())
    assert np.bincount(cifar10.train.labels).tolist() == [5000] * 10
    # The tolerance admits a copy that has been through lossy compression, which changes these statistics by up to 1.3.
    np.testing.assert_allclose(cifar10.train.images.mean(axis=(0, 1, 2)), cifar10.preprocessing.mean, atol=2)
    np.testing.assert_allclose(cifar10.train.images.std(axis=(0, 1, 2)), cifar10.preprocessing.std, atol=2)


def test_evaluation_reads_no_training_images(tmp_path):
    write_cifar100(tmp_path, train=5, test=7)
    dataset = data.load("cifar100", tmp_path)
    for path in tmp_path.glob("cifar100/*/*-train.tfrecord-*"):
        path.write_bytes(b"not to be read")
    assert (dataset.train_size, dataset.test_size) == (5, 7)
    assert len(one_pass(dataset.test_batches(4))[1]) == 7
    assert len(dataset.test_sample(3)[2]) == 3


def test_evaluation_images_are_only_normalised(cifar100):
    images, labels = one_pass(cifar100.test_batches(32))
    assert images.dtype == np.float32
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels, cifar100.test.labels)
    mean, std = (np.array(values, np.float32) for values in (cifar100.preprocessing.mean, cifar100.preprocessing.std))
    np.testing.assert_array_equal(images, (cifar100.test.images.astype(np.float32) - mean) / std)
    np.testing.assert_array_equal(images, [cifar100.preprocessing(image) for image in cifar100.test.images])
    assert cifar100.class_names[:2] == ("thing 0", "thing 1")
    assert cifar100.num_classes == 100


def test_order_and_crops_are_functions_of_seed_epoch_and_position(cifar100):
    check_epochs(cifar100, "crop_flip", 50, skips=(1, 4))
    check_changes(cifar100, "crop_flip")


def test_the_augmentation_for_photographs_is_refused_for_cifar(cifar100):
    with pytest.raises(ValueError, match=r"There is no augmentation 'resized_crop_flip'; there are none, affine, c"):
        cifar100.training_batches(10, "resized_crop_flip", seed=0)


def test_all_crops_and_flips_of_the_padded_image_occur_equally_often(rng):
    image = rng.normal(size=(12, 13, 3)).astype(np.float32)
    padded = np.pad(image, ((4, 4), (4, 4), (0, 0)), mode="reflect")
    possible: dict[bytes, int] = {}
    for top in range(9):
        for left in range(9):
            crop = padded[top : top + 12, left : left + 13]
            possible[crop.tobytes()] = len(possible)
            possible[np.ascontiguousarray(crop[:, ::-1]).tobytes()] = len(possible)
    assert len(possible) == 162
    batch = tf.repeat(image[np.newaxis], 16_200, axis=0)
    found = [possible[changed.tobytes()] for changed in crop_flip(batch, [3, 4]).numpy()]
    counts = np.bincount(found, minlength=162)
    assert counts.min() > 60
    assert counts.max() < 145


@pytest.mark.parametrize(
    ("name", "prepared", "hint"),
    [
        ("cifar10", "cifar10", ""),
        ("cifar100", "cifar100", ""),
        ("imagenet", "imagenet2012", ".*image-net.*_val.tar"),
    ],
)
def test_a_data_set_that_is_not_prepared_names_the_command_that_prepares_it(tmp_path, name, prepared, hint):
    message = (
        rf"^{prepared} is not prepared in {tmp_path}: .*data_dir=, or .*`tfds build {prepared} --data_dir {tmp_path}`"
    )
    with pytest.raises(ValueError, match=message + r"\." + hint):
        data.load(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_newest_version_is_taken(tmp_path):
    write_cifar100(tmp_path, train=5, test=7)
    (tmp_path / "cifar100" / "3.0.2").rename(tmp_path / "cifar100" / "10.0.0")
    write_cifar100(tmp_path, train=9, test=8)
    assert data.load("cifar100", tmp_path).train_size == 5
