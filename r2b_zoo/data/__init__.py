"""The data sets by name, and preprocessing."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from r2b_zoo.data.dataset import Dataset

# name → module with a function of that name; by name, because the modules import TensorFlow
DATASETS = {"digits": "r2b_zoo.data.digits"}


def list_datasets() -> list[str]:
    return list(DATASETS)


def load(name: str) -> "Dataset":
    """A data set by name. Raises ValueError, listing the known names, for an unknown one."""
    if name not in DATASETS:
        raise ValueError(f"There is no data set {name!r}; the data sets are {', '.join(DATASETS)}.")
    return getattr(importlib.import_module(DATASETS[name]), name)()
