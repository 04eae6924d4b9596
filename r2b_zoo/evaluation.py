"""Accuracy, per class and as a whole, of a network or of a converted file."""

import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from r2b_zoo.tflite_engine import TFLiteEngine

PREDICTION_BATCH = 256
TIMING_RUNS = 30
TIMING_WARM_UP = 3


@dataclass(frozen=True)
class Evaluation:
    """What a classifier got right.

    Attributes:
        confusion: (classes, classes) numbers of images; rows are the true classes, columns the predicted ones.
        top5_correct: images whose true class is among the five most probable.
    """

    confusion: np.ndarray
    top5_correct: int

    def __add__(self, other: "Evaluation") -> "Evaluation":
        """What the images of both give together."""
        return Evaluation(self.confusion + other.confusion, self.top5_correct + other.top5_correct)

    @property
    def images(self) -> int:
        return int(self.confusion.sum())

    @property
    def top1(self) -> float:
        """Share of images whose most probable class is the true one, 0–1."""
        return float(np.trace(self.confusion) / self.images)

    @property
    def top5(self) -> float:
        return self.top5_correct / self.images

    @property
    def recall(self) -> np.ndarray:
        """Share of each class's images that were recognised, 0–1; NaN for a class without images."""
        totals = self.confusion.sum(axis=1)
        return np.divide(np.diag(self.confusion), totals, out=np.full(len(totals), np.nan), where=totals > 0)

    @property
    def precision(self) -> np.ndarray:
        """Share of the images predicted as a class that are of it, 0–1; NaN for a class never predicted."""
        totals = self.confusion.sum(axis=0)
        return np.divide(np.diag(self.confusion), totals, out=np.full(len(totals), np.nan), where=totals > 0)


def evaluate(probabilities: np.ndarray, labels: np.ndarray) -> Evaluation:
    """Compares probabilities (N, classes) with labels (N,).

    Raises:
        ValueError: the numbers differ, there are no images, or a label is outside the classes.
    """
    if probabilities.ndim != 2 or len(probabilities) != len(labels) or len(labels) == 0:
        raise ValueError(
            f"Evaluation needs probabilities (N, classes) and labels (N,) with N at least 1; received "
            f"{probabilities.shape} and {labels.shape}."
        )
    classes = probabilities.shape[1]
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"Labels must be in 0–{classes - 1}; received {labels.min()}–{labels.max()}.")
    confusion = np.zeros((classes, classes), np.int64)
    np.add.at(confusion, (labels, probabilities.argmax(axis=1)), 1)
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :5]
    return Evaluation(confusion, int((best == labels[:, np.newaxis]).any(axis=1).sum()))


def evaluate_batches(
    predict: Callable[[np.ndarray], np.ndarray],
    batches: Iterable[tuple[tf.Tensor, tf.Tensor]],
    advance: Callable[[int], None] = lambda images: None,
) -> Evaluation:
    """Evaluates batch after batch, so that a data set need not fit into memory.

    Args:
        predict: from preprocessed images (N, height, width, channels) to probabilities (N, classes).
        batches: (images, labels), for instance ``Dataset.test_batches``.
        advance: told after each batch how many images it had.

    Raises:
        ValueError: as ``evaluate``.
    """
    total = None
    for images, labels in batches:
        part = evaluate(predict(np.asarray(images)), np.asarray(labels))
        total = part if total is None else total + part
        advance(len(labels))
    if total is None:
        raise ValueError("Evaluation needs at least one image; received none.")
    return total


def predict_keras(model: tf.keras.Model, images: np.ndarray) -> np.ndarray:
    """Probabilities (N, classes) of preprocessed images (N, H, W, C)."""
    return np.asarray(model.predict(images, batch_size=PREDICTION_BATCH, verbose=0))


def milliseconds_per_image(tflite: bytes, image: np.ndarray, num_threads: int = 1) -> float:
    """Median time of one image (H, W, C) through a converted file, after a warm-up."""
    engine = TFLiteEngine(tflite, num_threads)
    times = []
    for _ in range(TIMING_WARM_UP + TIMING_RUNS):
        started = time.perf_counter()
        engine.predict(image[np.newaxis])
        times.append(1e3 * (time.perf_counter() - started))
    return statistics.median(times[TIMING_WARM_UP:])
