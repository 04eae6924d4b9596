"""Keeps what C++ code prints away from the user, and at hand for an error message."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator

_LINES_SHOWN = 20
_STDOUT_AND_STDERR = (1, 2)


@contextlib.contextmanager
def captured_output() -> Iterator[Callable[[], str]]:
    """Sends file descriptors 1 and 2 to a temporary file while the block runs.

    Python's own redirection does not reach what TensorFlow's libraries write. The descriptors come back whatever
    happens in the block.

    Yields:
        A function that returns the last lines written so far; call it inside the block.
    """
    with tempfile.TemporaryFile() as file:

        def tail() -> str:
            _flush()
            file.seek(0)
            lines = file.read().decode(errors="replace").splitlines()
            return "\n".join(lines[-_LINES_SHOWN:])

        _flush()
        saved = [os.dup(descriptor) for descriptor in _STDOUT_AND_STDERR]
        try:
            for descriptor in _STDOUT_AND_STDERR:
                os.dup2(file.fileno(), descriptor)
            yield tail
        finally:
            _flush()
            for descriptor, copy in zip(_STDOUT_AND_STDERR, saved, strict=True):
                os.dup2(copy, descriptor)
                os.close(copy)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):  # None, broken or closed
            stream.flush()
