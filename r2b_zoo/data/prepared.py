"""Finds data sets that TensorFlow Datasets has prepared on this machine, without network access."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Optional

from r2b_zoo.data.images import PathLike

if TYPE_CHECKING:
    import tensorflow_datasets as tfds


def prepared(name: str, data_dir: Optional[PathLike], hint: str = "") -> "tfds.core.DatasetBuilder":
    """Finds the newest version of a prepared data set.

    Args:
        name: its name in TensorFlow Datasets.
        data_dir: the folder of all prepared data sets; None: TensorFlow Datasets' default (``$TFDS_DATA_DIR``, or
            ``tensorflow_datasets`` in the home folder).
        hint: end of the error's message, on what must be done before the data set can be prepared.

    Raises:
        ValueError: the data set is not prepared; the message names the command that prepares it.
    """
    import tensorflow_datasets as tfds

    root = Path(data_dir or tfds.core.constants.DATA_DIR).expanduser()
    versions = [path.parent for path in (root / name).glob("*/dataset_info.json")]
    if not versions:
        option = f" --data_dir {root}" if data_dir or "TFDS_DATA_DIR" in os.environ else ""
        raise ValueError(
            f"{name} is not prepared in {root}: pass the folder that has it as data_dir=, or prepare it with "
            f"`tfds build {name}{option}`.{hint}"
        )
    newest = max(versions, key=lambda path: [int(part) if part.isdigit() else -1 for part in path.name.split(".")])
    return tfds.builder_from_directory(str(newest))
