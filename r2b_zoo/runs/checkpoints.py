"""Checkpoints of a stage in training: files that are whole or not there.

    <epochs done>-<steps done in the next>.<sha256 of the content>.npz

The name carries the hash, so that a file says by itself whether it is what was written. A file is written beside its
place, brought to the disk, and renamed; the last two are kept, and where the newest is damaged the one before serves.
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
    """Where the training of a stage stands; with the variables, all it needs to resume.

    Attributes:
        epoch: epochs that are complete, test accuracy and log row included.
        step: optimizer steps done in the next one. The data's position is (epoch, step) too: order and augmentation
            are functions of the seed and of these two.
        rows: the log so far, a row per complete epoch.
        best: highest test accuracy so far, None before the first; kept where patience is on.
        waited: epochs since then.
        start: metrics of the test before the first step, None where there was none.
        seconds: spent on the stage so far, in all processes.
        timed_steps, timed_seconds: those of them that its images per second are counted from.
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
    """The progress of a stage and the arrays that belong to it, by name, as a file holds them."""

    path: Path
    progress: Progress
    arrays: dict[str, np.ndarray]
    random_state: dict[str, Any]


class Checkpoints:
    """The checkpoints in a folder, which need not exist yet."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def paths(self) -> list[Path]:
        """Oldest first."""
        return sorted(path for path in self.folder.glob("*.npz") if not path.name.startswith("."))

    def save(self, progress: Progress, arrays: Mapping[str, np.ndarray]) -> Path:
        """Writes a checkpoint and deletes those older than the last two.

        Raises:
            OSError: the disk is full or cannot be written; what was there before still is.
        """
        record = json.dumps({"position": asdict(progress), "random_state": random_state()})
        content = io.BytesIO()
        np.savez(content, **{_RECORD: np.array(record)}, **{f"array/{name}": value for name, value in arrays.items()})
        data = content.getbuffer()
        self.folder.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256(data).hexdigest()
        path = self.folder / f"{progress.epoch:05d}-{progress.step:08d}.{digest}.npz"
        files.write_bytes(path, data, durable=True)
        # Also what a process left that was killed while it wrote.
        for old in [*self.paths()[:-KEPT], *self.folder.glob(".*")]:
            old.unlink()
        return path

    def latest(self) -> tuple[Optional[Checkpoint], list[str]]:
        """The newest checkpoint that is whole, and a sentence about each newer one that is not."""
        damaged: list[str] = []
        for path in reversed(self.paths()):
            try:
                return _read(path), damaged
            except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
                damaged.append(f"The checkpoint {path} is damaged ({error}); resuming from the one before.")
        return None, damaged

    def read(self, name: str) -> Checkpoint:
        """The checkpoint of that file.

        Raises:
            OSError, ValueError: it is not there, or damaged.
        """
        return _read(self.folder / name)


def _read(path: Path) -> Checkpoint:
    content = path.read_bytes()
    digest = path.name.split(".")[1]
    if len(digest) != _DIGEST_LENGTH or hashlib.sha256(content).hexdigest() != digest:
        raise ValueError("its content has another hash than its name")
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        record = json.loads(str(file[_RECORD]))
        arrays = {name.partition("/")[2]: file[name] for name in file.files if name != _RECORD}
    return Checkpoint(path, Progress(**record["position"]), arrays, record["random_state"])


def random_state() -> dict[str, Any]:
    """The states of Python's and NumPy's random generators, as plain data.

    TensorFlow's generator has no state to keep: no network of the zoo draws random numbers while it trains, and
    augmentation draws from the seed and the position.
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
