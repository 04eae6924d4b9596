"""Decides whether rounding errors explain that a file gives another answer than its Keras model.

A float operator may round its last bit differently in two engines. A value within that bit of zero then gets the other
sign. In a network that has hardly been trained, one such sign can decide the whole answer, in any engine: the Keras
model's answer is then only one of several valid answers, and the file may give another. The model itself shows which
answers are valid, when its weights and the image change by a few last bits.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import tensorflow as tf

from r2b_zoo.conversion import tensor_values

ROUNDING = 1e-6
"""Largest relative change of a weight or a pixel: a few last bits of float32."""
CHANGED_WEIGHTS = 64
"""Number of times that the weights are changed. Rounding happens in every layer, and so does the change."""
CHANGED_IMAGES = 4
"""Number of changed copies of an image for each change of the weights."""
MAX_DISTANCE = 1e-3
"""Largest difference of a probability from that of a valid answer with the same predicted class."""
LONELINESS = 2
"""A new combination of signs may be this many times as far from the nearest valid answer as the loneliest of the valid
answers is from the others."""


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

        Every real weight and every pixel is multiplied by 1 plus or minus at most ``ROUNDING``, at random, but in the
        same way in each call. The model has its own weights again whenever an answer is given.
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
    """For which images the Keras model gives the file's answer, too, when last bits change.

    Rounding can move several signs, and so many combinations of them are valid that two variants of one image may have
    none in common. Hence an answer may be new, if it is not much farther from the variants than these from each other.

    Args:
        keras: the model.
        images: float32 (N, H, W, C), the model's input.
        found: the file's probabilities (N, classes).

    Returns:
        bool (N,).
    """
    explained = np.zeros(len(images), bool)
    valid = np.empty((0, *found.shape))
    for answers in keras.variants(images):
        valid = np.concatenate([valid, answers])
        is_near = np.abs(answers - found).max(axis=2) <= MAX_DISTANCE
        has_class = answers.argmax(axis=2) == found.argmax(axis=1)
        explained |= np.any(is_near & has_class, axis=0)
        if explained.all():
            return explained
    for i in np.flatnonzero(~explained):
        distance = np.abs(valid[:, i] - found[i]).max(axis=1).min()
        explained[i] = distance <= LONELINESS * _loneliest(valid[:, i])
    return explained


def _loneliest(answers: np.ndarray) -> float:
    """The largest distance of one of the answers (n, classes) from its nearest neighbour."""
    return max(float(np.partition(np.abs(answers - answer).max(axis=1), 1)[1]) for answer in answers)


def _changed(values: np.ndarray, draws: np.random.Generator) -> np.ndarray:
    """Each number multiplied by 1 plus or minus at most ``ROUNDING``; integers are as they were."""
    if not np.issubdtype(values.dtype, np.floating):
        return values
    change = draws.random(values.shape, np.float32) * np.float32(2 * ROUNDING) - np.float32(ROUNDING)
    return (values * (1 + change)).astype(values.dtype)
