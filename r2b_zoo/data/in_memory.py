"""Data sets whose images have one size and fit into memory."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import tensorflow as tf

from r2b_zoo.data.augmentation import AUGMENTATIONS, COLOUR, position_seed
from r2b_zoo.data.dataset import WHOLE, Dataset, Epoch, Sample, Shard, epoch_seeds
from r2b_zoo.data.validation import held_out
from r2b_zoo.system.machine import available_cores
from r2b_zoo.system.short_repr import short_repr


@dataclass(frozen=True)
class Split:
    """Images uint8 (N, H, W, C) and labels int (N,), read when they are first used.

    Attributes:
        size: N, the number of images.
        read: returns images and labels.
    """

    size: int
    read: Callable[[], tuple[Any, Any]]

    __repr__ = short_repr

    @classmethod
    def of(cls, images: np.ndarray, labels: np.ndarray) -> "Split":
        return cls(len(labels), lambda: (images, labels))

    @cached_property
    def tensors(self) -> tuple[tf.Tensor, tf.Tensor]:
        # Create eager tensors, even if the first caller is tracing a graph.
        with tf.init_scope():
            images, labels = self.read()
            if not tf.as_dtype(labels.dtype).is_integer or len(labels.shape) != 1:
                raise ValueError(
                    "Labels must be the number of each image's class, integers (N,); received "
                    f"{tf.as_dtype(labels.dtype).name} {tuple(labels.shape)}."
                )
            return tf.convert_to_tensor(images), tf.cast(labels, tf.int32)

    @property
    def images(self) -> np.ndarray:
        return self.tensors[0].numpy()

    @property
    def labels(self) -> np.ndarray:
        return self.tensors[1].numpy()


@dataclass(frozen=True, kw_only=True)
class InMemoryDataset(Dataset):
    """A data set whose images are arrays."""

    train: Split
    test: Split

    @property
    def train_size(self) -> int:
        return self.train.size

    @property
    def test_size(self) -> int:
        return self.test.size

    @property
    def augmentations(self) -> tuple[str, ...]:
        return (*AUGMENTATIONS, *(name + COLOUR for name in AUGMENTATIONS))

    def held_out(self, share: float) -> "InMemoryDataset":
        images, labels = self.train.images, self.train.labels
        apart = held_out(labels, share, self.class_names)
        train, test = (Split.of(images[chosen], labels[chosen]) for chosen in (~apart, apart))
        return replace(self, train=train, test=test)

    def check_mixup(self, mixup: float, batch_size: int, shard: Shard = WHOLE) -> None:
        super().check_mixup(mixup, batch_size, shard)
        if not mixup:
            return
        labels = self.train.labels
        bad = labels[(labels < 0) | (labels >= self.num_classes)]
        if bad.size:
            raise ValueError(
                f"mixup needs labels that are classes, 0–{self.num_classes - 1} in {self.name}; received {bad[0]}. "
                "Correct the labels, or set mixup=0."
            )

    def _training_batches(
        self, batch_size: int, augment: str, seed: int, epoch: Epoch, skip: int, shard: Shard
    ) -> tf.data.Dataset:
        change = AUGMENTATIONS[augment]
        images, labels = self.train.tensors
        order_seed, changes_seed = epoch_seeds(seed, epoch)
        order = tf.random.experimental.stateless_shuffle(tf.range(self.train_size), order_seed)

        def batch(step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            # XLA needs a static size.
            indices = tf.ensure_shape(order[step * batch_size : (step + 1) * batch_size], (batch_size,))
            inputs = self.preprocessing.batch(tf.gather(images, indices))
            # Change the whole batch before taking the shard, since the random numbers are drawn for the whole batch.
            changed = change(inputs, position_seed(changes_seed, step))
            return shard.of(changed), shard.of(tf.gather(labels, indices))

        steps = tf.data.Dataset.range(skip, self.train_size // batch_size)
        return steps.map(batch, num_parallel_calls=available_cores(), deterministic=True)

    def _test_batches(self, batch_size: int) -> tf.data.Dataset:
        images, labels = self.test.tensors

        def batch(start: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            end = start + batch_size
            return self.preprocessing.batch(images[start:end]), labels[start:end]

        starts = tf.data.Dataset.range(0, self.test_size, batch_size)
        return starts.map(batch, num_parallel_calls=available_cores(), deterministic=True)

    def test_sample(self, number: int, one_per_class: bool = False) -> Sample:
        chosen = np.arange(self.test_size)
        if one_per_class:
            chosen = np.unique(self.test.labels, return_index=True)[1]
        images, labels = self.test.images[chosen[:number]], self.test.labels[chosen[:number]]
        return images, self.preprocessing.batch(tf.constant(images)).numpy(), labels
