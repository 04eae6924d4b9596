"""ImageNet (ILSVRC 2012), as TensorFlow Datasets prepares it from the archives."""

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Optional

import tensorflow as tf

from r2b_zoo.data import resampling
from r2b_zoo.data.imagenet_classes import imagenet_classes
from r2b_zoo.data.images import PathLike
from r2b_zoo.data.photographs import (
    Encoded,
    Example,
    Part,
    PhotographDataset,
    Size,
    Window,
    decode_jpeg_window,
    jpeg_crop,
)
from r2b_zoo.data.prepared import prepared
from r2b_zoo.data.preprocessing import IMAGENET
from r2b_zoo.data.validation import check_share
from r2b_zoo.system.machine import available_cores

if TYPE_CHECKING:
    import tensorflow_datasets as tfds

# An epoch reads FILES_AT_A_TIME files at a time in random order, and shuffles in a buffer of SHUFFLED photographs,
# which take about 220 MB. (TensorFlow Datasets has already distributed the photographs randomly over the files.)
FILES_AT_A_TIME = 16
SHUFFLED = 2048
# Test batches that are prepared at the same time, each on all cores; more would only fill memory.
BATCHES_AT_A_TIME = 4

_HINT = (
    " Before that, register at image-net.org, download ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar, and put "
    "them into downloads/manual in the folder of the data sets."
)


def imagenet(data_dir: Optional[PathLike] = None, image_size: int = IMAGENET.height) -> "ImageNet":
    """1,281,167 photographs to train and 50,000 (the validation split) to test, in 1,000 classes.

    Args:
        data_dir: folder of the data sets that TensorFlow Datasets has prepared; None: its default folder.
        image_size: height and width of a network's input.

    Raises:
        ValueError: the data set is not prepared (the message gives the command and the place of the archives), or has
            another number of classes.

    Source: Russakovsky et al., "ImageNet Large Scale Visual Recognition Challenge", IJCV 2015.
    """
    builder = prepared("imagenet2012", data_dir, _HINT)
    found = builder.info.features["label"].num_classes
    if found != len(imagenet_classes()):
        raise ValueError(
            f"{builder.data_dir} has {found} classes and ImageNet has {len(imagenet_classes())}: prepare the "
            "complete data set, or put photographs of your own classes into folders and use the data set 'folder'."
        )
    return ImageNet(
        name="imagenet",
        title="ImageNet (ILSVRC 2012)",
        class_names=tuple(name for _, name in imagenet_classes()),
        preprocessing=IMAGENET.with_size(image_size, image_size),
        version=str(builder.version),
        builder=builder,
    )


@dataclass(frozen=True, kw_only=True)
class ImageNet(PhotographDataset):
    """Photographs in the records of TensorFlow Datasets, decoded to the pixels that TensorFlow Datasets gives.

    Attributes:
        builder: the builder of TensorFlow Datasets, which knows the files and their numbers of records.
        apart: share of the training photographs that is held out and replaces the test split; 0 if none is.
    """

    builder: "tfds.core.DatasetBuilder" = field(repr=False)
    apart: float = 0.0

    def held_out(self, share: float) -> "ImageNet":
        """Holds out the same share of every file instead of every class.

        The class of a photograph is known only after reading it. TensorFlow Datasets has distributed the photographs
        randomly over the files, so the held-out photographs are a random sample. A class has 732 to 1,300 photographs,
        so a share of 0.02 or more almost certainly includes some of each class.
        """
        check_share(share)
        split = replace(self, apart=share)
        if not (share and split.test_size and split.train_size):
            raise ValueError(
                f"validation={share} leaves no photograph on one side: there are {self.train_size} to train on, in "
                f"{len(self._files('train'))} files. Choose another share, or validation=0 for none."
            )
        return split

    @property
    def train_size(self) -> int:
        return int(self.builder.info.splits["train"].num_examples) - (self.test_size if self.apart else 0)

    @property
    def test_size(self) -> int:
        if self.apart:
            return sum(int(number * self.apart) for number in self.builder.info.splits["train"].shard_lengths)
        return int(self.builder.info.splits["validation"].num_examples)

    def _side(self, path: tf.Tensor, is_tested: bool) -> tf.data.Dataset:
        """The held-out records of a training file if ``is_tested``, else the others.

        Record i is held out if ⌊share · (i + 1)⌋ > ⌊share · i⌋.
        """

        def is_wanted(i: tf.Tensor, _: tf.Tensor) -> tf.Tensor:
            share = tf.constant(self.apart, tf.float64)
            before, after = (tf.floor(share * tf.cast(number, tf.float64)) for number in (i, i + 1))
            return (after > before) == is_tested

        return tf.data.TFRecordDataset(path).enumerate().filter(is_wanted).map(lambda _, record: record)

    def _files(self, split: str) -> list[str]:
        return [str(path) for path in self.builder.info.splits[split].filepaths]

    def _encoded(self, record: tf.Tensor) -> Encoded:
        """Parses a record, string (), or a batch of records, string (N,)."""
        features = tf.io.parse_example(
            record, {"image": tf.io.FixedLenFeature([], tf.string), "label": tf.io.FixedLenFeature([], tf.int64)}
        )
        return {"jpeg": features["image"], "label": tf.cast(features["label"], tf.int32)}

    def _training_records(self, order_seed: tf.Tensor, skip: int) -> tf.data.Dataset:
        files = tf.random.experimental.stateless_shuffle(self._files("train"), order_seed)
        records = tf.data.Dataset.from_tensor_slices(files).interleave(
            partial(self._side, is_tested=False) if self.apart else tf.data.TFRecordDataset,
            cycle_length=FILES_AT_A_TIME,
            num_parallel_calls=available_cores(),
            deterministic=True,
        )

        # Call the operator behind ``Dataset.shuffle``, because ``shuffle`` itself also uses the global seed.
        seed, other_seed = tf.unstack(tf.cast(order_seed, tf.int64))
        shuffled = tf.raw_ops.ShuffleDataset(
            input_dataset=tf.data.experimental.to_variant(records),
            buffer_size=tf.constant(SHUFFLED, tf.int64),
            seed=seed,
            seed2=other_seed,
            output_types=[tf.string],
            output_shapes=[()],
            reshuffle_each_iteration=False,
        )
        return tf.data.experimental.from_variant(shuffled, records.element_spec).skip(skip)

    def _test_records(self) -> tf.data.Dataset:
        if self.apart:
            return tf.data.Dataset.from_tensor_slices(self._files("train")).flat_map(
                partial(self._side, is_tested=True)
            )
        return tf.data.TFRecordDataset(self._files("validation"))

    def _test_batches(self, batch_size: int) -> tf.data.Dataset:
        if not self._is_resized_in_batches:
            return super()._test_batches(batch_size)
        batches = self._test_records().batch(batch_size)
        return batches.map(
            partial(self._centres, min(batch_size, self.test_size)),
            num_parallel_calls=BATCHES_AT_A_TIME,
            deterministic=True,
        )

    def _centres(self, most: int, records: tf.Tensor) -> Example:
        """Prepares the centre squares of N ≤ ``most`` records, with fewer operators than one by one needs."""
        number = tf.size(records)
        # The graph decodes a fixed number of photographs, so a smaller batch is padded with photographs of one pixel.
        lacking = tf.fill([most - number], _pixel())
        records = tf.cond(number == most, lambda: records, lambda: tf.concat([records, lacking], axis=0))
        photographs = self._encoded(records)
        jpegs = tf.unstack(photographs["jpeg"], most)
        sizes = tf.stack([tf.image.extract_jpeg_shape(jpeg) for jpeg in jpegs])[:, :2]
        crops, within = jpeg_crop(sizes, self.preprocessing.centre_window(sizes))
        parts = [
            tf.io.decode_and_crop_jpeg(jpeg, crop, channels=3)
            for jpeg, crop in zip(jpegs, tf.unstack(crops, most), strict=True)
        ]
        mirrored = tf.zeros([number], tf.bool)
        images = resampling.prepared(parts, within[:number], mirrored, self.preprocessing, bilinear=False)
        return images, photographs["label"][:number]

    def _size(self, encoded: Encoded) -> Size:
        return tf.image.extract_jpeg_shape(encoded["jpeg"])[:2]

    def _decode(self, encoded: Encoded, size: Size, window: Window) -> Part:
        return decode_jpeg_window(encoded["jpeg"], size, window)


def _pixel() -> bytes:
    """A record of a photograph of one pixel."""
    with tf.init_scope():
        jpeg = tf.io.encode_jpeg(tf.zeros((1, 1, 3), tf.uint8)).numpy()
    features = {
        "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[jpeg])),
        "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[0])),
    }
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()
