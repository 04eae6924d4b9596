"""The ``r2b`` command, with one module per group of commands.

Each command imports what it needs when it runs, so that ``r2b --help`` answers at once.
"""

from r2b_zoo.cli import classifying, converting, training, zoo  # noqa: F401  (each adds its commands)
from r2b_zoo.cli.command import main, r2b

__all__ = ["main", "r2b"]
