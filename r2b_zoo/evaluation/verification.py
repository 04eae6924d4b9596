"""Verifies, on images, that a ``.tflite`` computes the same as its Keras model.

A file whose real convolutions and classifier are int8 (an int8 file) cannot compute the same: rounding to 8 bits
changes activations, which flips some signs and so changes some answers. Such a file is verified by its loss of top-1
accuracy instead: the share of images that only the Keras model classifies correctly, minus the share that only the file
classifies correctly.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Optional, Union

import numpy as np
import tensorflow as tf

from r2b_zoo.conversion import file_tensors, int8, metadata
from r2b_zoo.conversion.tflite_engine import RUNTIME, TFLiteEngine, default_engine
from r2b_zoo.data.preprocessing import Preprocessing
from r2b_zoo.evaluation import rounding
from r2b_zoo.evaluation.accuracy import check_numbers
from r2b_zoo.system.short_repr import short_repr

# Rounding may flip a sign, which changes probabilities and sometimes the predicted class (rounding.py). An image for
# which model and file give different answers is undecided if rounding explains the difference. All other images are
# decided. If the answers differ for too many of them, or differ too much, the file has a defect.
MIN_AGREEMENT = 0.995
"""Minimum share of decided images with the same predicted class."""
MAX_MEAN_DIFFERENCE = 1e-3
"""Largest allowed mean absolute difference of the probabilities, over decided images and classes."""

MIN_DECIDED = 0.5
"""Minimum share of decided images among all images; with a smaller share, equal answers prove nothing."""
MOST_UNEXPLAINED = 8
"""After this many images with unexplained differences, ``rounding`` examines no others: all count as decided."""

MAX_LOSS = 0.5
"""Maximum loss of top-1, in percentage points, of an int8 file against its Keras model."""

BATCH_SIZE = 32

THREADS = (2, 4)
"""Numbers of threads on which r2b-runtime must give the same bits as on ``num_threads`` threads."""
IMAGES_ON_THREADS = 32
"""Number of images, rounded up to whole batches, that run on each number of threads.

Few are enough, because a dependence on the number of threads would show in any image."""


Batch = Union[np.ndarray, tuple[Any, Any]]
"""Images (n, height, width, channels), or a pair of them and their true classes (n,)."""


@dataclass(frozen=True)
class Verification:
    """How far a file and its Keras model differ.

    Attributes:
        images: number of images.
        disagreements: number of images for which the predicted classes differ, without the undecided images.
        mean_difference: mean absolute difference of the probabilities over classes and images, without the undecided
            images.
        largest_difference: the largest of these differences.
        undecided: number of images for which the answers differ, but only as much as the Keras model's own answer
            differs when the last bits of weights and pixels change (rounding.py).
        threads: number of images for which the file's bits on any number of threads in ``THREADS`` differ from those
            on the number given to ``verify``.
        told_otherwise: a sentence for each statement of the file's metadata that contradicts the labels or the
            preprocessing given to ``verify``.
        max_loss: for an int8 file, the maximum loss of top-1, in percentage points; None for others.
        correct: for an int8 file, number of images that the Keras model classifies correctly; None if the true classes
            are unknown.
        lost: for an int8 file, number of images that only the Keras model classifies correctly.
        gained: for an int8 file, number of images that only the file classifies correctly.
    """

    images: int
    disagreements: int
    mean_difference: float
    largest_difference: float
    undecided: int = 0
    threads: int = 0
    told_otherwise: tuple[str, ...] = ()
    max_loss: Optional[float] = None
    correct: Optional[int] = None
    lost: int = 0
    gained: int = 0

    __repr__ = short_repr

    def _repr_html_(self) -> str:
        from r2b_zoo.report import html

        return html.together([html.verdict(self.verdict, self.passed), html.note(self.summary())])

    @classmethod
    def recorded(cls, results: Mapping[str, Any]) -> "Verification":
        """The verification that ``results.json`` records."""
        known = {field.name: results[field.name] for field in fields(cls) if field.name in results}
        return cls(**{**known, "told_otherwise": tuple(known.get("told_otherwise", ()))})

    @property
    def agreement(self) -> float:
        """Share of the decided images with the same predicted class, 0 to 1; 1 if no image is decided."""
        return 1 - self.disagreements / max(self.images - self.undecided, 1)

    @property
    def is_decided(self) -> bool:
        """Whether the share of decided images is at least ``MIN_DECIDED``."""
        return self.images - self.undecided >= MIN_DECIDED * self.images

    @property
    def loss(self) -> Optional[float]:
        """Loss of top-1 of an int8 file, in percentage points; None for other files.

        Where the true classes are unknown, it is an upper bound: the share of images whose predicted class differs.
        """
        if self.max_loss is None:
            return None
        images = self.disagreements if self.correct is None else self.lost - self.gained
        return 100 * images / max(self.images, 1)

    @property
    def passed(self) -> bool:
        if self.threads or self.told_otherwise:
            return False
        if self.loss is not None and self.max_loss is not None:
            return self.loss <= self.max_loss and math.isfinite(self.mean_difference)
        equal = self.agreement >= MIN_AGREEMENT and self.mean_difference <= MAX_MEAN_DIFFERENCE
        return equal and self.is_decided

    @property
    def verdict(self) -> str:
        """The verdict on model and file, in one to three words."""
        if self.passed:
            return "equal" if self.max_loss is None else "close enough"
        return "DIFFERENT" if self.is_decided or self.threads or self.told_otherwise else "NOT PROVEN equal"

    def as_dict(self) -> dict[str, Any]:
        """Plain data: the fields and the properties derived from them. ``recorded`` reads it back."""
        return {
            **asdict(self),
            "agreement": self.agreement,
            "loss": self.loss,
            "passed": self.passed,
            "verdict": self.verdict,
        }

    def _loss_sentence(self) -> str:
        """A line about the loss of an int8 file; "" for other files."""
        if self.loss is None:
            return ""
        limit = f"at most {self.max_loss:.2g} allowed"
        if self.correct is None:
            return (
                f"Top-1 lost at most {self.loss:.2f} points ({limit}); the true classes are unknown, so this is an "
                "upper bound. Images with classes show the loss.\n"
            )
        file = self.correct - self.lost + self.gained
        error = _standard_error(self.lost, self.gained, self.images)
        return (
            f"Top-1: {100 * self.correct / self.images:.2f} % in Keras, {100 * file / self.images:.2f} % in the file; "
            f"{self.loss:.2f} points lost, standard error {error:.2f} ({limit}).\n"
        )

    def summary(self) -> str:
        """The result in lines of text: more lines for an int8 file, undecided images and failed checks."""
        is_int8 = self.max_loss is not None
        needed = "" if is_int8 else f", at least {100 * MIN_AGREEMENT:.1f} % needed"
        allowed = "" if is_int8 else f" (at most {MAX_MEAN_DIFFERENCE:.0e} allowed)"
        lines = (
            f"Keras model and {'int8 ' if is_int8 else ''}file are {self.verdict} on {_images(self.images)}.\n"
            f"{self._loss_sentence()}"
            f"The predicted class differs on {self.disagreements} ({100 * self.agreement:.2f} % agree{needed}).\n"
            f"Difference of probabilities: mean {self.mean_difference:.2e}{allowed}, "
            f"largest {self.largest_difference:.2e}."
        )
        if self.threads:
            lines += f"\nFor {_images(self.threads)}, the file's answer depends on the number of threads."
        for sentence in self.told_otherwise:
            lines += f"\n{sentence}"
        if self.undecided:
            lines += f"\n{undecided_sentence(self.undecided)}"
        if not self.is_decided:
            lines += (
                f"\nAt least {100 * MIN_DECIDED:.0f} % of the images must count: verify on other images, or train the "
                "network for longer."
            )
        return lines


def _standard_error(lost: int, gained: int, images: int) -> float:
    """Standard error of a loss, in percentage points, from the numbers of lost and gained images (McNemar's test)."""
    return 100 * math.sqrt(lost + gained - (lost - gained) ** 2 / images) / images


def undecided_sentence(undecided: int) -> str:
    """A sentence about the number of undecided images; "" if there are none."""
    if not undecided:
        return ""
    return (
        f"Not counted: {_images(undecided)}, for which the Keras model's own answer changes as much when the last bits "
        "of weights and pixels change."
    )


def _images(number: int) -> str:
    return "1 image" if number == 1 else f"{number} images"


def verify(
    model: tf.keras.Model,
    tflite: bytes,
    images: Union[np.ndarray, Iterable[Batch]],
    *,
    num_threads: int = 1,
    engine: Optional[str] = None,
    labels: Optional[Sequence[str]] = None,
    preprocessing: Optional[Preprocessing] = None,
    each_output: Callable[[np.ndarray], None] = lambda probabilities: None,
    max_loss: float = MAX_LOSS,
) -> Verification:
    """Runs images through the Keras model and through the file, and compares their probabilities and metadata.

    r2b-runtime must also give the same bits on each number of threads in ``THREADS`` as on ``num_threads``.

    Args:
        model: gives probabilities (N, classes).
        tflite: contents of the ``.tflite`` file.
        images: preprocessed float32 (N, height, width, channels); or an iterable of such batches, or of pairs of a
            batch and its true classes (n,), such as ``Dataset.test_batches`` gives.
        num_threads: number of threads on which the file runs.
        labels: names of the model's classes, to compare with the file's; not compared if the file has none.
        preprocessing: the model's preprocessing, to compare with the file's; not compared if the file has none.
        engine: the engine that runs the file, see ``TFLiteEngine``.
        each_output: called with the file's probabilities (n, classes) of each batch, in the order of the images, so
            that callers who need them do not run the file again.
        max_loss: for an int8 file, the maximum loss of top-1, in percentage points; where the true classes are unknown,
            the maximum share of images, in percent, whose predicted class may differ.

    Raises:
        ValueError: the engine refuses the file, there are no images, images or classes have the wrong shape, outputs of
            model and file have different shapes, the Keras model gives NaN or infinity, ``max_loss`` is not from 0 to
            100, or the file takes images that are not normalised and ``preprocessing`` is missing.
    """
    if not 0 <= max_loss <= 100:
        raise ValueError(f"max_loss must be in percentage points of top-1, from 0 to 100; received {max_loss}.")
    is_int8 = int8.is_int8(tflite)
    as_file_takes = _as_file_takes(tflite, preprocessing)
    tally = _Tally(rounding.KerasNetwork(model), is_int8)
    file = TFLiteEngine(tflite, num_threads, engine)
    others: list[TFLiteEngine] = []
    if (engine or default_engine()) == RUNTIME:
        others = [TFLiteEngine(tflite, threads, engine) for threads in THREADS if threads != num_threads]
    on_threads = 0
    for batch, classes in _batches(images, tuple(model.input_shape[1:])):
        expected = check_numbers(tally.keras(batch), model.name)
        taken = as_file_takes(batch)
        answers = file.predict(taken)
        found = answers.astype(np.float64)
        if expected.ndim != 2 or expected.shape != found.shape:
            raise ValueError(
                "verify compares probabilities of shape (images, classes); the Keras model gives "
                f"{expected.shape} and the file {found.shape}: is the file made from this model, with its top?"
            )
        each_output(found)
        if tally.count < IMAGES_ON_THREADS:
            on_threads += _different_bits(answers, [other.predict(taken) for other in others])
        tally.add(batch, expected, found, classes)
    if tally.count == 0:
        raise ValueError("verify needs at least one image; received none.")
    told = told_otherwise(tflite, labels, preprocessing)
    return tally.result(on_threads, told, max_loss if is_int8 else None)


class _Tally:
    """The counts of ``verify``, accumulated over the batches."""

    def __init__(self, keras: rounding.KerasNetwork, is_int8: bool) -> None:
        self.keras, self._is_int8 = keras, is_int8
        self.count = self._disagreements = self._undecided = self._probabilities = self._unexplained = 0
        self._total = self._largest = 0.0
        self._classified = self._correct = self._lost = self._gained = 0

    def add(self, batch: np.ndarray, expected: np.ndarray, found: np.ndarray, classes: Optional[np.ndarray]) -> None:
        difference = np.abs(expected - found)
        ours, theirs = expected.argmax(axis=1), found.argmax(axis=1)
        disagrees = ours != theirs
        decided = np.full(len(batch), True)
        if not self._is_int8:
            # Write ~(a <= b) instead of a > b, so that NaN counts as a difference.
            decided = self._decided(batch, found, disagrees | ~(difference.mean(axis=1) <= MAX_MEAN_DIFFERENCE))
        self.count += len(batch)
        self._undecided += int(np.sum(~decided))
        self._disagreements += int(np.sum(disagrees & decided))
        self._probabilities += difference[decided].size
        self._total += float(difference[decided].sum())
        # NumPy's maximum keeps NaN, which max() would lose.
        self._largest = float(np.maximum(self._largest, difference[decided].max(initial=0)))
        if classes is not None:
            self._classified += len(batch)
            self._correct += int(np.sum(ours == classes))
            self._lost += int(np.sum((ours == classes) & disagrees))
            self._gained += int(np.sum((theirs == classes) & disagrees))

    def _decided(self, batch: np.ndarray, found: np.ndarray, differs: np.ndarray) -> np.ndarray:
        """A mask (n,) of the decided images: all but those whose difference rounding explains."""
        decided = np.full(len(batch), True)
        left = np.flatnonzero(differs)
        while left.size and self._unexplained < MOST_UNEXPLAINED:
            examined, left = np.split(left, [MOST_UNEXPLAINED - self._unexplained])
            decided[examined] = ~rounding.explains(self.keras, batch[examined], found[examined])
            self._unexplained += int(np.sum(decided[examined]))
        return decided

    def result(self, on_threads: int, told: tuple[str, ...], max_loss: Optional[float]) -> Verification:
        verification = Verification(
            self.count,
            self._disagreements,
            self._total / max(self._probabilities, 1),
            self._largest,
            self._undecided,
            on_threads,
            told,
        )
        if max_loss is None:
            return verification
        if self._classified != self.count:
            return replace(verification, max_loss=max_loss)
        return replace(verification, max_loss=max_loss, correct=self._correct, lost=self._lost, gained=self._gained)


def _as_file_takes(tflite: bytes, preprocessing: Optional[Preprocessing]) -> Callable[[np.ndarray], np.ndarray]:
    """A function from the model's input to the file's input; the two differ if the file normalises images itself."""
    own = _of_pixels(tflite)
    if own is None:
        return lambda batch: batch
    if preprocessing is None:
        raise ValueError(
            "The file takes images that are not normalised and normalises them itself: give verify the model's "
            "preprocessing=, with which it turns the model's input back into such images."
        )
    mean, std, own_mean = (np.array(values, np.float32) for values in (preprocessing.mean, preprocessing.std, own.mean))
    return lambda batch: batch * std + mean - own_mean


def _of_pixels(tflite: bytes) -> Optional[Preprocessing]:
    """The preprocessing of a file whose input stores the pixels of an image as they are; None for other files."""
    taken, _ = file_tensors.input_and_output(tflite)
    if taken.dtype != "uint8" or taken.scale != 1:
        return None
    try:
        own = metadata.read(tflite).preprocessing
    except metadata.NoMetadataError:
        return None
    if own is None or any(std != 1 for std in own.std) or any(mean != taken.zero_point for mean in own.mean):
        return None
    return own


def told_otherwise(
    tflite: bytes, labels: Optional[Sequence[str]], preprocessing: Optional[Preprocessing]
) -> tuple[str, ...]:
    """A sentence for each wrong statement in a file's metadata about its classes and its preprocessing.

    Args:
        tflite: contents of the file.
        labels: the correct names of the classes; None if they are not known.
        preprocessing: the correct preprocessing; None if it is not known.
    """
    if labels is None and preprocessing is None:
        return ()
    try:
        file = metadata.read(tflite)
    except metadata.NoMetadataError:
        return ()
    found = []
    if labels is not None and file.labels is not None and tuple(labels) != tuple(file.labels):
        found.append(_other_names(labels, file.labels))
    if preprocessing is not None and file.preprocessing is not None and _of_pixels(tflite):
        preprocessing = replace(preprocessing, mean=file.preprocessing.mean, std=file.preprocessing.std)
    if preprocessing is not None and file.preprocessing is not None and preprocessing != file.preprocessing:
        found.append(_other_preprocessing(preprocessing.to_dict(), file.preprocessing.to_dict()))
    return tuple(found)


def _other_names(own: Sequence[str], others: Sequence[str]) -> str:
    if len(own) != len(others):
        return f"The file names {len(others)} classes, the model has {len(own)}."
    wrong = [i for i, (name, other) in enumerate(zip(own, others, strict=True)) if name != other]
    first = wrong[0]
    return (
        f"The file gives {len(wrong)} of {len(own)} classes other names than the model: class {first} is "
        f"{own[first]!r} in the model and {others[first]!r} in the file."
    )


def _other_preprocessing(own: Mapping[str, Any], others: Mapping[str, Any]) -> str:
    differing = [name for name in own if own[name] != others.get(name)]
    words = "; ".join(f"{name} is {own[name]} in the model and {others.get(name)} in the file" for name in differing)
    return f"The file's preprocessing differs from the model's: {words}."


def _different_bits(one: np.ndarray, others: Sequence[np.ndarray]) -> int:
    """The number of rows of ``one`` (N, ...) that differ in any bit from the same row of any of the others."""
    return sum(any(row.tobytes() != other[i].tobytes() for other in others) for i, row in enumerate(one))


def _batches(
    images: Union[np.ndarray, Iterable[Batch]], image_shape: tuple[int, ...]
) -> Iterator[tuple[np.ndarray, Optional[np.ndarray]]]:
    for group in [images] if isinstance(images, np.ndarray) else images:
        batch, classes = group if isinstance(group, tuple) else (group, None)
        array = np.asarray(batch, np.float32)
        if array.shape[1:] != image_shape:
            raise ValueError(
                f"Images must have the shape (N, {', '.join(map(str, image_shape))}) that the model takes; "
                f"received {array.shape}."
            )
        known = None if classes is None else np.asarray(classes)
        if known is not None and known.shape != array.shape[:1]:
            raise ValueError(f"{len(array)} images need as many true classes; received classes of shape {known.shape}.")
        for start in range(0, len(array), BATCH_SIZE):
            part = slice(start, start + BATCH_SIZE)
            yield array[part], None if known is None else known[part]
