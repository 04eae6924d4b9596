"""Makes arrays that TensorFlow uses without a copy, because their memory is aligned."""

import math
from collections.abc import Sequence

import numpy as np

_BYTES = 64  # the address of an array must be a multiple of this


def aligned(shape: Sequence[int]) -> np.ndarray:
    """An uninitialised float32 array of `shape`; its address is a multiple of 64 bytes."""
    size = math.prod(shape)
    array = np.empty(size + _BYTES // 4, np.float32)
    first = -array.ctypes.data % _BYTES // 4
    return array[first : first + size].reshape(shape)
