"""Data sets of photographs of many sizes, which stay encoded until they are needed."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from r2b_zoo.data.augmentation import position_seed
from r2b_zoo.data.dataset import Dataset, Epoch, Sample, Share, epoch_seeds

# Random resized crop, source: Szegedy et al., "Going Deeper with Convolutions", CVPR 2015, section 6. It is resized
# bilinearly, as in torchvision, which takes less time than the bicubic resizing that evaluation needs.
CROP_AREA = (0.08, 1.0)  # share of the image
CROP_ASPECT = (3 / 4, 4 / 3)  # width / height
CROP_ATTEMPTS = 10

# Colour is interpolated between neighbours, so the pixels at the border of a window depend on those beyond it.
CHROMA_MARGIN = 2

Encoded = dict[str, tf.Tensor]
"""A photograph before it is decoded: ``label``, int32, and what else its data set needs."""

Size = tuple[tf.Tensor, tf.Tensor]
"""Height and width of an image in pixels."""

Example = tuple[tf.Tensor, tf.Tensor]
"""Image and label."""

Window = tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]
"""Top, left, height and width of a part of an image, in pixels."""


@dataclass(frozen=True, kw_only=True)
class PhotographDataset(Dataset):
    """A data set that hands out encoded photographs, and decodes a window of one."""

    @property
    def augmentations(self) -> tuple[str, ...]:
        return ("none", "resized_crop_flip")

    @abstractmethod
    def _training_records(self, order_seed: tf.Tensor, skip: int) -> tf.data.Dataset:
        """What ``_encoded`` takes of each training photograph, in the seed's order, without the first ``skip``."""

    @abstractmethod
    def _test_records(self) -> tf.data.Dataset:
        """The same of the test photographs, in their fixed order."""

    def _encoded(self, record: Any) -> Encoded:
        """The photograph of a record; apart from reading, since it can be done for many at a time."""
        return record

    @abstractmethod
    def _size(self, encoded: Encoded) -> Size:
        """Of the photograph as people look at it; without decoding it."""

    @abstractmethod
    def _decode(self, encoded: Encoded, size: Size, window: Window, exact: bool) -> tf.Tensor:
        """A window of a photograph, uint8 (H, W, 3).

        Args:
            encoded: the photograph.
            size: of the whole photograph.
            window: what part of it.
            exact: the same bits as in the decoded whole; else the pixels at the border may differ a little, where
                that is faster.
        """

    def _training_batches(
        self, batch_size: int, augment: str, seed: int, epoch: Epoch, skip: int, share: Share
    ) -> tf.data.Dataset:
        order_seed, changes_seed = epoch_seeds(seed, epoch)

        def prepared(position: tf.Tensor, record: Any) -> Example:
            photograph = self._encoded(record)
            if augment == "none":
                return self._evaluated(photograph)
            return self._resized_crop_flip(photograph, position_seed(changes_seed, position)), photograph["label"]

        records = self._training_records(order_seed, skip * batch_size).enumerate(start=skip * batch_size)
        if share.count > 1:
            # Of the images that are left over a share could have enough for a batch.
            records = records.take((self.train_size // batch_size - skip) * batch_size)
            records = records.filter(lambda position, _: share.has(position, batch_size))
        images = records.map(prepared, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        return images.batch(batch_size // share.count, drop_remainder=True)

    def _resized_crop_flip(self, photograph: Encoded, seed: tf.Tensor) -> tf.Tensor:
        size = self._size(photograph)
        begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
            tf.stack([*size, 3]),
            bounding_boxes=tf.zeros((1, 0, 4)),
            seed=seed,
            min_object_covered=0.0,
            aspect_ratio_range=CROP_ASPECT,
            area_range=CROP_AREA,
            max_attempts=CROP_ATTEMPTS,
            use_image_if_no_bounding_boxes=True,
        )
        crop = self._decode(photograph, size, (begin[0], begin[1], extent[0], extent[1]), exact=False)
        flipped = tf.random.stateless_uniform((), position_seed(seed, 1)) < 0.5
        # Before it is resized, as bytes.
        crop = tf.cond(flipped, lambda: tf.reverse(crop, [1]), lambda: crop)
        image = self.preprocessing.resize(crop[tf.newaxis], bilinear=True)
        # One image, which the cache still holds; in whole batches it takes longer.
        return self.preprocessing.normalise(image)[0]

    def _evaluated(self, photograph: Encoded) -> Example:
        """As ``Preprocessing`` does it, to the last bit."""
        return self.preprocessing.normalise(self._centre(photograph))[0], photograph["label"]

    def _centre(self, photograph: Encoded) -> tf.Tensor:
        """What an evaluation sees of it, (1, height, width, channels), before it is normalised."""
        size = self._size(photograph)
        top, left, side = self.preprocessing.centre_window(*size)
        centre = self._decode(photograph, size, (top, left, side, side), exact=True)
        return self.preprocessing.resize(centre[tf.newaxis])

    def test_batches(self, batch_size: int) -> tf.data.Dataset:
        images = self._test_records().map(
            lambda record: self._evaluated(self._encoded(record)),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
        return images.batch(batch_size).prefetch(tf.data.AUTOTUNE)

    def test_sample(self, number: int, one_per_class: bool = False) -> Sample:
        """As every data set. The images are shown as the network sees them, before they are normalised."""
        chosen: list[Encoded] = []
        for photograph in self._test_records().map(self._encoded):
            if len(chosen) == number:
                break
            if not (one_per_class and any(photograph["label"] == other["label"] for other in chosen)):
                chosen.append(photograph)
        if one_per_class:
            chosen.sort(key=lambda photograph: int(photograph["label"]))
        resized = tf.concat([self._centre(photograph) for photograph in chosen], axis=0)
        shown = tf.cast(tf.round(tf.clip_by_value(resized, 0, 255)), tf.uint8)
        labels = np.array([int(photograph["label"]) for photograph in chosen])
        return shown.numpy(), self.preprocessing.normalise(resized).numpy(), labels


def decode_jpeg_window(jpeg: tf.Tensor, size: Size, window: Window, exact: bool, dct_method: str = "") -> tf.Tensor:
    """A window of a JPEG, uint8 (H, W, 3), without decoding what lies beyond it.

    Args:
        jpeg: contents of the file.
        size: of the whole image.
        window: what part of it.
        exact: as in ``PhotographDataset``: what the decoded whole holds there, also at the border.
        dct_method: as ``tf.io.decode_jpeg`` takes it: "" for its default, "INTEGER_ACCURATE" for the one of Pillow.
    """
    if not exact:
        return tf.io.decode_and_crop_jpeg(jpeg, tf.stack(window), channels=3, dct_method=dct_method)
    top, left, height, width = window
    first_row, first_column = tf.maximum(top - CHROMA_MARGIN, 0), tf.maximum(left - CHROMA_MARGIN, 0)
    rows = tf.minimum(top + height + CHROMA_MARGIN, size[0]) - first_row
    columns = tf.minimum(left + width + CHROMA_MARGIN, size[1]) - first_column
    wider = (first_row, first_column, rows, columns)
    image = tf.io.decode_and_crop_jpeg(jpeg, tf.stack(wider), channels=3, dct_method=dct_method)
    top, left = top - first_row, left - first_column
    return image[top : top + height, left : left + width]
