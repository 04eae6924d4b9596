"""Checkpoints of a stage in training, in files that are never partially written. Their names are

    <epochs done>-<steps done in the next epoch>.<sha256 of the content>.npz

The hash in the name shows whether a file is damaged. A file is written under a temporary name, flushed to disk, and
then renamed. The last two checkpoints are kept; if the newest is damaged, training resumes from the other.
"""

import hashlib
import io
import json
import random
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Optional

import numpy as np

from r2b_zoo.system import files

KEPT = 2
FOLDER_NAME = "checkpoints"
_RECORD = "record"
_DIGEST_LENGTH = 64


@dataclass
class Progress:
    """The progress of a stage. Training resumes from it, and from the arrays and the random state of a ``Checkpoint``.

    Attributes:
        epoch: number of complete epochs; a complete epoch is tested and has its row in the log.
        step: number of optimizer steps done in the next epoch. (epoch, step) is also the position in the data, because
            order and augmentation depend only on the seed and on these two.
        rows: the log so far, with a row per complete epoch.
        best: highest accuracy after an epoch so far, on test or validation images, 0–1; None without ``patience`` and
            before the end of the first epoch.
        waited: number of epochs since ``best`` was reached.
        start: metrics of the test before the first step; None if there was no such test.
        seconds: time spent on the stage so far, including earlier processes.
        timed_steps, timed_seconds: the steps and seconds from which images per second are calculated.
    """

    epoch: int = 0
    step: int = 0
    rows: list[dict[str, float]] = field(default_factory=list)
    best: Optional[float] = None
    waited: int = 0
    start: Optional[dict[str, float]] = None
    seconds: float = 0.0
    timed_steps: int = 0
    timed_seconds: float = 0.0


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in a file: progress, arrays by name (variables, and the best weights so far), random state."""

    path: Path
    progress: Progress
    arrays: dict[str, np.ndarray]
    random_state: dict[str, Any]


class Checkpoints:
    """The checkpoints in a folder. The folder need not exist yet."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def paths(self) -> list[Path]:
        """Paths of the checkpoints, the oldest first."""
        return sorted(path for path in self.folder.glob("*.npz") if not path.name.startswith("."))

    def save(self, progress: Progress, arrays: Mapping[str, np.ndarray]) -> Path:
        """Writes a checkpoint and deletes all but the last two.

        Raises:
            OSError: the disk is full or cannot be written; the earlier checkpoints are kept.
        """
        record = json.dumps({"position": asdict(progress), "random_state": random_state()})
        content = io.BytesIO()
        np.savez(content, **{_RECORD: np.array(record)}, **{f"array/{name}": value for name, value in arrays.items()})
        data = content.getbuffer()
        self.folder.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256(data).hexdigest()
        path = self.folder / f"{progress.epoch:05d}-{progress.step:08d}.{digest}.npz"
        files.write_bytes(path, data, durable=True)
        # Also delete partial files of processes that were killed while they wrote.
        for old in [*self.paths()[:-KEPT], *self.folder.glob(".*")]:
            old.unlink()
        return path

    def latest(self) -> tuple[Optional[Checkpoint], list[str]]:
        """The newest undamaged checkpoint, or None, and a sentence about each damaged one that is newer."""
        damaged: list[str] = []
        for path in reversed(self.paths()):
            try:
                return _read(path), damaged
            except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
                damaged.append(f"The checkpoint {path} is damaged ({error}) and is not used.")
        return None, damaged

    def read(self, name: str) -> Checkpoint:
        """The checkpoint in the file of that name.

        Raises:
            OSError, ValueError: the file is missing or damaged.
        """
        return _read(self.folder / name)


def _read(path: Path) -> Checkpoint:
    content = path.read_bytes()
    digest = path.name.split(".")[1]
    if len(digest) != _DIGEST_LENGTH or hashlib.sha256(content).hexdigest() != digest:
        raise ValueError("its content does not match the hash in its name")
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        record = json.loads(str(file[_RECORD]))
        arrays = {name.partition("/")[2]: file[name] for name in file.files if name != _RECORD}
    return Checkpoint(path, Progress(**record["position"]), arrays, record["random_state"])


def random_state() -> dict[str, Any]:
    """The states of Python's and NumPy's random generators, as plain data.

    The state of TensorFlow's generator is not needed: no network of the zoo draws random numbers while it trains, and
    those of augmentation depend only on the seed and the position.
    """
    version, internal, gauss = random.getstate()
    numpy_state = np.random.get_state(legacy=False)
    assert isinstance(numpy_state, dict)
    numpy_state["state"] = {**numpy_state["state"], "key": numpy_state["state"]["key"].tolist()}
    return {"python": [version, list(internal), gauss], "numpy": numpy_state}


def set_random_state(state: Mapping[str, Any]) -> None:
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    numpy_state = dict(state["numpy"])
    numpy_state["state"] = {
        **numpy_state["state"],
        "key": np.asarray(numpy_state["state"]["key"], np.uint32),
    }
    np.random.set_state(numpy_state)
