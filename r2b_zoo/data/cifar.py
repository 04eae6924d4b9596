"""CIFAR-10 and CIFAR-100: each has 60,000 photographs of 32×32 pixels, in 10 or in 100 classes.

Source: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
"""

from typing import TYPE_CHECKING, Optional

from r2b_zoo.data.images import PathLike
from r2b_zoo.data.in_memory import InMemoryDataset, Split
from r2b_zoo.data.prepared import prepared
from r2b_zoo.data.preprocessing import Preprocessing

if TYPE_CHECKING:
    import tensorflow_datasets as tfds

SIZE = 32


def cifar10(data_dir: Optional[PathLike] = None) -> InMemoryDataset:
    """50,000 images to train and 10,000 to test, in 10 classes; prepared by TensorFlow Datasets.

    Args:
        data_dir: folder of the data sets that TensorFlow Datasets has prepared; None: its default folder.

    Raises:
        ValueError: the data set is not prepared; the message names the command that prepares it.
    """
    return _cifar("cifar10", "CIFAR-10", data_dir, mean=(125.31, 122.95, 113.87), std=(62.99, 62.09, 66.70))


def cifar100(data_dir: Optional[PathLike] = None) -> InMemoryDataset:
    """50,000 images to train and 10,000 to test, in 100 classes; prepared by TensorFlow Datasets.

    Args:
        data_dir: folder of the data sets that TensorFlow Datasets has prepared; None: its default folder.

    Raises:
        ValueError: the data set is not prepared; the message names the command that prepares it.
    """
    return _cifar("cifar100", "CIFAR-100", data_dir, mean=(129.30, 124.07, 112.43), std=(68.17, 65.39, 70.42))


def _cifar(
    name: str, title: str, data_dir: Optional[PathLike], mean: tuple[float, ...], std: tuple[float, ...]
) -> InMemoryDataset:
    """A CIFAR data set. ``mean`` and ``std``, per channel, are the common values, computed from all training images."""
    builder = prepared(name, data_dir)
    return InMemoryDataset(
        name=name,
        title=title,
        class_names=tuple(builder.info.features["label"].names),
        preprocessing=Preprocessing(height=SIZE, width=SIZE, channels=3, crop_fraction=1.0, mean=mean, std=std),
        train=_split(builder, "train"),
        test=_split(builder, "test"),
        version=str(builder.version),
    )


def _split(builder: "tfds.core.DatasetBuilder", split: str) -> Split:
    """A split that is decoded when it is first used, because evaluating a network needs no training images."""

    def read() -> tuple:
        examples = builder.as_dataset(split, batch_size=-1)
        return examples["image"], examples["label"]

    return Split(int(builder.info.splits[split].num_examples), read)
