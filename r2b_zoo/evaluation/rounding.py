"""Decides whether rounding errors explain why a file's answer differs from that of its Keras model.

An answer is the probabilities for one image. Two engines may round the last bit of a float operation differently. A
value no further from zero than this difference may then get the other sign. In a network that has hardly been trained,
one such sign can decide the whole answer: the Keras model's answer is then only one of several valid answers, and the
file may give another of them. Valid answers are those that the model gives when the last bits of its weights and of the
image are changed.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import tensorflow as tf

from r2b_zoo.conversion import tensor_values

ROUNDING = 1e-6
"""Largest relative change of a weight or a pixel: about the last four bits of a float32."""
CHANGED_WEIGHTS = 64
"""Number of random changes of the weights. Each changes all layers, because rounding happens in all of them."""
CHANGED_IMAGES = 4
"""Number of changed copies of an image for each change of the weights."""
MAX_DISTANCE = 1e-3
"""Two answers with the same predicted class count as the same if no probability differs by more than this."""
LONELINESS = 2
"""Rounding explains an answer whose distance from the nearest valid answer is at most this many times the largest gap.

The gap of a valid answer is its distance from the nearest other valid answer. The distance of two answers is their
largest difference in a probability."""


class KerasNetwork:
    """A Keras model as a function from images float32 (N, H, W, C) to probabilities float64 (N, classes)."""

    def __init__(self, model: tf.keras.Model) -> None:
        self._model = model
        self._dtype = model.inputs[0].dtype
        self._compiled = tf.function(
            lambda batch: model(batch, training=False), input_signature=[tf.TensorSpec(model.input_shape, self._dtype)]
        )

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        stored = tensor_values.stored(batch, self._dtype.as_numpy_dtype)
        return np.asarray(self._compiled(stored), np.float64)

    def variants(self, images: np.ndarray) -> Iterator[np.ndarray]:
        """Answers (CHANGED_IMAGES, N, classes) to the images, for each change of the weights.

        Every floating-point weight and every pixel is multiplied by a random factor within 1 ± ``ROUNDING``; the
        factors are the same in each call. Whenever answers are yielded, the model has its original weights again.
        """
        for seed in range(CHANGED_WEIGHTS):
            draws = np.random.default_rng(seed)
            copies = _changed(np.repeat(images[np.newaxis], CHANGED_IMAGES, axis=0), draws)
            with self._changed_weights(draws):
                answers = self(copies.reshape(-1, *images.shape[1:]))
            yield answers.reshape(CHANGED_IMAGES, len(images), -1)

    @contextmanager
    def _changed_weights(self, draws: np.random.Generator) -> Iterator[None]:
        exact = self._model.get_weights()
        try:
            self._model.set_weights([_changed(weight, draws) for weight in exact])
            yield
        finally:
            self._model.set_weights(exact)


def explains(keras: KerasNetwork, images: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Finds the images for which rounding explains the file's answer.

    It does if the Keras model gives the same answer when last bits change. Rounding can flip several signs, and the
    variants may contain only some of the valid combinations of signs. An answer that no variant gives is therefore also
    explained if it is near enough to the variants' answers; see ``LONELINESS``.

    Args:
        keras: the model.
        images: float32 (N, H, W, C), the model's input.
        found: the file's probabilities (N, classes).

    Returns:
        bool (N,), True where rounding explains the file's answer.
    """
    explained = np.zeros(len(images), bool)
    all_answers = []
    for answers in keras.variants(images):
        all_answers.append(answers)
        is_near = np.abs(answers - found).max(axis=2) <= MAX_DISTANCE
        has_class = answers.argmax(axis=2) == found.argmax(axis=1)
        explained |= np.any(is_near & has_class, axis=0)
        if explained.all():
            return explained
    valid = np.concatenate(all_answers)
    for i in np.flatnonzero(~explained):
        distance = np.abs(valid[:, i] - found[i]).max(axis=1).min()
        explained[i] = distance <= LONELINESS * _loneliest(valid[:, i])
    return explained


def _loneliest(answers: np.ndarray) -> float:
    """The largest gap among answers (n, classes); see ``LONELINESS``."""
    return max(float(np.partition(np.abs(answers - answer).max(axis=1), 1)[1]) for answer in answers)


def _changed(values: np.ndarray, draws: np.random.Generator) -> np.ndarray:
    """Each float multiplied by a random factor within 1 ± ``ROUNDING``; integers are unchanged."""
    if not np.issubdtype(values.dtype, np.floating):
        return values
    change = draws.random(values.shape, np.float32) * np.float32(2 * ROUNDING) - np.float32(ROUNDING)
    return (values * (1 + change)).astype(values.dtype)
