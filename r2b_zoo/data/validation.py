"""Chooses the training images that are held out as a validation split.

A validation split serves to choose epochs, learning rates and so on; final results come from the test split.
"""

from collections.abc import Sequence

import numpy as np


def check_share(share: float) -> None:
    """Raises ValueError unless 0 ≤ ``share`` < 1."""
    if not 0 <= share < 1:
        raise ValueError(
            f"validation must be 0 (none) or the share of the training images to hold out, below 1, for example 0.1; "
            f"received {share}."
        )


def held_out(labels: np.ndarray, share: float, class_names: Sequence[str]) -> np.ndarray:
    """The images to hold out: the same share of every class, spread evenly over its images in their order.

    The choice depends only on the labels and the share, so all runs with the same data and share hold out the same
    images.

    Args:
        labels: labels of the training images, (N,).
        share: above 0 and below 1.
        class_names: names of the classes, in the order of the labels.

    Returns:
        Whether each image is held out, bool (N,).

    Raises:
        ValueError: ``share`` is out of range, or leaves a class without images to train on or to validate with.
    """
    check_share(share)
    chosen = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        number = round(share * len(members))
        if not 0 < number < len(members):
            what = "to validate with" if number == 0 else "to train on"
            raise ValueError(
                f"validation={share} leaves class {class_names[label]!r} no image {what}: it has {len(members)}, and "
                f"{number} of them would be held out. Every class needs at least one on either side: choose another "
                "share, or validation=0 for none."
            )
        chosen[members[(np.arange(number) * 2 + 1) * len(members) // (2 * number)]] = True
    return chosen
