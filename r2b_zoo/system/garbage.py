"""Runs Python's garbage collector less often where TensorFlow builds graphs."""

import contextlib
import gc
from collections.abc import Iterator

THRESHOLDS = (20_000, 20, 50)
"""Arguments of ``gc.set_threshold``; Python's defaults are 700, 10 and 10."""


@contextlib.contextmanager
def rarely_collected() -> Iterator[None]:
    """Raises the collector's thresholds while the block runs, unless they are higher already or the collector is off.

    A graph consists of many small objects that live long. With Python's thresholds the collector searches all of them
    again and again. In a short training run this takes a quarter of the time.
    """
    before = gc.get_threshold()
    if before[0]:
        gc.set_threshold(*map(max, before, THRESHOLDS))
    try:
        yield
    finally:
        gc.set_threshold(*before)
