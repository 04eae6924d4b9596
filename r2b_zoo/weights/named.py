"""Weights that have a name: published ones, which are downloaded, and those that come with this package.

To refer to a file or folder with such a name, write ``./name``.
"""

from importlib import resources
from pathlib import Path
from typing import Any

from r2b_zoo.identity import PACKAGE

IMAGENET = "imagenet"
FOLDER = "weights/data"
BUNDLED = {
    # name: file in FOLDER, written by python -m benchmarks.package_weights
    "cifar10": "cifar10.zip",
}
NAMES = (IMAGENET, *BUNDLED)
NAMES_IN_WORDS = ", ".join(map(repr, NAMES))


def is_name(reference: Any) -> bool:
    """Whether a reference to weights is one of these names, and not a path."""
    return isinstance(reference, str) and reference in NAMES


def bundled_file(name: str) -> Path:
    """The path of weights that come with the package.

    Raises:
        KeyError: no weights of that name come with the package.
        FileNotFoundError: the installation does not have the file.
    """
    path = Path(str(resources.files(PACKAGE) / FOLDER / BUNDLED[name]))
    if not path.is_file():
        raise FileNotFoundError(f"The weights {name!r} come with r2b_zoo, but {path} is missing: reinstall r2b_zoo.")
    return path
