"""Data sets of photographs of many sizes, which stay encoded until they are needed."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf

from r2b_zoo.data import resampling
from r2b_zoo.data.augmentation import COLOUR, position_seed
from r2b_zoo.data.dataset import Dataset, Epoch, Sample, Shard, epoch_seeds
from r2b_zoo.system import runtime
from r2b_zoo.system.machine import available_cores

# The random resized crop is from Szegedy et al., "Going Deeper with Convolutions", CVPR 2015, section 6. Crops are
# resized bilinearly, as in torchvision, because this takes less time than the bicubic resizing that evaluation needs.
CROP_AREA = (0.08, 1.0)  # share of the image
CROP_ASPECT = (3 / 4, 4 / 3)  # width / height
CROP_ATTEMPTS = 10

# Pixels that are decoded beyond each side of a window. A JPEG decoder interpolates colour between neighbours, so the
# pixels at a window's border depend on pixels outside it.
CHROMA_MARGIN = 2
# libjpeg decodes columns in blocks of this width, and TensorFlow copies a crop once more if it starts within a block.
COLUMNS_AT_A_TIME = 16

Encoded = dict[str, tf.Tensor]
"""A photograph before it is decoded: ``label``, int32, and other entries that its data set needs."""

Size: TypeAlias = tf.Tensor
"""Height and width of an image in pixels, int32 (2,)."""

Window: TypeAlias = tf.Tensor
"""Top, left, height and width of a part of an image in pixels, int32 (4,)."""

Part = tuple[tf.Tensor, Window]
"""An image that contains a window, uint8 (H, W, 3), and the window's place in it."""

Cut = tuple[tf.Tensor, Window, tf.Tensor, tf.Tensor]
"""The part of a photograph that a network gets: both elements of ``Part``; whether it is mirrored, bool; the label."""

Example = tuple[tf.Tensor, tf.Tensor]
"""Image and label."""


@dataclass(frozen=True, kw_only=True)
class PhotographDataset(Dataset):
    """A data set of encoded photographs. Of a JPEG, little more is decoded than the part that a network gets."""

    @property
    def augmentations(self) -> tuple[str, ...]:
        return ("none", "resized_crop_flip", f"none{COLOUR}", f"resized_crop_flip{COLOUR}")

    @abstractmethod
    def _training_records(self, order_seed: tf.Tensor, skip: int) -> tf.data.Dataset:
        """The training photographs' records, for ``_encoded``, shuffled by the seed, without the first ``skip``."""

    @abstractmethod
    def _test_records(self) -> tf.data.Dataset:
        """The records of the test photographs, in their fixed order."""

    @property
    def _fits_in_batches(self) -> bool:
        """Whether a few batches of decoded photographs fit into memory; if not, they are resized one by one."""
        return True

    @property
    def _is_resized_in_batches(self) -> bool:
        return runtime.is_installed() and self.preprocessing.channels == 3 and self._fits_in_batches

    def _encoded(self, record: Any) -> Encoded:
        """Converts a record to a photograph. This is a separate step, so that records can be converted in parallel."""
        return record

    @abstractmethod
    def _size(self, encoded: Encoded) -> Size:
        """Size of the photograph as it is displayed, found without decoding it."""

    @abstractmethod
    def _decode(self, encoded: Encoded, size: Size, window: Window) -> Part:
        """Decodes at least a window of a photograph, to the same pixels as in the whole decoded photograph.

        Args:
            encoded: the photograph.
            size: size of the whole photograph.
            window: the part to decode.
        """

    def _training_batches(
        self, batch_size: int, augment: str, seed: int, epoch: Epoch, skip: int, shard: Shard
    ) -> tf.data.Dataset:
        order_seed, changes_seed = epoch_seeds(seed, epoch)

        def cut(position: tf.Tensor, record: Any) -> Cut:
            photograph = self._encoded(record)
            if augment == "none":
                return self._centre(photograph)
            return self._random_crop(photograph, position_seed(changes_seed, position))

        records = self._training_records(order_seed, skip * batch_size).enumerate(start=skip * batch_size)
        if shard.count > 1:
            # Drop the epoch's incomplete last batch before it is divided among the shards: it may fill the batch of one
            # shard, but not of all shards.
            records = records.take((self.train_size // batch_size - skip) * batch_size)
            records = records.filter(lambda position, _: shard.has(position, batch_size))
        return self._batches(records, cut, batch_size // shard.count, bilinear=augment != "none", drop_remainder=True)

    def _batches(
        self,
        records: tf.data.Dataset,
        cut: Callable[..., Cut],
        batch_size: int,
        bilinear: bool = False,
        drop_remainder: bool = False,
    ) -> tf.data.Dataset:
        """Cuts the records and batches the results, resized and normalised to the same bits as by ``Preprocessing``.

        Args:
            records: the photographs' records.
            cut: selects the part of a record's photograph that the network gets; its arguments are a record's elements.
            batch_size: images per batch.
            bilinear: see ``Preprocessing.resize``.
            drop_remainder: drop an incomplete last batch.
        """
        if self._is_resized_in_batches:

            def listed(*record: Any) -> Cut:
                image, *others = cut(*record)
                return (resampling.listed(image), *others)

            def batch(images: tf.Tensor, windows: tf.Tensor, mirrored: tf.Tensor, labels: tf.Tensor) -> Example:
                parts = resampling.unlisted(images, batch_size)
                return resampling.prepared(parts, windows, mirrored, self.preprocessing, bilinear), labels

            batches = _decoded(records, listed).batch(batch_size, drop_remainder)
            return batches.map(batch, num_parallel_calls=available_cores(), deterministic=True)

        def image(*record: Any) -> Example:
            decoded, window, mirrored, label = cut(*record)
            seen = windowed(decoded, window)
            # Mirror before resizing, as ``resampling.prepared`` does.
            seen = tf.cond(mirrored, lambda: tf.reverse(seen, [1]), lambda: seen)
            resized = self.preprocessing.resize(seen[tf.newaxis], bilinear)
            # Normalise an image while it is in the cache; normalising whole batches takes longer.
            return self.preprocessing.normalise(resized)[0], label

        return _decoded(records, image).batch(batch_size, drop_remainder)

    def _random_crop(self, photograph: Encoded, seed: tf.Tensor) -> Cut:
        size = self._size(photograph)
        begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
            tf.concat([size, [3]], axis=0),
            bounding_boxes=tf.zeros((1, 0, 4)),
            seed=seed,
            min_object_covered=0.0,
            aspect_ratio_range=CROP_ASPECT,
            area_range=CROP_AREA,
            max_attempts=CROP_ATTEMPTS,
            use_image_if_no_bounding_boxes=True,
        )
        part = self._decode(photograph, size, tf.concat([begin[:2], extent[:2]], axis=0))
        return *part, tf.random.stateless_uniform((), position_seed(seed, 1)) < 0.5, photograph["label"]

    def _centre(self, photograph: Encoded) -> Cut:
        """The part of a photograph that is used in evaluation."""
        size = self._size(photograph)
        part = self._decode(photograph, size, self.preprocessing.centre_window(size))
        return *part, tf.constant(False), photograph["label"]

    def _test_batches(self, batch_size: int) -> tf.data.Dataset:
        return self._batches(self._test_records(), lambda record: self._centre(self._encoded(record)), batch_size)

    def test_sample(self, number: int, one_per_class: bool = False) -> Sample:
        """See ``Dataset.test_sample``. The images for display are the network's inputs before normalisation."""
        chosen: list[Encoded] = []
        for photograph in self._test_records().map(self._encoded):
            if len(chosen) == number:
                break
            if not (one_per_class and any(photograph["label"] == other["label"] for other in chosen)):
                chosen.append(photograph)
        if one_per_class:
            chosen.sort(key=lambda photograph: int(photograph["label"]))
        centres = (windowed(*self._centre(photograph)[:2]) for photograph in chosen)
        resized = tf.concat([self.preprocessing.resize(centre[tf.newaxis]) for centre in centres], axis=0)
        shown = tf.cast(tf.round(tf.clip_by_value(resized, 0, 255)), tf.uint8)
        labels = np.array([int(photograph["label"]) for photograph in chosen])
        return shown.numpy(), self.preprocessing.normalise(resized).numpy(), labels


def _decoded(records: tf.data.Dataset, function: Callable[..., Any]) -> tf.data.Dataset:
    # The order is kept, so a large photograph delays those after it: decode more at a time than there are cores.
    return records.map(function, num_parallel_calls=2 * available_cores(), deterministic=True)


def decode_jpeg_window(jpeg: tf.Tensor, size: Size, window: Window, dct_method: str = "") -> Part:
    """Decodes a window of a JPEG, and little beyond it, to the same pixels as in the whole decoded image.

    Args:
        jpeg: contents of the file.
        size: size of the whole image.
        window: the part to decode.
        dct_method: see ``tf.io.decode_jpeg``: "" for its default, "INTEGER_ACCURATE" for Pillow's.
    """
    crop, within = jpeg_crop(size, window)
    return tf.io.decode_and_crop_jpeg(jpeg, crop, channels=3, dct_method=dct_method), within


def jpeg_crop(size: Size, window: Window) -> tuple[Window, Window]:
    """The crop that ``tf.io.decode_and_crop_jpeg`` must decode for a window, and the window's place in that crop.

    Sizes (N, 2) and windows (N, 4) of many images give crops and places (N, 4).
    """
    begin, extent = tf.split(window, 2, axis=-1)
    first = tf.maximum(begin - CHROMA_MARGIN, 0)
    first -= first % [1, COLUMNS_AT_A_TIME]
    decoded = tf.minimum(begin + extent + CHROMA_MARGIN, size) - first
    return tf.concat([first, decoded], axis=-1), tf.concat([begin - first, extent], axis=-1)


def windowed(image: tf.Tensor, window: Window) -> tf.Tensor:
    """The window's part of an image (H, W, C)."""
    top, left, height, width = tf.unstack(window)
    return image[top : top + height, left : left + width]
