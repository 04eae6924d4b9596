"""A binary convolution outside any model, for training."""

import ctypes
from collections.abc import Sequence
from typing import Literal, Optional

import numpy as np

from r2b_runtime.alignment import aligned
from r2b_runtime.library import checked_threads, chosen_kernels, load_library

_MOST_STRIDE = 1 << 15


class _Shape(ctypes.Structure):
    """The struct ``ConvolutionShape`` of native/convolution.h."""

    _fields_ = [
        ("images", ctypes.c_int),
        ("height", ctypes.c_int),
        ("width", ctypes.c_int),
        ("channels", ctypes.c_int),
        ("kernel_h", ctypes.c_int),
        ("kernel_w", ctypes.c_int),
        ("outputs", ctypes.c_int),
        ("stride_h", ctypes.c_int),
        ("stride_w", ctypes.c_int),
        ("same_padding", ctypes.c_int),
    ]


class Convolver:
    """Convolves the signs of images with the signs of a kernel by counting bits.

    The output equals a float convolution of ±1 exactly, because its values are whole numbers. The sign of 0 is +1.
    Every call packs its kernel into bits again, because training changes the kernel between calls. Calls from several
    threads take turns; a call releases Python's GIL.

    Args:
        num_threads: number of threads, 1 to 256; at most one per core is used.
        kernels: a name of `available_kernels()`; None: the kernels that the environment's R2B_RUNTIME_KERNELS names, or
            the best ones if it is not set.

    Raises:
        ValueError: the number of threads is invalid, or the kernels do not run here.
        MemoryError: there is not enough memory.
    """

    def __init__(self, num_threads: int = 1, kernels: Optional[str] = None) -> None:
        self._made_of = checked_threads(num_threads), kernels
        self._library = load_library()
        self._convolver = self._library.r2b_runtime_create_convolver(chosen_kernels(kernels), self._made_of[0])
        if not self._convolver:
            raise MemoryError("there is not enough memory for the threads")

    def __reduce__(self) -> tuple[type["Convolver"], tuple[int, Optional[str]]]:
        return type(self), self._made_of

    def __call__(
        self,
        images: np.ndarray,
        kernel: np.ndarray,
        strides: Sequence[int] = (1, 1),
        padding: Literal["same", "valid"] = "same",
    ) -> np.ndarray:
        """The convolution, float32 (N, H', W', O).

        Args:
            images: (N, H, W, C); other types than float32 are converted to it.
            kernel: (height, width, C, O); other types than float32 are converted to it.
            strides: vertical and horizontal stride, each 1 to 32,768.
            padding: `"same"`, which pads with zeros, or `"valid"`.

        Raises:
            ValueError: the arguments do not form a convolution; with `"valid"`, the kernel is larger than the images;
                `images` or `kernel` has more than 2**29 elements; or memory runs out.
        """
        images, kernel = (np.ascontiguousarray(array, np.float32) for array in (images, kernel))
        sizes = _output_size(images, kernel, strides, padding)
        output = aligned((len(images), *sizes, kernel.shape[3]))
        if len(images):
            shape = _Shape(*images.shape, *kernel.shape[:2], kernel.shape[3], *strides, padding == "same")
            pointers = (array.ctypes.data_as(ctypes.c_void_p) for array in (images, kernel, output))
            error = self._library.r2b_runtime_convolve(self._convolver, ctypes.byref(shape), *pointers)
            if error:
                raise ValueError(error.decode())
        return output

    def __del__(self) -> None:
        convolver, self._convolver = getattr(self, "_convolver", None), None
        if convolver:
            self._library.r2b_runtime_destroy_convolver(convolver)


def _output_size(images: np.ndarray, kernel: np.ndarray, strides: Sequence[int], padding: str) -> list[int]:
    """Height and width of a convolution's output. Raises ValueError if the arguments do not form a convolution."""
    if images.ndim != 4 or kernel.ndim != 4 or images.shape[3] != kernel.shape[2] or 0 in kernel.shape:
        raise ValueError(
            "images must be (N, H, W, C) and the kernel (height, width, C, O) with the same C, "
            f"received {images.shape} and {kernel.shape}"
        )
    if padding not in ("same", "valid"):
        raise ValueError(f"padding must be 'same' or 'valid', received {padding!r}")
    if len(strides) != 2 or not all(1 <= stride <= _MOST_STRIDE for stride in strides):
        raise ValueError(f"strides must be two numbers from 1 to {_MOST_STRIDE}; received {tuple(strides)}")
    sizes = [
        -(-size // stride) if padding == "same" else (size - window) // stride + 1
        for size, window, stride in zip(images.shape[1:3], kernel.shape[:2], strides)
    ]
    if min(sizes) < 1:
        raise ValueError(
            f"a kernel of {kernel.shape[0]}x{kernel.shape[1]} does not fit images of "
            f"{images.shape[1]}x{images.shape[2]}; give larger images or padding='same'"
        )
    return sizes
