"""Fixtures that every test file may use."""

import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import r2b_zoo  # noqa: F401  (selects Keras 2, so it comes before tensorflow)

import numpy as np  # isort: skip
import pytest  # isort: skip
import tensorflow as tf  # isort: skip

from r2b_zoo.run_folder import RunFolder  # isort: skip

TEST_DATA = Path(os.environ.get("R2B_ZOO_TEST_DATA") or Path(__file__).parents[2] / "shared" / "tfds")


@pytest.fixture(autouse=True)
def _seed():
    """Every test starts from the same random numbers, whatever ran before it."""
    tf.keras.utils.set_random_seed(20260301)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture(scope="session")
def photographs() -> list[np.ndarray]:
    """40 real photographs, uint8 (H, W, 3) of many sizes: a sample of ImageNet's validation split."""
    if not (TEST_DATA / "imagenet2012").is_dir():
        pytest.skip(f"no photographs: {TEST_DATA / 'imagenet2012'} is missing (set R2B_ZOO_TEST_DATA)")
    import tensorflow_datasets as tfds

    data = tfds.load("imagenet2012", split="validation", data_dir=str(TEST_DATA), download=False)
    return [example["image"] for example in tfds.as_numpy(data)]


@pytest.fixture(scope="session")
def smoke_run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A finished run of every stage of the digits recipe, two steps each. Read only: copy what you change."""
    from r2b_zoo import pipeline, recipes

    folder = RunFolder(tmp_path_factory.mktemp("runs") / "smoke")
    pipeline.run(recipes.plan("digits", smoke=True, width=8), folder)
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Groups for ``--dist loadgroup``: what shares the smoke run goes to one process, and else what shares a file."""
    for item in items:
        shared = "smoke_run" if "smoke_run" in getattr(item, "fixturenames", ()) else item.path.stem
        item.add_marker(pytest.mark.xdist_group(shared))
