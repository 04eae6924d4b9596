"""Parts of a confusion matrix that tables, pictures and pages share."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

MOST_CLASSES_IN_TABLE = 20
"""A matrix of more classes is too wide to read; lists of the most frequent mistakes replace it."""


@dataclass(frozen=True)
class Mistake:
    """Images of one class that were predicted as another one.

    Attributes:
        actual: the true class.
        predicted: the predicted class.
        images: number of images.
        share: their share of the images of the true class, 0–1.
    """

    actual: int
    predicted: int
    images: int
    share: float


def mistakes(cells: Iterable[Sequence[int]]) -> list[Mistake]:
    """All mistakes, the most frequent first.

    Args:
        cells: (true class, predicted class, images) of each pair that occurs.
    """
    cells = list(cells)
    totals: dict[int, int] = {}
    for actual, _, images in cells:
        totals[actual] = totals.get(actual, 0) + images
    found = [Mistake(a, p, images, images / totals[a]) for a, p, images in cells if a != p]
    return sorted(found, key=lambda mistake: (-mistake.images, mistake.actual, mistake.predicted))
