"""Proof that a ``.tflite`` computes what its Keras model computes, on images."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Optional, Union

import numpy as np
import tensorflow as tf

from r2b_zoo.tflite_engine import TFLiteEngine

# A float operator may round its last bit differently in the two engines. A value within that bit of zero then gets
# the other sign, which moves a probability a little and now and then a close decision. More than this is a defect.
MIN_AGREEMENT = 0.995
"""Least share of images with the same most probable class."""
MAX_MEAN_DIFFERENCE = 1e-3
"""Largest mean over images and classes of the absolute difference of the probabilities."""

BATCH_SIZE = 32


@dataclass(frozen=True)
class Verification:
    """How far a file and its Keras model differ.

    Attributes:
        images: number of images.
        disagreements: images for which the most probable class differs.
        mean_difference: absolute difference of the probabilities, mean over images and classes.
        largest_difference: the same, largest over images and classes.
    """

    images: int
    disagreements: int
    mean_difference: float
    largest_difference: float

    @property
    def agreement(self) -> float:
        """Share of images with the same most probable class, 0 to 1."""
        return 1 - self.disagreements / self.images

    @property
    def passed(self) -> bool:
        return self.agreement >= MIN_AGREEMENT and self.mean_difference <= MAX_MEAN_DIFFERENCE

    def summary(self) -> str:
        """The result in three lines."""
        verdict = "equal" if self.passed else "DIFFERENT"
        return (
            f"Keras model and file are {verdict} on {self.images} images.\n"
            f"Most probable class differs on {self.disagreements} "
            f"({100 * self.agreement:.2f} % agree, at least {100 * MIN_AGREEMENT:.1f} % needed).\n"
            f"Difference of probabilities: mean {self.mean_difference:.2e} "
            f"(at most {MAX_MEAN_DIFFERENCE:.0e} allowed), largest {self.largest_difference:.2e}."
        )


def verify(
    model: tf.keras.Model,
    tflite: bytes,
    images: Union[np.ndarray, Iterable[np.ndarray]],
    *,
    num_threads: int = 1,
    engine: Optional[str] = None,
    each_output: Callable[[np.ndarray], None] = lambda probabilities: None,
) -> Verification:
    """Runs images through the Keras model and through the file.

    Args:
        model: gives probabilities (N, classes).
        tflite: contents of the file.
        images: preprocessed float32 (N, height, width, channels), or an iterable of such batches.
        num_threads: threads for the file.
        engine: what runs the file, see ``TFLiteEngine``.
        each_output: given the file's probabilities (n, classes) of each batch, in the order of the images, so that
            whoever needs them does not run the images through it again.

    Raises:
        ValueError: the engine refuses the file, there are no images, they have another shape than the model takes, or
            the outputs of model and file have different shapes.
    """
    count = disagreements = probabilities = 0
    total = largest = 0.0
    keras = tf.function(
        lambda batch: model(batch, training=False), input_signature=[tf.TensorSpec(model.input_shape, tf.float32)]
    )
    file = TFLiteEngine(tflite, num_threads, engine)
    for batch in _batches(images, tuple(model.input_shape[1:])):
        expected = np.asarray(keras(batch), np.float64)
        found = file.predict(batch).astype(np.float64)
        if expected.ndim != 2 or expected.shape != found.shape:
            raise ValueError(
                "verify compares probabilities of shape (images, classes); the Keras model gives "
                f"{expected.shape} and the file {found.shape}: is the file made from this model, with its top?"
            )
        each_output(found)
        difference = np.abs(expected - found)
        count += len(batch)
        disagreements += int(np.sum(expected.argmax(axis=1) != found.argmax(axis=1)))
        probabilities += difference.size
        total += float(difference.sum())
        largest = float(np.maximum(largest, difference.max()))  # keeps NaN, which max() would lose
    if count == 0:
        raise ValueError("verify needs at least one image; received none.")
    return Verification(count, disagreements, total / probabilities, largest)


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
