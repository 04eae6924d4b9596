"""Small data sets in the form in which TensorFlow Datasets prepares real ones."""

import json
import shutil
from pathlib import Path

import numpy as np
import tensorflow as tf


def write_cifar100(data_dir: Path, train: int = 256, test: int = 100) -> None:
    """Writes CIFAR-100 with random pixels and made-up class names, using TensorFlow Datasets itself."""
    _write_cifar(data_dir, "cifar100", 100, train, test)


def write_cifar10(data_dir: Path, train: int = 64, test: int = 20) -> None:
    """Writes CIFAR-10 with random pixels and made-up class names, as ``write_cifar100`` does."""
    _write_cifar(data_dir, "cifar10", 10, train, test)


def _write_cifar(data_dir: Path, name: str, classes: int, train: int, test: int) -> None:
    import tensorflow_datasets as tfds

    rng = np.random.default_rng(8)

    def split(number):
        images = rng.integers(0, 256, (number, 32, 32, 3), np.uint8)
        labels = np.arange(number, dtype=np.int64) % classes
        names = [f"{i:05}" for i in range(number)]
        return tf.data.Dataset.from_tensor_slices({"image": images, "label": labels, "id": names})

    tfds.dataset_builders.store_as_tfds_dataset(
        name=name,
        version="3.0.2",
        features=tfds.features.FeaturesDict(
            {
                "id": tfds.features.Text(),
                "image": tfds.features.Image(shape=(32, 32, 3)),
                "label": tfds.features.ClassLabel(names=[f"thing {i}" for i in range(classes)]),
            }
        ),
        split_datasets={"train": split(train), "test": split(test)},
        data_dir=str(data_dir),
    )


def write_other_classes(data_dir: Path) -> None:
    """Writes a data set named like ImageNet, with three classes and one black image in each split."""
    import tensorflow_datasets as tfds

    image = np.zeros((1, 8, 8, 3), np.uint8)
    split = tf.data.Dataset.from_tensor_slices({"image": image, "label": np.zeros(1, np.int64)})
    tfds.dataset_builders.store_as_tfds_dataset(
        name="imagenet2012",
        version="5.1.0",
        features=tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
                "label": tfds.features.ClassLabel(names=["a", "b", "c"]),
            }
        ),
        split_datasets={"train": split, "validation": split},
        data_dir=str(data_dir),
    )


def write_in_shards(sample: Path, data_dir: Path, shards: list[int]) -> None:
    """Copies the ImageNet sample to ``data_dir``, with the training split in files of ``shards[i]`` photographs."""
    (source,) = (sample / "imagenet2012").iterdir()
    target = data_dir / "imagenet2012" / source.name
    shutil.copytree(source, target)
    (whole,) = target.glob("*-train.tfrecord-*")
    records = iter(tf.data.TFRecordDataset(str(whole)).as_numpy_iterator())
    for i, length in enumerate(shards):
        path = target / f"imagenet2012-train.tfrecord-{i:05}-of-{len(shards):05}"
        with tf.io.TFRecordWriter(str(path)) as writer:
            for _ in range(length):
                writer.write(next(records))
    assert next(records, None) is None, "the shards do not hold all of the sample"
    whole.unlink()
    info = json.loads((target / "dataset_info.json").read_text(encoding="utf-8"))
    next(split for split in info["splits"] if split["name"] == "train")["shardLengths"] = [str(n) for n in shards]
    (target / "dataset_info.json").write_text(json.dumps(info), encoding="utf-8")
