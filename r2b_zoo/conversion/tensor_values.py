"""Converts between real numbers and the stored values of a model file's input and output.

r2b_zoo and r2b_runtime have identical copies of this file, because neither depends on the other; a test compares them.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike

_WHITE = 255


def check(name: str, dtype: DTypeLike, scale: float, is_input: bool) -> None:
    """Raises ValueError if a tensor cannot hold an image or probabilities.

    Args:
        name: name of the file, for the message.
        dtype: NumPy's type of the tensor.
        scale: scale of its quantisation; 0 if it is not quantised.
        is_input: whether it is the input.
    """
    kind = np.dtype(dtype)
    role = "input" if is_input else "output"
    if kind.kind not in "iuf":
        raise ValueError(
            f"the {role} of {name} must hold numbers; it holds {kind.name}: convert it with another {role}"
        )
    if not math.isfinite(scale) or scale < 0:
        raise ValueError(
            f"the scale of the {role} of {name} must be finite and not negative; it is {scale}: convert the model again"
        )
    if is_input and scale == 0 and kind.kind != "f" and np.iinfo(kind).max < _WHITE:
        raise ValueError(
            f"the input of {name} is {kind.name} without a scale, which cannot hold 0–{_WHITE}: convert it with uint8, "
            "float32 or a scale"
        )


def check_normalisation(name: str, dtype: DTypeLike, scale: float, mean: Sequence[float], std: Sequence[float]) -> None:
    """Raises ValueError if mean or std change the pixel values although the input is an integer without a scale.

    A model with such an input takes the image unchanged, in 0–255, and normalises it itself.
    """
    if np.dtype(dtype).kind in "iu" and scale == 0 and (any(mean) or any(value != 1 for value in std)):
        raise ValueError(
            f"the input of {name} is {np.dtype(dtype).name} without a scale, so pixel values are passed unchanged, and "
            f"the preprocessing must have mean 0 and std 1; received mean={tuple(mean)}, std={tuple(std)}"
        )


def stored(values: np.ndarray, dtype: DTypeLike, scale: float = 0, zero_point: int = 0) -> np.ndarray:
    """Real numbers as an input of type `dtype` stores them.

    A float input stores them unchanged. An integer input quantises them if it has a scale; else it rounds them, and
    clips them to 0–255.
    """
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return values.astype(kind, copy=False)
    if scale == 0:
        return np.clip(np.rint(values), 0, min(_WHITE, np.iinfo(kind).max)).astype(kind)
    limits = np.iinfo(kind)
    steps = np.rint(values / np.float32(scale)).astype(np.float64) + zero_point
    return np.clip(steps, limits.min, limits.max).astype(kind)


def real(values: np.ndarray, scale: float = 0, zero_point: int = 0) -> np.ndarray:
    """The stored values of an output as real numbers, float32."""
    if values.dtype.kind == "f" or scale == 0:
        return values.astype(np.float32, copy=False)
    return (values.astype(np.float32) - zero_point) * np.float32(scale)
