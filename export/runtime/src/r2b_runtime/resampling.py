"""Images in another size, as TensorFlow's operators make them, without TensorFlow."""

import ctypes

import numpy as np

from r2b_runtime.alignment import aligned
from r2b_runtime.library import chosen_kernels, load_library


class _Shape(ctypes.Structure):
    """ResizeShape of native/resample.h."""

    _fields_ = [
        ("height", ctypes.c_int),
        ("width", ctypes.c_int),
        ("channels", ctypes.c_int),
        ("stride", ctypes.c_int),
        ("bytes", ctypes.c_int),
        ("out_height", ctypes.c_int),
        ("out_width", ctypes.c_int),
        ("bilinear", ctypes.c_int),
        ("mirrored", ctypes.c_int),
    ]


def resize(image, height, width, *, bilinear=False, mirrored=False, mean=None, std=None, out=None, kernels=None):
    """An image in another size, and normalised where `mean` and `std` are given; one thread, without Python's lock.

    Gives the bits that TensorFlow gives on x86-64, for the same operations one after the other.

    Args:
        image: uint8 or float32 (H, W, C) of 1 or 3 channels.
        height: rows of the result.
        width: columns of the result.
        bilinear: between the centres of pixels, as `ResizeBilinear(half_pixel_centers=True)`. Else bicubic,
            corner-aligned samples, a = -0.75, as `ResizeBicubic()`: the rule that model files name.
        mirrored: exchange left and right first.
        mean: per channel; the result is (value - mean) / std.
        std: per channel.
        out: where to write it: C-contiguous float32 (height, width, C); None: a new array.
        kernels: a name of `available_kernels()`; None: what R2B_RUNTIME_KERNELS says, else the best.

    Returns:
        float32 (height, width, C).

    Raises:
        ValueError: no such image, size or `out`; `mean` without `std`; kernels that do not run here.
    """
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[2] not in (1, 3) or 0 in image.shape or image.dtype not in (np.uint8, np.float32):
        raise ValueError(
            "an image must be uint8 or float32 (height, width, 1 or 3) with at least one pixel; "
            f"received {image.dtype} {image.shape}"
        )
    if height < 1 or width < 1:
        raise ValueError(f"height and width must be at least 1; received {height} and {width}")
    channels, size = image.shape[2], image.itemsize
    if image.strides[1:] != (channels * size, size) or image.strides[0] % size:
        image = np.ascontiguousarray(image)
    shape = (height, width, channels)
    if out is None:
        out = aligned(shape)
    elif out.shape != shape or out.dtype != np.float32 or not out.flags.c_contiguous or not out.flags.writeable:
        raise ValueError(f"out must be C-contiguous float32 {shape}; received {out.dtype} {out.shape}")
    moments = None, None
    if mean is not None or std is not None:
        moments = [np.array(values, np.float32) for values in (mean, std)]
        if any(values.shape != (channels,) for values in moments):
            raise ValueError(f"mean and std need one number per channel ({channels}) each; received {mean} and {std}")
    described = _Shape(
        *image.shape, image.strides[0] // size, image.dtype == np.uint8, height, width, bool(bilinear), bool(mirrored)
    )
    load_library().r2b_runtime_resize(
        chosen_kernels(kernels),
        ctypes.byref(described),
        image.ctypes.data,
        *(None if values is None else values.ctypes.data for values in moments),
        out.ctypes.data,
    )
    return out
