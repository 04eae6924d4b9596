"""Accuracy of a network or of a converted file, overall and per class."""

import csv
import math
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

import numpy as np
import tensorflow as tf

from r2b_zoo.conversion import tensor_values
from r2b_zoo.conversion.tflite_engine import TFLiteEngine
from r2b_zoo.data.dataset import Dataset
from r2b_zoo.system import files

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PREDICTION_BATCH = 256
# Larger images are predicted in smaller batches, so that the activations of a batch need about the same memory.
_PREDICTION_PIXELS = PREDICTION_BATCH * 96 * 96
TIMING_RUNS = 30
TIMING_WARM_UP = 3


@dataclass(frozen=True)
class Evaluation:
    """The accuracy of a classifier's predictions.

    Attributes:
        confusion: (classes, classes) numbers of images; rows are the true classes, columns the predicted ones.
        top5_correct: number of images whose true class is among the five most probable classes.
    """

    confusion: np.ndarray
    top5_correct: int

    def __repr__(self) -> str:
        return (
            f"Evaluation(top1={self.top1:.4f}, top5={self.top5:.4f}, images={self.images}, "
            f"classes={len(self.confusion)})"
        )

    def _repr_html_(self) -> str:
        from r2b_zoo.report import html

        values = {"top-1": f"{100 * self.top1:.2f} %", "top-5": f"{100 * self.top5:.2f} %"}
        return html.together([html.facts(f"{self.images:,} images of {len(self.confusion):,} classes", values)])

    def confusion_figure(self, class_names: Optional[Sequence[str]] = None, title: str = "Confusion") -> "Figure":
        """The confusion matrix as a matplotlib figure, with a row per true class and a column per predicted class.

        Args:
            class_names: names of the classes, in the order of the labels; None: numbers from 0.
            title: title above the figure.

        Raises:
            ValueError: the number of names is not the number of classes.
        """
        from r2b_zoo.report.confusion_plot import confusion_figure

        names = list(map(str, range(len(self.confusion)))) if class_names is None else class_names
        if len(names) != len(self.confusion):
            raise ValueError(f"class_names must name all {len(self.confusion)} classes; received {len(names)} names.")
        return confusion_figure(self, names, title)

    def __add__(self, other: "Evaluation") -> "Evaluation":
        """The evaluation of both sets of images together."""
        return Evaluation(self.confusion + other.confusion, self.top5_correct + other.top5_correct)

    @property
    def images(self) -> int:
        return int(self.confusion.sum())

    @property
    def top1(self) -> float:
        """Share of images whose predicted class is the true class, 0–1."""
        return float(np.trace(self.confusion) / self.images)

    @property
    def top5(self) -> float:
        """Share of images whose true class is among the five most probable classes, 0–1."""
        return self.top5_correct / self.images

    @property
    def recall(self) -> np.ndarray:
        """Share of each class's images that were predicted correctly, 0–1; NaN for a class without images."""
        totals = self.confusion.sum(axis=1)
        return np.divide(np.diag(self.confusion), totals, out=np.full(len(totals), np.nan), where=totals > 0)

    @property
    def precision(self) -> np.ndarray:
        """Share of the images predicted as a class that belong to it, 0–1; NaN for a class that is never predicted."""
        totals = self.confusion.sum(axis=0)
        return np.divide(np.diag(self.confusion), totals, out=np.full(len(totals), np.nan), where=totals > 0)

    @property
    def cells(self) -> list[list[int]]:
        """[true class, predicted class, number of images] of each pair that occurs; with many classes, most do not."""
        pairs = zip(*np.nonzero(self.confusion), strict=True)
        return [[int(i), int(j), int(self.confusion[i, j])] for i, j in pairs]

    def per_class(self, class_names: Sequence[str]) -> list[dict[str, Any]]:
        """Name, number of images, precision and recall of each class; undefined scores are None."""
        return [
            {
                "name": name,
                "images": int(images),
                "precision": None if math.isnan(precision) else float(precision),
                "recall": None if math.isnan(recall) else float(recall),
            }
            for name, images, precision, recall in zip(
                class_names, self.confusion.sum(axis=1), self.precision, self.recall, strict=True
            )
        ]

    def write_csv(self, path: Path, class_names: Sequence[str]) -> None:
        """Writes a row per class: its images, precision and recall, and the number of images by predicted class.

        Raises:
            OSError: the file cannot be written.
        """
        with files.replacing(path) as partial, open(partial, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["class", "images", "precision", "recall", *(f"predicted {name}" for name in class_names)])
            for row, counts in zip(self.per_class(class_names), self.confusion.tolist(), strict=True):
                writer.writerow([*row.values(), *counts])


def as_dict(result: Evaluation, dataset: Dataset) -> dict[str, Any]:
    """The evaluation and a description of its data set as plain data."""
    return {
        "dataset": {
            "name": dataset.name,
            "description": dataset.description,
            "test_images": dataset.test_size,
            "test_split": dataset.test_split,
            "skipped": list(dataset.skipped),
        },
        "images": result.images,
        "top1": result.top1,
        "top5": result.top5,
        "classes": result.per_class(dataset.class_names),
        "confusion": result.confusion.tolist(),
    }


def prediction_batch(input_shape: Sequence[int]) -> int:
    """The batch size for predicting images of shape (height, width, channels)."""
    return max(1, min(PREDICTION_BATCH, _PREDICTION_PIXELS // (input_shape[0] * input_shape[1])))


def check_numbers(probabilities: np.ndarray, name: str) -> np.ndarray:
    """Returns probabilities (N, classes) after checking that they are finite.

    NumPy's argmax would return the index of a NaN as the predicted class.

    Args:
        probabilities: the array to check.
        name: the classifier's name, for the error message.

    Raises:
        ValueError: a value is NaN or infinite.
    """
    wrong = int((~np.isfinite(probabilities).all(axis=tuple(range(1, probabilities.ndim)))).sum())
    if wrong:
        raise ValueError(
            f"Probabilities must be finite numbers; {name} gives NaN or infinity for {wrong} of {len(probabilities)} "
            f"image{'s' if len(probabilities) > 1 else ''}: its weights are damaged or its training has diverged, so "
            "train it again or use another file."
        )
    return probabilities


def evaluate(probabilities: np.ndarray, labels: np.ndarray) -> Evaluation:
    """Compares probabilities (N, classes) with labels (N,).

    Raises:
        ValueError: the numbers of images differ, there are no images, a label is not the index of a class, or a
            probability is NaN or infinite.
    """
    if probabilities.ndim != 2 or len(probabilities) != len(labels) or len(labels) == 0:
        raise ValueError(
            f"Evaluation needs probabilities (N, classes) and labels (N,) with N at least 1; received "
            f"{probabilities.shape} and {labels.shape}."
        )
    check_numbers(probabilities, "the network")
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
    num_classes: Optional[int] = None,
) -> Evaluation:
    """Evaluates batch by batch, so that a data set need not fit into memory.

    Args:
        predict: gives probabilities (N, classes) of preprocessed images (N, height, width, channels).
        batches: pairs of images and labels, for example from ``Dataset.test_batches``.
        advance: called after each batch with its number of images.
        num_classes: number of classes of the data, if it is known.

    Raises:
        ValueError: as ``evaluate``, or the numbers of classes of network and data differ.
    """
    total = None
    for images, labels in batches:
        probabilities = predict(np.asarray(images))
        classes = probabilities.shape[-1]
        if num_classes is not None and classes != num_classes:
            raise ValueError(
                f"The network has {classes} class{'es' if classes != 1 else ''}, but the data has {num_classes}: "
                "evaluate it on data of its own classes."
            )
        part = evaluate(probabilities, np.asarray(labels))
        total = part if total is None else total + part
        advance(len(labels))
    if total is None:
        raise ValueError("Evaluation needs at least one image; received none.")
    return total


def predict_keras(model: tf.keras.Model, images: np.ndarray) -> np.ndarray:
    """Probabilities (N, classes) of preprocessed images (N, H, W, C)."""
    images = tensor_values.stored(images, model.inputs[0].dtype.as_numpy_dtype)
    return np.asarray(model.predict(images, batch_size=PREDICTION_BATCH, verbose=0))


def milliseconds_per_image(tflite: bytes, image: np.ndarray, num_threads: int = 1) -> float:
    """Median time in which a converted file classifies one preprocessed image (H, W, C), after a warm-up."""
    engine = TFLiteEngine(tflite, num_threads)
    times = []
    for _ in range(TIMING_WARM_UP + TIMING_RUNS):
        started = time.perf_counter()
        engine.predict(image[np.newaxis])
        times.append(1e3 * (time.perf_counter() - started))
    return statistics.median(times[TIMING_WARM_UP:])
