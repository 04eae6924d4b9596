"""Tests ``rarely_collected``, which raises the garbage collector's thresholds while graphs are built."""

import gc
from collections.abc import Iterator

import pytest

from r2b_zoo.system.garbage import THRESHOLDS, rarely_collected


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


@pytest.mark.parametrize(
    ("before", "within"),
    [
        ((700, 10, 10), THRESHOLDS),
        ((50_000, 10, 100), (50_000, THRESHOLDS[1], 100)),
        ((0, 10, 10), (0, 10, 10)),  # the collector is off, and stays off
    ],
)
def test_thresholds_are_raised_and_restored(before: tuple[int, ...], within: tuple[int, ...]) -> None:
    gc.set_threshold(*before)
    with rarely_collected():
        assert gc.get_threshold() == within
    assert gc.get_threshold() == before
    with pytest.raises(KeyError), rarely_collected():
        raise KeyError
    assert gc.get_threshold() == before
