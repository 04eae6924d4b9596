"""The interface of a data set to the rest of the library: batches to train and test on, and their description."""

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
"""A message names at most this many files or classes."""

# Batches that are prepared ahead; few, since a batch of ImageNet's recipe takes 154 MB.
BATCHES_AHEAD = 2
# Folded into a batch's seed, so that colour changes and mix-up draw other numbers than the augmentation, which uses the
# seed unchanged.
_COLOUR_PURPOSE, _MIXUP_PURPOSE = 101, 102

Epoch = Union[int, tf.Tensor]
Sample = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Shard:
    """Selects the images of a batch that one device (replica) processes.

    The batch is split into ``groups`` groups of consecutive images, and each group into ``count`` parts; the shard has
    part ``index`` of every group. With one group per gradient accumulation step, the shards of all replicas together
    have the same images in each step as a single device has.
    """

    index: int = 0
    count: int = 1
    groups: int = 1

    def of(self, batch: tf.Tensor) -> tf.Tensor:
        """The shard's images of a batch (N, ...), in the batch's order.

        Shards have equal sizes if N is a multiple of count · groups.
        """
        if self.count == 1:
            return batch
        size = (batch.shape[0] or tf.shape(batch)[0]) // self.groups
        begin, end = size * self.index // self.count, size * (self.index + 1) // self.count
        return tf.concat([batch[i * size + begin : i * size + end] for i in range(self.groups)], axis=0)

    def has(self, position: tf.Tensor, batch_size: int) -> tf.Tensor:
        """Whether the shard has the image at a position in an epoch; ``batch_size`` is a multiple of count · groups."""
        size = batch_size // self.groups
        return position % size // (size // self.count) == self.index


WHOLE = Shard()


@dataclass(frozen=True, kw_only=True)
class Dataset(ABC):
    """Images with labels, in a training and a test split.

    Attributes:
        name: the name by which ``data.load`` finds it.
        title: its name in words, without the size of the images.
        class_names: names of the classes, in the order of the labels.
        preprocessing: turns an image into a network's input. In training, a random crop may replace its centre crop.
        skipped: a sentence for each file or folder that was left out.
        test_split: a sentence on how the test images were chosen, if a user's folder was split automatically; else "".
        version: the data set's version; "" if it has no versions.
    """

    name: str
    title: str
    class_names: tuple[str, ...]
    preprocessing: Preprocessing
    skipped: tuple[str, ...] = ()
    test_split: str = ""
    version: str = ""

    def record(self) -> dict[str, Any]:
        """Facts as JSON values. When a run resumes, ``runs.data_record`` compares them, and refuses changed data."""
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
        cls.__repr__ = short_repr  # type: ignore[method-assign]  # else dataclass adds one that prints all fields

    @property
    def description(self) -> str:
        """The title, and the size of a network's input."""
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
        """Names of the augmentations that suit the training images."""

    def with_preprocessing(self, preprocessing: Preprocessing) -> "Dataset":
        """The same images, prepared for another network."""
        return replace(self, preprocessing=preprocessing)

    @abstractmethod
    def held_out(self, share: float) -> "Dataset":
        """A data set of the training images only, whose test split is a share of every class.

        That share is a validation split: decisions during training are based on it instead of the real test split.
        Which images are held out depends only on the data and the share.

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
        """The shuffled, augmented batches of one epoch.

        A batch is a pair of images, float32 (N, height, width, channels), and labels, int32 (N,). Order and
        augmentation depend only on seed, epoch and position: not on what ran before, the number of threads or the
        global seed.

        Args:
            batch_size: images per batch; a smaller last batch is dropped, since batch statistics of a few images harm
                more than they help.
            augment: name of an augmentation.
            seed: seed of the order and of the augmentation, from 0 to 2³¹ - 1.
            epoch: from 0; may be a scalar integer tensor, for pipelines that run through the epochs themselves.
            skip: how many batches to skip at the start. They are not decoded, and the later batches are unchanged.
            shard: which images of each batch are returned; photographs outside the shard are not decoded.
            mixup: above 0, images are mixed in pairs with a weight drawn from Beta(mixup, mixup), and labels are
                probabilities, float32 (N, classes); see ``augmentation.mixed``.

        Raises:
            ValueError: the batch size is below 1 or above the number of training images; the augmentation is unknown;
                ``skip`` is negative or more than the epoch's batches; or ``mixup`` is above 0, and a label is not a
                class or each of several shards has an odd number of images.
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
        """Changes colours and mixes images in a shard as they would be changed in the whole batch."""
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
        """Raises ValueError if ``training_batches`` would refuse ``mixup``; does nothing else."""
        size = batch_size // (shard.count * shard.groups)
        if mixup and shard.count > 1 and size % 2:
            raise ValueError(
                f"mixup pairs the images of each device's part of a batch, so that part must have an even number of "
                f"images; it has {size} with batch_size={batch_size}."
            )

    @abstractmethod
    def _training_batches(
        self, batch_size: int, augment: str, seed: int, epoch: Epoch, skip: int, shard: Shard
    ) -> tf.data.Dataset: ...

    def check_batches(self, batch_size: int, augment: str) -> None:
        """Raises ValueError for a batch size or augmentation that ``training_batches`` refuses; does nothing else."""
        if not 1 <= batch_size <= self.train_size:
            raise ValueError(
                f"batch_size must be at least 1 and at most the number of training images, {self.train_size} in "
                f"{self.name}; received {batch_size}. Set batch_size={self.train_size} or less, or add images."
            )
        check_augmentation(augment, self.augmentations, self.name)

    def test_batches(self, batch_size: int) -> tf.data.Dataset:
        """The test split as (images float32, labels int32), in a fixed order, without augmentation."""
        return _ahead(self._test_batches(batch_size))

    @abstractmethod
    def _test_batches(self, batch_size: int) -> tf.data.Dataset: ...

    @abstractmethod
    def test_sample(self, number: int, one_per_class: bool = False) -> Sample:
        """The first test images; with ``one_per_class`` only the first one of each class.

        Returns:
            The images for display, uint8 (n, H, W, C); the same images as a network's input, float32 (n, height, width,
            channels); their labels (n,). n is ``number``, or less if there are fewer.
        """


def _ahead(batches: tf.data.Dataset) -> tf.data.Dataset:
    """Prefetches batches, with tf.data's tuning turned off.

    Tuning runs at intervals that double from 10 ms to a minute. An iterator that has ended often waits for the next
    interval, so an evaluation could take twice as long. Without tuning, pipelines must pass a number, not AUTOTUNE, as
    ``num_parallel_calls``.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return batches.prefetch(BATCHES_AHEAD).with_options(options)


def left_out(dataset: Dataset, all_named_in: str) -> str:
    """Lines for a terminal about skipped files, with the names of the first few; "" if no file was skipped.

    Args:
        dataset: the data set.
        all_named_in: where the reader finds the names of all skipped files.
    """
    skipped = dataset.skipped
    if not skipped:
        return ""
    lines = [f"Skipped {len(skipped)} file{'s' if len(skipped) > 1 else ''}:", *skipped[:MOST_NAMED]]
    if len(skipped) > MOST_NAMED:
        lines.append(f"and {len(skipped) - MOST_NAMED} more, see {all_named_in}")
    return "\n    ".join(lines)


def epoch_seeds(seed: int, epoch: Epoch) -> tuple[tf.Tensor, tf.Tensor]:
    """Two seeds (2,) for one epoch: for its order, and for the changes to its images."""
    order, changes = (position_seed(tf.constant([seed, purpose]), epoch) for purpose in (0, 1))
    return order, changes
