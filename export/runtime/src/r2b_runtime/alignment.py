"""Makes arrays that TensorFlow uses without a copy, because their memory is aligned."""

import math
from collections.abc import Sequence

import numpy as np

_BYTES = 64  # their address must be a multiple of this


def aligned(shape: Sequence[int]) -> np.ndarray:
    """An uninitialised, aligned float32 array."""
    size = math.prod(shape)
    array = np.empty(size + _BYTES // 4, np.float32)
    first = -array.ctypes.data % _BYTES // 4
    return array[first : first + size].reshape(shape)
