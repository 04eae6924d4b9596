"""Loads TensorFlow without the many messages that its libraries print while they load."""

import contextlib
import os
import sys
from collections.abc import Iterator

LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
NO_MESSAGES = "3"


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook. Imports nothing."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return type(shell).__name__ == "ZMQInteractiveShell"


@contextlib.contextmanager
def without_messages() -> Iterator[None]:
    """Hides what TensorFlow's libraries print while the block loads them.

    Afterwards, TensorFlow's Python logger shows only errors.
    """
    from r2b_zoo.system.captured_output import captured_output

    # TF_CPP_MIN_LOG_LEVEL does not hide all messages that the libraries print while they load.
    with captured_output():
        yield
    import tensorflow

    tensorflow.get_logger().setLevel("ERROR")


def load_tensorflow() -> None:
    with without_messages():
        import tensorflow  # noqa: F401


@contextlib.contextmanager
def without_messages_in_a_notebook() -> Iterator[None]:
    """``without_messages`` in a notebook, whose cells would show all messages in red; does nothing elsewhere.

    In a notebook, ``TF_CPP_MIN_LOG_LEVEL`` becomes 3 unless it is set already. A user who wants to see all messages
    sets it to 0 before the first import.
    """
    if in_notebook() and os.environ.setdefault(LOG_LEVEL, NO_MESSAGES) != "0":
        with without_messages():
            yield
    else:
        yield
