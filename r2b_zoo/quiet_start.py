"""Loads TensorFlow without the pages of messages that its libraries write while they load."""

import os
import sys

LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
NO_MESSAGES = "3"


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook. Imports nothing."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return type(shell).__name__ == "ZMQInteractiveShell"


def load_tensorflow() -> None:
    """Imports TensorFlow; what its libraries print meanwhile is not shown."""
    from r2b_zoo.captured_output import captured_output

    # The level alone does not reach what is logged while the libraries load.
    with captured_output():
        import tensorflow
    # Its Python code logs by itself.
    tensorflow.get_logger().setLevel("ERROR")


def load_tensorflow_for_notebook() -> None:
    """The same in a notebook, whose cells would show all of it in red; elsewhere nothing is done.

    What is set already stays: ``TF_CPP_MIN_LOG_LEVEL=0`` before the first import shows everything.
    """
    if in_notebook() and "tensorflow" not in sys.modules and os.environ.setdefault(LOG_LEVEL, NO_MESSAGES) != "0":
        load_tensorflow()
