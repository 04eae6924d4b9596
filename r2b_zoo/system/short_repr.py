"""A ``__repr__`` for records that is a few lines long in a notebook, however many megabytes they hold."""

import reprlib
from dataclasses import fields
from typing import Any

import numpy as np

LONGEST = 400
"""Maximum number of characters of a repr."""


class _Short(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 2
        self.maxtuple = self.maxlist = self.maxdict = self.maxset = 3
        self.maxstring = self.maxother = 60

    def repr1(self, x: Any, level: int) -> str:
        if isinstance(x, (bytes, bytearray, memoryview)):
            return f"<{len(x):,} bytes>"
        if isinstance(x, np.ndarray):
            return f"<{x.dtype} array {x.shape}>"
        return super().repr1(x, level)


_short = _Short()


def short_repr(record: Any) -> str:
    """The fields of a dataclass, each shortened, in at most ``LONGEST`` characters. Assign it as ``__repr__``."""
    words = [f"{field.name}={_short.repr(getattr(record, field.name))}" for field in fields(record) if field.repr]
    text = f"{type(record).__qualname__}({', '.join(words)})"
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 4]}...)"
