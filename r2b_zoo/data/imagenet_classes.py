"""The 1,000 classes of ImageNet (ILSVRC 2012): WordNet identifiers and names, in the order of the labels."""

from functools import cache
from importlib import resources

import numpy as np


@cache
def imagenet_classes() -> tuple[tuple[str, str], ...]:
    """(WordNet identifier, name) of each class, for example ("n01440764", "tench")."""
    text = resources.files("r2b_zoo.data").joinpath("imagenet_classes.txt").read_text(encoding="utf-8")
    return tuple((line.split()[0], line.split()[1]) for line in text.splitlines())


def decode_predictions(predictions: np.ndarray, top: int = 5) -> list[list[tuple[str, str, float]]]:
    """The most probable classes of each prediction, best first. Needs no internet connection.

    Args:
        predictions: probabilities (N, 1000).
        top: how many classes per prediction, 1–1000.

    Returns:
        For each of the N predictions a list of (WordNet identifier, name, probability).

    Raises:
        ValueError: the shape is not (N, 1000), or ``top`` is out of range.
    """
    predictions = np.asarray(predictions)
    classes = imagenet_classes()
    if predictions.ndim != 2 or predictions.shape[1] != len(classes):
        raise ValueError(
            f"decode_predictions needs ImageNet predictions of shape (N, {len(classes)}); received {predictions.shape}."
        )
    if not 1 <= top <= len(classes):
        raise ValueError(f"top must be in 1–{len(classes)}; received {top}.")
    return [[(*classes[i], float(row[i])) for i in np.argsort(-row, kind="stable")[:top]] for row in predictions]
