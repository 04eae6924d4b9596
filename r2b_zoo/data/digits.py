"""scikit-learn's handwritten digits."""

from typing import Optional

import numpy as np

from r2b_zoo.data.images import PathLike
from r2b_zoo.data.in_memory import InMemoryDataset, Split
from r2b_zoo.data.preprocessing import Preprocessing

TEST_EVERY = 5


def digits(data_dir: Optional[PathLike] = None) -> InMemoryDataset:
    """scikit-learn's digits: 1,797 grey 8×8 images of handwritten digits, which come with scikit-learn.

    Every fifth image of each class, in the data's order, is a test image. The split therefore needs no random numbers
    and is the same everywhere: 1,442 images to train, 355 to test.

    Args:
        data_dir: must be None, because the data come with scikit-learn.

    Raises:
        ValueError: a ``data_dir`` is given.

    Source: Alpaydin & Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998.
    """
    from sklearn.datasets import load_digits

    if data_dir is not None:
        raise ValueError(
            f"The data set 'digits' comes with scikit-learn and has no folder; received data_dir={str(data_dir)!r}."
        )
    bunch = load_digits()
    images = np.round(bunch.images * (255 / 16)).astype(np.uint8)[..., np.newaxis]
    labels = bunch.target.astype(np.int64)
    rank_in_class = np.zeros_like(labels)
    for digit in range(10):
        members = labels == digit
        rank_in_class[members] = np.arange(members.sum())
    is_test = rank_in_class % TEST_EVERY == TEST_EVERY - 1
    train = Split.of(images[~is_test], labels[~is_test])
    return InMemoryDataset(
        name="digits",
        title="scikit-learn's handwritten digits",
        class_names=tuple(str(digit) for digit in range(10)),
        preprocessing=Preprocessing(
            height=8,
            width=8,
            channels=1,
            crop_fraction=1.0,
            mean=(float(np.round(train.images.mean(), 2)),),
            std=(float(np.round(train.images.std(), 2)),),
        ),
        train=train,
        test=Split.of(images[is_test], labels[is_test]),
    )
