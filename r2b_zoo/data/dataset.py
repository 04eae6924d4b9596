"""What a data set is to the rest of the library: batches to train and test on, and what they are of."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Union

import numpy as np
import tensorflow as tf

from r2b_zoo.data.augmentation import (
    COLOUR,
    check_augmentation,
    colour_draws,
    colour_jittered,
    mixed,
    position_seed,
)
from r2b_zoo.data.preprocessing import Preprocessing
from r2b_zoo.system.machine import available_cores
from r2b_zoo.system.short_repr import short_repr

MOST_NAMED = 10
"""A message names at most this many skipped files or classes."""

# A batch of ImageNet's recipe takes 154 MB.
BATCHES_AHEAD = 2
# What a batch's seed is folded with for each of its changes; in_memory.py folds it with nothing.
_COLOUR_PURPOSE, _MIXUP_PURPOSE = 101, 102

Epoch = Union[int, tf.Tensor]
Sample = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Shard:
    """Which images of a batch: part ``index`` of ``count``, from each of ``groups`` groups of consecutive images.

    With as many groups as there are parts whose gradients are accumulated, the shards of all replicas together have
    in each of these parts the images that one device has there.
    """

    index: int = 0
    count: int = 1
    groups: int = 1

    def of(self, batch: tf.Tensor) -> tf.Tensor:
        """Those of (N, ...), in their order; as many in every shard where N is a multiple of count · groups."""
        if self.count == 1:
            return batch
        size = (batch.shape[0] or tf.shape(batch)[0]) // self.groups
        begin, end = size * self.index // self.count, size * (self.index + 1) // self.count
        return tf.concat([batch[i * size + begin : i * size + end] for i in range(self.groups)], axis=0)

    def has(self, position: tf.Tensor, batch_size: int) -> tf.Tensor:
        """Whether the image at that position of an epoch is one of them."""
        size = batch_size // self.groups
        return position % size // (size // self.count) == self.index


WHOLE = Shard()


@dataclass(frozen=True, kw_only=True)
class Dataset(ABC):
    """Images with labels, in a training and a test split.

    Attributes:
        name: as ``data.load`` takes it.
        title: in words, without the size of the images.
        class_names: in the order of the labels.
        preprocessing: from an image to a network's input; what the test split goes through.
        skipped: a sentence for each file that was left out.
        test_split: how the test images were chosen, where the data set does not come with a split of its own.
        version: of a data set that has versions.
    """

    name: str
    title: str
    class_names: tuple[str, ...]
    preprocessing: Preprocessing
    skipped: tuple[str, ...] = ()
    test_split: str = ""
    version: str = ""

    def record(self) -> dict[str, Any]:
        """What has to be the same where a run resumes, as JSON can hold it; ``runs.data_record`` compares it by key."""
        return {
            "name": self.name,
            "version": self.version,
            "class_names": list(self.class_names),
            "images": self.train_size + self.test_size,
            "training_images": self.train_size,
            "test_images": self.test_size,
        }

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.__repr__ = short_repr  # type: ignore[method-assign]  # before dataclass gives it one of all that it holds

    @property
    def description(self) -> str:
        """The title, and the size at which a network sees the images."""
        return f"{self.title}, {self.preprocessing.height}×{self.preprocessing.width}"

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        return self.preprocessing.input_shape

    @property
    @abstractmethod
    def train_size(self) -> int:
        """Number of training images."""

    @property
    @abstractmethod
    def test_size(self) -> int:
        """Number of test images."""

    @property
    @abstractmethod
    def augmentations(self) -> tuple[str, ...]:
        """Names of the augmentations that the training images can go through."""

    def with_preprocessing(self, preprocessing: Preprocessing) -> "Dataset":
        """The same images, prepared for another network."""
        return replace(self, preprocessing=preprocessing)

    @abstractmethod
    def held_out(self, share: float) -> "Dataset":
        """The training images alone, with a share of every class kept apart as the test split of what is returned.

        What is chosen while training is chosen on it, so that the real test split has had no part in it. Which images
        these are is a function of the data and the share alone.

        Raises:
            ValueError: the share is not above 0 and below 1, or leaves a class without images on one side.
        """

    def training_batches(
        self,
        batch_size: int,
        augment: str,
        seed: int,
        epoch: Epoch = 0,
        skip: int = 0,
        shard: Shard = WHOLE,
        mixup: float = 0.0,
    ) -> tf.data.Dataset:
        """The shuffled, augmented batches (images float32, labels int32) of one epoch.

        Order and changes are functions of seed, epoch and position alone: neither what ran before, nor the number of
        threads, nor the global seed makes a difference.

        Args:
            batch_size: images per batch; a smaller last batch is left out, since batch statistics of a few images
                harm more than they help.
            augment: name of an augmentation.
            seed: of the order and of the augmentation, from 0 to 2³¹ - 1.
            epoch: from 0; may be a scalar integer tensor, for pipelines that run through the epochs themselves.
            skip: how many batches to leave out at the start. They are not decoded, and those after them are the same.
            shard: which images of each batch; photographs outside of it are not decoded.
            mixup: above 0, images are mixed in pairs with a weight drawn from Beta(mixup, mixup), and labels are
                probabilities, float32 (N, classes); see ``augmentation.mixed``.

        Raises:
            ValueError: the batch is larger than the data, the augmentation unknown, more is skipped than there is, or
                labels that are no classes, or shards of an odd number of images, are to be mixed.
        """
        self.check_batches(batch_size, augment)
        steps = self.train_size // batch_size
        if not 0 <= skip <= steps:
            raise ValueError(f"skip must be in 0–{steps}, the number of batches of an epoch; received {skip}.")
        shape, is_jittered = augment.removesuffix(COLOUR), augment.endswith(COLOUR)
        batches = self._training_batches(batch_size, shape, seed, epoch, skip, shard)
        if is_jittered or mixup:
            self.check_mixup(mixup, batch_size, shard)
            change = partial(self._change_batch, batch_size, epoch_seeds(seed, epoch)[1], shard, is_jittered, mixup)
            batches = batches.enumerate(start=skip).map(
                change, num_parallel_calls=available_cores(), deterministic=True
            )
        return _ahead(batches)

    def _change_batch(
        self,
        batch_size: int,
        changes_seed: tf.Tensor,
        shard: Shard,
        is_jittered: bool,
        mixup: float,
        step: tf.Tensor,
        batch: tuple[tf.Tensor, tf.Tensor],
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The changes that are drawn for whole batches, so that every shard of a batch has its part of them."""
        images, labels = batch
        seed = position_seed(changes_seed, step)
        if is_jittered:
            draws = shard.of(colour_draws(batch_size, position_seed(seed, _COLOUR_PURPOSE)))
            pixels = colour_jittered(self.preprocessing.pixels(images), draws)
            images = self.preprocessing.normalise(pixels)
        if mixup:
            return mixed(images, labels, self.num_classes, mixup, position_seed(seed, _MIXUP_PURPOSE))
        return images, labels

    def check_mixup(self, mixup: float, batch_size: int, shard: Shard = WHOLE) -> None:
        """Raises ValueError where ``training_batches`` cannot mix, and does nothing else."""
        size = batch_size // (shard.count * shard.groups)
        if mixup and shard.count > 1 and size % 2:
            raise ValueError(
                f"mixup pairs the images of each device's part of a batch, so that must be an even number; received "
                f"{size} of batch_size={batch_size}."
            )

    @abstractmethod
    def _training_batches(
        self, batch_size: int, augment: str, seed: int, epoch: Epoch, skip: int, shard: Shard
    ) -> tf.data.Dataset: ...

    def check_batches(self, batch_size: int, augment: str) -> None:
        """Raises as ``training_batches``, and does nothing else."""
        if not 1 <= batch_size <= self.train_size:
            raise ValueError(
                f"batch_size must be at least 1 and at most the number of training images, {self.train_size} in "
                f"{self.name}; received {batch_size}. Set batch_size={self.train_size} or less, or add images."
            )
        check_augmentation(augment, self.augmentations, self.name)

    def test_batches(self, batch_size: int) -> tf.data.Dataset:
        """The test split as (images float32, labels int32), in an order of its own, without augmentation."""
        return _ahead(self._test_batches(batch_size))

    @abstractmethod
    def _test_batches(self, batch_size: int) -> tf.data.Dataset: ...

    @abstractmethod
    def test_sample(self, number: int, one_per_class: bool = False) -> Sample:
        """The first test images, or the first one of each of the first classes.

        Returns:
            The images as people look at them, uint8 (n, H, W, C); the same as a network sees them, float32
            (n, height, width, channels); their labels (n,). n is ``number``, or less where there are not so many.
        """


def _ahead(batches: tf.data.Dataset) -> tf.data.Dataset:
    """Batches that are made while the ones before are used, without tf.data's tuning.

    Tuning runs at intervals that double from 10 ms to a minute, and an iterator at its end often waits for the next:
    an evaluation could take twice its time. So what would be tuned has to have a number.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return batches.prefetch(BATCHES_AHEAD).with_options(options)


def left_out(dataset: Dataset, all_named_in: str) -> str:
    """Lines for a terminal about the files that were left out, the first few by name; "" where all are used.

    Args:
        dataset: the data set.
        all_named_in: where the reader finds the others.
    """
    skipped = dataset.skipped
    if not skipped:
        return ""
    lines = [f"Skipped {len(skipped)} file{'s' if len(skipped) > 1 else ''}:", *skipped[:MOST_NAMED]]
    if len(skipped) > MOST_NAMED:
        lines.append(f"and {len(skipped) - MOST_NAMED} more, see {all_named_in}")
    return "\n    ".join(lines)


def epoch_seeds(seed: int, epoch: Epoch) -> tuple[tf.Tensor, tf.Tensor]:
    """Seeds (2,) of one epoch: of its order, and of the changes to its images."""
    order, changes = (position_seed(tf.constant([seed, purpose]), epoch) for purpose in (0, 1))
    return order, changes
