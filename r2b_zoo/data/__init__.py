"""The data sets by name, and preprocessing."""

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
    """A data set by name.

    Args:
        name: one of ``list_datasets()``.
        data_dir: folder of its files, for data sets that come from files.
        options: further arguments of the function of that name.

    Raises:
        ValueError: there is no data set of that name (the message lists the known ones), or its files are invalid.
    """
    if name not in DATASETS:
        raise ValueError(
            f"There is no data set {name!r}; the data sets are {', '.join(DATASETS)}.{did_you_mean(name, DATASETS)}"
        )
    return getattr(importlib.import_module(DATASETS[name]), name)(data_dir, **options)
