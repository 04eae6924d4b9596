"""Resizes batches of photographs with r2b-runtime, which gives the same bits as TensorFlow in less time.

The images of a batch have different sizes, so they cannot be stacked. Each image is therefore put into a list of one
tensor: tf.data can batch such lists, without copying the images. A window of each image is resized directly into the
batch.
"""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from r2b_zoo.data.preprocessing import Preprocessing

_ANY_SIZE = (-1, -1, 3)


def listed(image: tf.Tensor) -> tf.Tensor:
    """An image, uint8 (H, W, 3), in a TensorList: a scalar, which tf.data can batch with others."""
    empty = tf.raw_ops.EmptyTensorList(element_shape=_ANY_SIZE, max_num_elements=1, element_dtype=tf.uint8)
    return tf.raw_ops.TensorListPushBack(input_handle=empty, tensor=image)


def unlisted(lists: tf.Tensor, most: int) -> list[tf.Tensor]:
    """The images in a batch (N,) from ``listed``; the last image is repeated until there are ``most``."""
    filled = tf.gather(lists, tf.minimum(tf.range(most), tf.size(lists) - 1))
    return [
        tf.raw_ops.TensorListGetItem(input_handle=one, index=0, element_shape=_ANY_SIZE, element_dtype=tf.uint8)
        for one in tf.unstack(filled, most)
    ]


def prepared(
    images: Sequence[tf.Tensor],
    windows: tf.Tensor,
    mirrored: tf.Tensor,
    preprocessing: Preprocessing,
    bilinear: bool,
) -> tf.Tensor:
    """Applies ``Preprocessing.resize`` and ``normalise`` to a window of each image of a batch.

    Args:
        images: N or more images, uint8 (H, W, 3); the first N are used. A graph has a fixed number of images, but the
            last batch may be smaller.
        windows: top, left, height and width of the windows, int32 (N, 4).
        mirrored: which windows to flip horizontally before they are resized, bool (N,).
        preprocessing: gives size, mean and standard deviation.
        bilinear: see ``Preprocessing.resize``.

    Returns:
        float32 (N, height, width, 3).
    """
    import r2b_runtime

    def resized(windows: np.ndarray, mirrored: np.ndarray, *images: np.ndarray) -> np.ndarray:
        seen = [
            image[top : top + height, left : left + width]
            for image, (top, left, height, width) in zip(images, windows.tolist(), strict=False)
        ]
        return r2b_runtime.resize_batch(
            seen,
            preprocessing.height,
            preprocessing.width,
            mirrored=mirrored,
            bilinear=bilinear,
            mean=preprocessing.mean,
            std=preprocessing.std,
        )

    batch = tf.numpy_function(resized, [windows, mirrored, *images], tf.float32, stateful=False)
    return tf.ensure_shape(batch, (None, *preprocessing.input_shape))
