"""Captures the output of C++ code, to hide it from the user and to quote it in error messages."""

import contextlib
import os
import re
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator

_LINES_SHOWN = 20
_STDERR = 2
_STDOUT_AND_STDERR = (1, _STDERR)
# File descriptors belong to the process. If two blocks overlapped, the second would mistake the first one's file for
# the terminal, and restore it at its end.
_one_at_a_time = threading.RLock()


@contextlib.contextmanager
def captured_output() -> Iterator[Callable[[], str]]:
    """Redirects file descriptors 1 and 2 to a temporary file while the block runs.

    Python's own redirection does not affect the output of TensorFlow's libraries. The descriptors are restored even
    after an error. Output of other threads is lost too, so this is for the start of a program.

    Yields:
        A function that returns the last lines written so far; call it inside the block.
    """
    with _one_at_a_time, tempfile.TemporaryFile() as file:

        def tail() -> str:
            _flush()
            file.seek(0)
            lines = file.read().decode(errors="replace").splitlines()
            return "\n".join(lines[-_LINES_SHOWN:])

        with _redirected(_STDOUT_AND_STDERR, file.fileno()):
            yield tail


@contextlib.contextmanager
def without_lines(noise: "re.Pattern[bytes]") -> Iterator[None]:
    """Removes matching lines of all threads from stderr; the other lines are printed when the block ends."""
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
        with contextlib.suppress(AttributeError, OSError, ValueError):  # None, broken or closed
            stream.flush()
