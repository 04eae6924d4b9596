"""Resizes images as TensorFlow's operators do, without TensorFlow."""

import ctypes
from collections.abc import Sequence
from typing import Optional, Union

import numpy as np

from r2b_runtime.alignment import aligned
from r2b_runtime.library import chosen_kernels, load_library

_MOST_PIXELS = 1 << 24  # along an axis; the same limit as in native/resample.h


class _Resizing(ctypes.Structure):
    """The struct ``Resizing`` of native/resample.h."""

    _fields_ = [
        ("channels", ctypes.c_int),
        ("bytes", ctypes.c_int),
        ("height", ctypes.c_int),
        ("width", ctypes.c_int),
        ("bilinear", ctypes.c_int),
        ("streamed", ctypes.c_int),
        ("mean", ctypes.c_void_p),
        ("std", ctypes.c_void_p),
    ]


def resize(
    image: np.ndarray,
    height: int,
    width: int,
    *,
    bilinear: bool = False,
    mirrored: bool = False,
    mean: Optional[Sequence[float]] = None,
    std: Optional[Sequence[float]] = None,
    kernels: Optional[str] = None,
) -> np.ndarray:
    """Resizes an image, and normalises it if `mean` and `std` are given.

    The result has the same bits as that of TensorFlow's operators on x86-64, called one after the other. The work is
    done in the calling thread, without Python's GIL.

    Args:
        image: uint8 or float32 (H, W, C) of 1 or 3 channels.
        height: rows of the result.
        width: columns of the result.
        bilinear: True: bilinear between the centres of pixels, as `ResizeBilinear(half_pixel_centers=True)`. False:
            bicubic with a = -0.75, as `ResizeBicubic()`; sample i of the result is taken at position
            i * input size / output size of the image. Model files use this bicubic rule.
        mirrored: flip the image horizontally first.
        mean: one number per channel, in the unit of the pixels; the result is (value - mean) / std.
        std: one number per channel, in the same unit.
        kernels: a name of `available_kernels()`; None: the kernels that the environment's R2B_RUNTIME_KERNELS names, or
            the best ones if it is not set.

    Returns:
        float32 (height, width, C).

    Raises:
        ValueError: the image has another type or shape, or no pixels; the size is not within 1 to 2^24; only one of
            `mean` and `std` is given, or they do not have one number per channel; the kernels do not run here.
    """
    return _resized([image], [mirrored], height, width, bilinear, mean, std, kernels, streamed=False)[0]


def resize_batch(
    images: Sequence[np.ndarray],
    height: int,
    width: int,
    *,
    mirrored: Union[Sequence[bool], np.ndarray],
    bilinear: bool = False,
    mean: Optional[Sequence[float]] = None,
    std: Optional[Sequence[float]] = None,
    kernels: Optional[str] = None,
) -> np.ndarray:
    """Resizes many images of one dtype and any sizes, for training.

    The AVX kernels write the batch with non-temporal stores. These bypass the processor's caches, into which a training
    batch would not fit.

    Args:
        images: N images, all uint8 or all float32, with the same number of channels.
        height, width, bilinear, mean, std, kernels: as in `resize`.
        mirrored: for each of the N images, whether to flip it horizontally first.

    Returns:
        float32 (N, height, width, C).

    Raises:
        ValueError: as in `resize`; or there are no images, their dtypes or channels differ, or `mirrored` has another
            length.
    """
    return _resized(images, mirrored, height, width, bilinear, mean, std, kernels, streamed=True)


def _resized(
    images: Sequence[np.ndarray],
    mirrored: Union[Sequence[bool], np.ndarray],
    height: int,
    width: int,
    bilinear: bool,
    mean: Optional[Sequence[float]],
    std: Optional[Sequence[float]],
    kernels: Optional[str],
    streamed: bool,
) -> np.ndarray:
    images = [_checked(image) for image in images]
    dtype, channels = _kind(images, mirrored)
    if not (1 <= height <= _MOST_PIXELS and 1 <= width <= _MOST_PIXELS):
        raise ValueError(f"height and width must be 1 to {_MOST_PIXELS}; received {height} and {width}")
    moments = _moments(mean, std, channels)
    addresses: list[Optional[int]] = [values.ctypes.data for values in moments] or [None, None]
    resizing = _Resizing(channels, dtype == np.uint8, height, width, bool(bilinear), streamed, *addresses)
    # Each row is a struct ResizedImage of native/resample.h.
    table = np.array(
        [
            (image.ctypes.data, image.strides[0] // dtype.itemsize, *image.shape[:2], bool(is_mirrored))
            for image, is_mirrored in zip(images, mirrored)
        ],
        np.int64,
    )
    batch = aligned((len(images), height, width, channels))
    error = load_library().r2b_runtime_resize(
        chosen_kernels(kernels), ctypes.byref(resizing), table.ctypes.data, len(images), batch.ctypes.data
    )
    if error:
        raise ValueError(error.decode())
    return batch


def _kind(images: Sequence[np.ndarray], mirrored: Union[Sequence[bool], np.ndarray]) -> tuple[np.dtype, int]:
    """The dtype and number of channels of a batch; raises `ValueError` if they or the lengths differ."""
    kinds = {(image.dtype, image.shape[2]) for image in images}
    if len(kinds) != 1 or len(images) != len(mirrored):
        raise ValueError(
            "a batch needs images of one dtype and number of channels, and a flag in mirrored for each; received "
            f"{len(images)} images of {len(kinds)} kinds and {len(mirrored)} flags"
        )
    return kinds.pop()


def _moments(mean: Optional[Sequence[float]], std: Optional[Sequence[float]], channels: int) -> list[np.ndarray]:
    """`[mean, std]`, each float32 (channels,); an empty list if neither is given."""
    if mean is None and std is None:
        return []
    moments = [np.array(values, np.float32) for values in (mean, std)]
    if any(values.shape != (channels,) for values in moments):
        raise ValueError(f"mean and std need one number per channel ({channels}) each; received {mean} and {std}")
    return moments


def _checked(image: np.ndarray) -> np.ndarray:
    """The image with each row contiguous in memory; raises `ValueError` if its shape or dtype is not supported."""
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[2] not in (1, 3) or 0 in image.shape or image.dtype not in (np.uint8, np.float32):
        raise ValueError(
            "an image must be uint8 or float32 (height, width, 1 or 3) with at least one pixel; "
            f"received {image.dtype} {image.shape}"
        )
    size = image.itemsize
    if image.strides[1:] != (image.shape[2] * size, size) or image.strides[0] % size:
        image = np.ascontiguousarray(image)
    return image
