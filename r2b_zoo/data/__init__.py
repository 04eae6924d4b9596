"""Data sets, which ``load`` finds by name, and the preprocessing of images."""

import importlib
from typing import TYPE_CHECKING, Any, Optional

from r2b_zoo.system.suggestions import did_you_mean

if TYPE_CHECKING:
    from r2b_zoo.data.dataset import Dataset
    from r2b_zoo.data.images import PathLike

# name → module with a function of that name; the modules are named, not imported, because they import TensorFlow
DATASETS = {
    "digits": "r2b_zoo.data.digits",
    "cifar10": "r2b_zoo.data.cifar",
    "cifar100": "r2b_zoo.data.cifar",
    "imagenet": "r2b_zoo.data.imagenet",
    "folder": "r2b_zoo.data.folder",
}


def list_datasets() -> list[str]:
    return list(DATASETS)


def load(name: str, data_dir: "Optional[PathLike]" = None, **options: Any) -> "Dataset":
    """Loads a data set by name.

    Args:
        name: one of ``list_datasets()``.
        data_dir: folder of the data set's files; must be None for a data set without files of its own ("digits").
        options: further arguments of the data set's function, for example ``image_size`` of ``folder``.

    Raises:
        ValueError: there is no data set of that name (the message lists all names), its files are missing or invalid,
            or it refuses an argument.
    """
    if name not in DATASETS:
        raise ValueError(
            f"There is no data set {name!r}; the data sets are {', '.join(DATASETS)}.{did_you_mean(name, DATASETS)}"
        )
    return getattr(importlib.import_module(DATASETS[name]), name)(data_dir, **options)
