"""Batches of photographs at a network's size, by r2b-runtime: TensorFlow's bits in less time.

The images of a batch have sizes of their own, so they cannot be stacked. Data sets can batch them in lists of one
tensor each, which are handed on without a copy. A window of each is resized straight into the batch.
"""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from r2b_zoo.data.preprocessing import Preprocessing

_ANY_SIZE = (-1, -1, 3)


def listed(image: tf.Tensor) -> tf.Tensor:
    """An image, uint8 (H, W, 3), in a list, a scalar, which data sets can batch with others."""
    empty = tf.raw_ops.EmptyTensorList(element_shape=_ANY_SIZE, max_num_elements=1, element_dtype=tf.uint8)
    return tf.raw_ops.TensorListPushBack(input_handle=empty, tensor=image)


def unlisted(lists: tf.Tensor, most: int) -> list[tf.Tensor]:
    """The images of a batch of ``listed`` ones, (N,), and the last of them again until there are ``most``."""
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
    """What ``Preprocessing.resize`` and ``normalise`` make of a window of each image of a batch.

    Args:
        images: uint8 (H, W, 3) each, N or more, of which the first N are used: a graph has as many for every batch.
        windows: top, left, height and width of the windows, int32 (N, 4).
        mirrored: which of them are mirrored before, bool (N,).
        preprocessing: what size, mean and deviation.
        bilinear: as ``Preprocessing.resize`` takes it.

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
