"""Measures which values a file's float tensors take on calibration images, and chooses int8 scales for them."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Optional, Union

import numpy as np

from r2b_zoo.conversion import tflite_engine
from r2b_zoo.data.pixels import RANGE_OF_BICUBIC
from r2b_zoo.data.preprocessing import Preprocessing

FEWEST_IMAGES = 16
"""Fewer images would not show the range of the values that occur."""
MOST_IMAGES = 256
"""The command line uses at most this many images; more would change the ranges little and cost time."""

Images = Union[np.ndarray, Iterable[np.ndarray]]

INT8 = np.iinfo(np.int8)
_STEPS = int(INT8.max) - int(INT8.min)
_BINS = 4096
_RANGES_TRIED = 64
_SMALLEST_SHARE = 0.25
_SMALLEST_REACH = 2.0**-40


class CalibrationError(ValueError):
    """The calibration images are missing, too few, all equal, of another shape than the model takes, not prepared for
    it, or not finite."""


@dataclass(frozen=True)
class Quantisation:
    """Maps an int8 number to a real value: value = scale · (number - zero_point)."""

    scale: float
    zero_point: int

    @classmethod
    def of_range(cls, low: float, high: float) -> "Quantisation":
        """The quantisation whose numbers cover the values from low ≤ 0 to high ≥ 0, and represent 0 exactly."""
        scale = float(np.float32(max(high - low, _SMALLEST_REACH) / _STEPS))
        zero_point = round(int(INT8.min) - low / scale)
        return cls(scale, min(max(zero_point, int(INT8.min)), int(INT8.max)))


class Histogram:
    """How often values occur, in bins of equal width.

    The bins cover a range that is symmetric about 0. The range doubles when a value lies outside it.

    Attributes:
        counts: number of values in each bin, int64.
        low: the smallest value, or 0 if that is smaller.
        high: the largest value, or 0 if that is larger.
    """

    def __init__(self) -> None:
        self.counts = np.zeros(_BINS, np.int64)
        self.low = self.high = 0.0
        self._reach = 0.0
        self._sums: Union[float, np.ndarray] = 0.0
        self._pixels = 0

    @property
    def means(self) -> np.ndarray:
        """The mean of each channel, float64 (channels,)."""
        return np.asarray(self._sums / self._pixels)

    def add(self, values: np.ndarray) -> None:
        """Counts the values of an array (..., channels), which must be finite."""
        flat = values.ravel()
        self._sums = self._sums + values.reshape(-1, values.shape[-1]).sum(axis=0, dtype=np.float64)
        self._pixels += flat.size // values.shape[-1]
        self.low, self.high = min(self.low, float(flat.min())), max(self.high, float(flat.max()))
        most = max(-self.low, self.high, _SMALLEST_REACH)
        if not self._reach:
            self._reach = 2.0 ** math.ceil(math.log2(most))
        while self._reach < most:
            pairs = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.pad(pairs, _BINS // 4)
            self._reach *= 2
        bins = ((flat / np.float32(self._reach) + 1) * (_BINS / 2)).astype(np.int32)
        self.counts += np.bincount(np.minimum(bins, _BINS - 1), minlength=_BINS)

    def whole_range(self) -> Quantisation:
        """The quantisation that clips no value that was seen."""
        return Quantisation.of_range(self.low, self.high)

    def least_error(self) -> Quantisation:
        """The quantisation with the least mean squared error; values are rounded, and clipped to its range.

        The ranges to choose from have ends at 25–100 % of the smallest and of the largest value.
        """
        centres = (np.arange(_BINS) + 0.5) * (2 * self._reach / _BINS) - self._reach
        shares = np.linspace(_SMALLEST_SHARE, 1, _RANGES_TRIED)
        lows, highs = self.low * shares, self.high * shares
        below = np.minimum(centres - lows[:, np.newaxis], 0) ** 2 @ self.counts
        above = np.maximum(centres - highs[:, np.newaxis], 0) ** 2 @ self.counts
        # Rounding to steps of s has a mean squared error of s² / 12.
        rounding = ((highs - lows[:, np.newaxis]) / _STEPS) ** 2 / 12 * self.counts.sum()
        best_low, best_high = np.unravel_index(
            np.argmin(below[:, np.newaxis] + above + rounding), (_RANGES_TRIED, _RANGES_TRIED)
        )
        return Quantisation.of_range(float(lows[best_low]), float(highs[best_high]))


def histograms(
    tflite: bytes, tensors: Sequence[int], images: Iterable[np.ndarray], engine: Optional[str] = None
) -> Mapping[int, Histogram]:
    """Histograms of a file's outputs on images.

    Args:
        tflite: a file with one input, and one float output for each of ``tensors``, in their order.
        tensors: a number for each output; these numbers are the keys of the result.
        images: batches as ``checked`` returns them.
        engine: as for ``TFLiteEngine``.
    """
    found = {tensor: Histogram() for tensor in tensors}
    run = tflite_engine.SeveralOutputs(tflite, engine=engine)
    for batch in images:
        for image in batch:
            for tensor, values in zip(tensors, run.outputs(image), strict=True):
                found[tensor].add(values)
    return found


def checked(
    images: Optional[Images], shape: tuple[int, ...], preprocessing: Optional[Preprocessing] = None
) -> list[np.ndarray]:
    """The calibration images as batches of float32 (n, height, width, channels).

    Args:
        images: an array (N, height, width, channels), or several such arrays.
        shape: height, width and channels that the model takes.
        preprocessing: how images are prepared for the model, if that is known.

    Raises:
        CalibrationError: there are none or fewer than ``FEWEST_IMAGES``, or all are equal; they have another shape; a
            value is not finite, or lies outside the range of values that the preprocessing gives.
    """
    if images is None:
        raise CalibrationError(
            "real_part='int8' needs calibration images, which show what values occur: give "
            f"calibration=images, at least {FEWEST_IMAGES} images like those that the network was trained on, prepared "
            "for its input."
        )
    batches = list(_batches(images, shape))
    count = sum(map(len, batches))
    if count < FEWEST_IMAGES:
        raise CalibrationError(f"Calibration needs at least {FEWEST_IMAGES} images; received {count}.")
    first = batches[0][0]
    if all((batch == first).all() for batch in batches):
        raise CalibrationError(f"Calibration needs different images; all {count} are equal.")
    if preprocessing is not None:
        _check_prepared(batches, preprocessing)
    return batches


def _batches(images: Images, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    for group in [images] if isinstance(images, np.ndarray) else images:
        batch = np.asarray(group, np.float32)
        if batch.shape[1:] != shape:
            raise CalibrationError(
                f"Calibration images must have the shape (N, {', '.join(map(str, shape))}) that the model takes; "
                f"received {batch.shape}."
            )
        if not np.isfinite(batch).all():
            raise CalibrationError("Calibration images must be finite numbers; some are NaN or infinite.")
        if len(batch):
            yield batch


def _check_prepared(batches: Sequence[np.ndarray], preprocessing: Preprocessing) -> None:
    ends = (np.array(RANGE_OF_BICUBIC)[:, np.newaxis] - preprocessing.mean) / preprocessing.std
    low, high = ends.min(axis=0), ends.max(axis=0)
    found = [(float(batch.min()), float(batch.max())) for batch in batches]
    if any((batch < low).any() or (batch > high).any() for batch in batches):
        raise CalibrationError(
            f"Calibration images must be prepared by the model's preprocessing, which gives values from "
            f"{low.min():.3g} to {high.max():.3g}; received values from {min(low for low, _ in found):.3g} to "
            f"{max(high for _, high in found):.3g}: call preprocessing(image) on each."
        )
