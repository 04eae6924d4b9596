"""Arrays that TensorFlow takes as they are; others it copies."""

import math
from collections.abc import Sequence

import numpy as np

_BYTES = 64  # a multiple of which their address has to be


def aligned(shape: Sequence[int]) -> np.ndarray:
    """An uninitialised float32 array."""
    size = math.prod(shape)
    array = np.empty(size + _BYTES // 4, np.float32)
    first = -array.ctypes.data % _BYTES // 4
    return array[first : first + size].reshape(shape)
