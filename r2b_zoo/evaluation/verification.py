"""Verifies, on images, that a ``.tflite`` computes the same as its Keras model."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Optional, Union

import numpy as np
import tensorflow as tf

from r2b_zoo.conversion import metadata, tensor_values
from r2b_zoo.conversion.tflite_engine import RUNTIME, TFLiteEngine, default_engine
from r2b_zoo.data.preprocessing import Preprocessing
from r2b_zoo.evaluation.accuracy import check_numbers
from r2b_zoo.system.short_repr import short_repr

# A float operator may round its last bit differently in the two engines. A value within that bit of zero then gets
# the other sign, which changes a probability a little and sometimes a close decision. Larger differences are a defect.
MIN_AGREEMENT = 0.995
"""Least share of images with the same predicted class."""
MAX_MEAN_DIFFERENCE = 1e-3
"""Largest mean over images and classes of the absolute difference of the probabilities."""

# In a network that has hardly been trained, one such sign can decide the whole answer, in any engine. The Keras model's
# answer for an image is then only one of several valid answers, and the file may give another.
ROUNDING = 1e-6
"""Relative change of a pixel, a few last bits of float32, that simulates rounding errors within a network."""
CHANGED_IMAGES = 64
"""Number of variants of an image with such changes."""
MIN_DECIDED = 0.5
"""Least share of images for which the Keras model has one answer; with fewer, equality proves nothing."""
MOST_UNEXPLAINED = 8
"""After this many images with differences that rounding does not explain, the file is wrong: no more are examined."""

BATCH_SIZE = 32

THREADS = (2, 4)
"""Numbers of threads with which r2b-runtime must give the same bits as with one."""
IMAGES_ON_THREADS = 32
"""Number of images to run with each; a few are enough, since a threading error would affect any image."""


Network = Callable[[np.ndarray], np.ndarray]
"""Probabilities float64 (N, classes) for images float32 (N, height, width, channels)."""


@dataclass(frozen=True)
class Verification:
    """How far a file and its Keras model differ.

    Attributes:
        images: number of images.
        disagreements: number of images, without the undecided ones, for which the predicted classes differ.
        mean_difference: mean absolute difference of the probabilities over images and classes, without the undecided.
        largest_difference: the largest of these differences.
        undecided: number of images that differ, but for which the Keras model too gives the file's class and
            probabilities when the last bits of their pixels change.
        threads: number of images for which the file gives other bits on several threads than on one.
        told_otherwise: a sentence for each statement of the file about classes and preprocessing that contradicts the
            model's record.
    """

    images: int
    disagreements: int
    mean_difference: float
    largest_difference: float
    undecided: int = 0
    threads: int = 0
    told_otherwise: tuple[str, ...] = ()

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
        """Share of the decided images without a disagreement, 0 to 1."""
        return 1 - self.disagreements / max(self.images - self.undecided, 1)

    @property
    def is_decided(self) -> bool:
        """Whether enough decided images are left to prove anything."""
        return self.images - self.undecided >= MIN_DECIDED * self.images

    @property
    def passed(self) -> bool:
        equal = self.agreement >= MIN_AGREEMENT and self.mean_difference <= MAX_MEAN_DIFFERENCE
        return equal and self.is_decided and not self.threads and not self.told_otherwise

    @property
    def verdict(self) -> str:
        """The verdict on model and file, in a word or two."""
        if self.passed:
            return "equal"
        return "DIFFERENT" if self.is_decided or self.threads or self.told_otherwise else "NOT PROVEN equal"

    def as_dict(self) -> dict[str, Any]:
        """Plain data: the fields and the properties derived from them. ``recorded`` reads it back."""
        return {**asdict(self), "agreement": self.agreement, "passed": self.passed, "verdict": self.verdict}

    def summary(self) -> str:
        """The result in three lines, and more where images are undecided."""
        lines = (
            f"Keras model and file are {self.verdict} on {self.images} images.\n"
            f"Most probable class differs on {self.disagreements} "
            f"({100 * self.agreement:.2f} % agree, at least {100 * MIN_AGREEMENT:.1f} % needed).\n"
            f"Difference of probabilities: mean {self.mean_difference:.2e} "
            f"(at most {MAX_MEAN_DIFFERENCE:.0e} allowed), largest {self.largest_difference:.2e}."
        )
        if self.threads:
            numbers = " or ".join(map(str, THREADS))
            lines += f"\nThe file gives other bits on {numbers} threads than on one for {self.threads} images."
        for sentence in self.told_otherwise:
            lines += f"\n{sentence}"
        if self.undecided:
            lines += f"\n{undecided_sentence(self.undecided)}"
        if not self.is_decided:
            lines += (
                f"\nAt least {100 * MIN_DECIDED:.0f} % of the images have to be left: verify on other images, or train "
                "the network for longer."
            )
        return lines


def undecided_sentence(undecided: int) -> str:
    """A sentence about the number of undecided images; "" if there are none."""
    if not undecided:
        return ""
    images, pixels = ("1 image", "its") if undecided == 1 else (f"{undecided} images", "their")
    return f"Left out: {images} for which Keras answers as the file does once the last bits of {pixels} pixels change."


def verify(
    model: tf.keras.Model,
    tflite: bytes,
    images: Union[np.ndarray, Iterable[np.ndarray]],
    *,
    num_threads: int = 1,
    engine: Optional[str] = None,
    labels: Optional[Sequence[str]] = None,
    preprocessing: Optional[Preprocessing] = None,
    each_output: Callable[[np.ndarray], None] = lambda probabilities: None,
) -> Verification:
    """Runs images through the Keras model and through the file, and compares their probabilities and metadata.

    r2b-runtime must also give the same bits on several threads as on one.

    Args:
        model: gives probabilities (N, classes).
        tflite: contents of the file.
        images: preprocessed float32 (N, height, width, channels), or an iterable of such batches.
        num_threads: threads for the file.
        labels: names of the model's classes, to compare with the file's; not compared if the file has none.
        preprocessing: the model's preprocessing, to compare with the file's; not compared if the file has none.
        engine: the engine that runs the file, see ``TFLiteEngine``.
        each_output: called with the file's probabilities (n, classes) of each batch, in the order of the images, so
            that callers who need them do not run the file again.

    Raises:
        ValueError: the engine refuses the file, there are no images, their shape does not fit the model, the outputs of
            model and file have different shapes, or the Keras model gives NaN.
    """
    count = disagreements = undecided = probabilities = unexplained = on_threads = 0
    total = largest = 0.0
    keras = _network(model)
    file = TFLiteEngine(tflite, num_threads, engine)
    others: list[TFLiteEngine] = []
    if (engine or default_engine()) == RUNTIME:
        others = [TFLiteEngine(tflite, threads, engine) for threads in THREADS if threads != num_threads]
    for batch in _batches(images, tuple(model.input_shape[1:])):
        expected = check_numbers(keras(batch), model.name)
        answers = file.predict(batch)
        found = answers.astype(np.float64)
        if expected.ndim != 2 or expected.shape != found.shape:
            raise ValueError(
                "verify compares probabilities of shape (images, classes); the Keras model gives "
                f"{expected.shape} and the file {found.shape}: is the file made from this model, with its top?"
            )
        each_output(found)
        for other in others if count < IMAGES_ON_THREADS else ():
            on_threads = max(on_threads, _different_bits(answers, other.predict(batch)))
        difference = np.abs(expected - found)
        disagrees = expected.argmax(axis=1) != found.argmax(axis=1)
        decided = np.full(len(batch), True)
        # Write "not at most" instead of "greater", since NaN is neither.
        for i in np.flatnonzero(disagrees | ~(difference.mean(axis=1) <= MAX_MEAN_DIFFERENCE)):
            decided[i] = unexplained >= MOST_UNEXPLAINED or not _rounding_explains(keras, batch[i], found[i])
            unexplained += int(decided[i])
        count += len(batch)
        undecided += int(np.sum(~decided))
        disagreements += int(np.sum(disagrees & decided))
        probabilities += difference[decided].size
        total += float(difference[decided].sum())
        largest = float(np.maximum(largest, difference[decided].max(initial=0)))  # keeps NaN, which max() would lose
    if count == 0:
        raise ValueError("verify needs at least one image; received none.")
    told = told_otherwise(tflite, labels, preprocessing)
    mean = total / max(probabilities, 1)
    return Verification(count, disagreements, mean, largest, undecided, on_threads, told)


def told_otherwise(
    tflite: bytes, labels: Optional[Sequence[str]], preprocessing: Optional[Preprocessing]
) -> tuple[str, ...]:
    """A sentence for each wrong statement of a file about its classes and its preprocessing.

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
        f"{own[first]!r}, and {others[first]!r} in the file."
    )


def _other_preprocessing(own: Mapping[str, Any], others: Mapping[str, Any]) -> str:
    differing = [name for name in own if own[name] != others.get(name)]
    words = "; ".join(f"{name} is {own[name]}, and {others.get(name)} in the file" for name in differing)
    return f"The file prepares images in another way than the model: {words}."


def _different_bits(one: np.ndarray, other: np.ndarray) -> int:
    """The number of rows of (N, ...) that differ in any bit."""
    return sum(a.tobytes() != b.tobytes() for a, b in zip(one, other, strict=True))


def _network(model: tf.keras.Model) -> Network:
    dtype = model.inputs[0].dtype
    compiled = tf.function(
        lambda batch: model(batch, training=False), input_signature=[tf.TensorSpec(model.input_shape, dtype)]
    )
    return lambda batch: np.asarray(compiled(tensor_values.stored(batch, dtype.as_numpy_dtype)), np.float64)


def _rounding_explains(keras: Network, image: np.ndarray, found: np.ndarray) -> bool:
    """Whether the Keras model also gives ``found`` (classes,) when the last bits of the image (H, W, C) change."""
    draws = np.random.default_rng(0)
    for _ in range(CHANGED_IMAGES // BATCH_SIZE):
        change = ROUNDING * draws.uniform(-1, 1, (BATCH_SIZE, *image.shape))
        answers = keras((image * (1 + change)).astype(np.float32))
        same = (answers.argmax(axis=1) == found.argmax()) & (np.abs(answers - found).max(axis=1) <= MAX_MEAN_DIFFERENCE)
        if same.any():
            return True
    return False


def _batches(images: Union[np.ndarray, Iterable[np.ndarray]], image_shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    for group in [images] if isinstance(images, np.ndarray) else images:
        array = np.asarray(group, np.float32)
        if array.shape[1:] != image_shape:
            raise ValueError(
                f"Images must have the shape (N, {', '.join(map(str, image_shape))}) that the model takes; "
                f"received {array.shape}."
            )
        for start in range(0, len(array), BATCH_SIZE):
            yield array[start : start + BATCH_SIZE]
