"""Fixtures that every test file may use."""

import gc
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Union

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import r2b_zoo  # noqa: F401  (selects Keras 2, so it comes before tensorflow)

import numpy as np  # isort: skip
import pytest  # isort: skip
import tensorflow as tf  # isort: skip
from PIL import Image  # isort: skip
from xdist.scheduler import LoadScopeScheduling  # isort: skip

from r2b_zoo.runs.folder import RunFolder  # isort: skip
from tests import small  # isort: skip

# Graphs consist of many small, long-lived objects, and garbage collection among them took a tenth of the suite's time.
gc.freeze()
gc.set_threshold(50_000, 10, 10)

# If a shell starts the suite in the background, the suite and the processes that its tests start ignore SIGINT. Some
# tests send SIGINT to such a process and wait for its effect, so restore Python's handler.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

TEST_DATA = Path(os.environ.get("R2B_ZOO_TEST_DATA") or Path(__file__).parents[2] / "shared" / "tfds")


def skip_without(name: str) -> None:
    """Skips the test if TensorFlow Datasets has not prepared the data set of that name."""
    if not (TEST_DATA / name).is_dir():
        pytest.skip(f"no {name}: {TEST_DATA / name} is missing (set R2B_ZOO_TEST_DATA)")


@pytest.fixture(autouse=True)
def _seed():
    """Gives every test the same random numbers, whatever ran before it."""
    tf.keras.utils.set_random_seed(20260301)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def _imagenet_sample() -> Iterator[np.ndarray]:
    """Real photographs, uint8 (H, W, 3) of many sizes: a sample of ImageNet's validation split."""
    import tensorflow_datasets as tfds

    data = tfds.load("imagenet2012", split="validation", data_dir=str(TEST_DATA), download=False)
    return (example["image"] for example in tfds.as_numpy(data))


@pytest.fixture(scope="session")
def photographs() -> list[np.ndarray]:
    """All 40 photographs of the validation split in the ImageNet sample."""
    skip_without("imagenet2012")
    return list(_imagenet_sample())


@pytest.fixture(scope="session")
def photograph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Path of a PNG file: a real photograph if the ImageNet sample is present, random pixels otherwise."""
    path = tmp_path_factory.mktemp("photographs") / "photograph.png"
    pixels = np.random.default_rng(5).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    if (TEST_DATA / "imagenet2012").is_dir():
        pixels = next(_imagenet_sample())
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def shallow() -> Iterator[None]:
    """Gives the networks that the test builds two blocks instead of eight."""
    with small.shallow():
        yield


@pytest.fixture(scope="session")
def smoke_folder(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The folder of ``smoke_run``, for fixtures that several tests share. Load it within ``small.shallow()``."""
    from r2b_zoo import pipeline, recipes

    folder = RunFolder(tmp_path_factory.mktemp("runs") / "smoke")
    with small.shallow():
        pipeline.run(recipes.plan("digits", smoke=True, width=8), folder)
    return folder


@pytest.fixture
def smoke_run(smoke_folder: RunFolder, shallow: None) -> RunFolder:
    """A finished run of every stage of the digits recipe, with two steps each and networks of two blocks.

    Tests share it, so a test must not change it: copy it first.
    """
    return smoke_folder


@dataclass
class Ended:
    """The exit status of an ``r2b`` command, its standard output and its standard error."""

    status: Union[int, str, None]
    out: str
    err: str

    @property
    def words(self) -> str:
        """Standard output with single spaces, because line breaks and padding depend on the terminal's width."""
        return " ".join(self.out.split())


@pytest.fixture
def r2b(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """``r2b(*words)`` runs the ``r2b`` command with these words, in this process."""
    from r2b_zoo import cli

    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", os.environ.get("TF_CPP_MIN_LOG_LEVEL", "3"))
    monkeypatch.setenv("GRPC_VERBOSITY", "ERROR")
    monkeypatch.setenv("COLUMNS", "200")

    def run(*words: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["r2b", *map(str, words)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return Ended(ended.value.code, *capfd.readouterr())

    return run


class _Groups(LoadScopeScheduling):
    """Sends the tests of a group to one process of pytest-xdist.

    The file of a test determines its group, see ``_group``. pytest-xdist's own groups (``--dist loadgroup``) are marks,
    which pytest 9 no longer passes on to it.
    """

    def _split_scope(self, nodeid: str) -> str:
        return _group(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _Groups:
    return _Groups(config, log)


def _group(nodeid: str) -> str:
    """The group of a test: "smoke_run" in files that use the smoke run, "converted" in files that import ``converted``.

    In other files, the group is the file. In a file that defines SHARES_NOTHING, each test takes minutes and is a
    separate group, so that any free process can run it.
    """
    file = nodeid.split("::")[0]
    source = _source(Path(file).name)
    if re.search("^SHARES_NOTHING", source, re.MULTILINE):
        return nodeid
    if re.search(r"\bsmoke_(run|folder)\b", source):
        return "smoke_run"
    return "converted" if "import converted" in source else file


@cache
def _source(name: str) -> str:
    path = Path(__file__).parent / name
    return path.read_text(encoding="utf-8") if path.is_file() else ""
