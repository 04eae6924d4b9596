"""Captures the output of C++ code, to hide it from the user."""

import contextlib
import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator

_STDERR = 2
_STDOUT_AND_STDERR = (1, _STDERR)
# File descriptors belong to the whole process. If two threads redirected them at the same time, the second would save
# the temporary file of the first as if it were the terminal, and would restore that file at the end.
_one_at_a_time = threading.RLock()


@contextlib.contextmanager
def captured_output() -> Iterator[None]:
    """Discards everything that is written to file descriptors 1 and 2 while the block runs.

    ``contextlib.redirect_stdout`` does not affect the output of TensorFlow's libraries. The descriptors are restored
    even after an error. Output of other threads is lost too, so use this where no other thread prints.
    """
    with _one_at_a_time, tempfile.TemporaryFile() as file, _redirected(_STDOUT_AND_STDERR, file.fileno()):
        yield


@contextlib.contextmanager
def without_lines(noise: "re.Pattern[bytes]") -> Iterator[None]:
    """Removes lines that match ``noise`` from the stderr of all threads; prints the others when the block ends."""
    with _one_at_a_time, tempfile.TemporaryFile() as file:
        try:
            with _redirected((_STDERR,), file.fileno()):
                yield
        finally:
            file.seek(0)
            for line in file:
                if not noise.search(line):
                    os.write(_STDERR, line)


@contextlib.contextmanager
def _redirected(descriptors: tuple[int, ...], to: int) -> Iterator[None]:
    _flush()
    saved = [os.dup(descriptor) for descriptor in descriptors]
    try:
        for descriptor in descriptors:
            os.dup2(to, descriptor)
        yield
    finally:
        _flush()
        for descriptor, copy in zip(descriptors, saved, strict=True):
            os.dup2(copy, descriptor)
            os.close(copy)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):  # a stream may be None, broken or closed
            stream.flush()
