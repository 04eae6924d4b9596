"""A data set: images, labels, class names and the preprocessing that goes with them."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import tensorflow as tf

from r2b_zoo.data.augmentation import augmentation
from r2b_zoo.data.preprocessing import Preprocessing


@dataclass(frozen=True)
class Split:
    """Images uint8 (N, H, W, C) and labels int (N,)."""

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Dataset:
    """A data set of images of one size, small enough for memory, with a fixed training and test split."""

    name: str
    description: str
    class_names: tuple[str, ...]
    preprocessing: Preprocessing
    train: Split
    test: Split

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        return self.preprocessing.input_shape

    @cached_property
    def train_inputs(self) -> np.ndarray:
        """The training split as a network sees it: float32 (N, height, width, channels)."""
        return self.preprocessing.batch(tf.constant(self.train.images)).numpy()

    @cached_property
    def test_inputs(self) -> np.ndarray:
        """The test split as a network sees it."""
        return self.preprocessing.batch(tf.constant(self.test.images)).numpy()

    def training_batches(self, batch_size: int, augment: str, seed: int) -> tf.data.Dataset:
        """Shuffled, augmented batches (images, labels), one pass; a new order at each pass, the same for a seed.

        Args:
            batch_size: images per batch; a smaller last batch is left out, since batch statistics of a few images
                harm more than they help.
            augment: name of an augmentation.
            seed: of the order and of the augmentation.

        Raises:
            ValueError: the batch is larger than the data, or the augmentation unknown.
        """
        self.check_batches(batch_size, augment)
        change = augmentation(augment)
        images = tf.constant(self.train_inputs)
        labels = tf.constant(self.train.labels, tf.int32)

        def batch(i: tf.Tensor, indices: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            # Seeds are a function of the step alone, so that the result does not depend on threads.
            step_seed = tf.random.experimental.stateless_fold_in([seed, 0], i)
            return change(tf.gather(images, indices), step_seed), tf.gather(labels, indices)

        order = tf.data.Dataset.range(len(self.train))
        order = order.shuffle(len(self.train), seed=seed, reshuffle_each_iteration=True)
        batches = order.batch(batch_size, drop_remainder=True)
        counter = tf.data.Dataset.counter()
        return tf.data.Dataset.zip((counter, batches)).map(batch).prefetch(tf.data.AUTOTUNE)

    def check_batches(self, batch_size: int, augment: str) -> None:
        """Raises as ``training_batches``, and does nothing else."""
        if not 1 <= batch_size <= len(self.train):
            raise ValueError(
                f"batch_size must be at least 1 and at most the number of training images, {len(self.train)} in "
                f"{self.name}; received {batch_size}."
            )
        augmentation(augment)

    def test_batches(self, batch_size: int) -> tf.data.Dataset:
        """The test split in its own order, without augmentation."""
        pairs = (self.test_inputs, self.test.labels.astype(np.int32))
        return tf.data.Dataset.from_tensor_slices(pairs).batch(batch_size)
