"""The ``r2b`` command, a file for the commands of one purpose.

Every command imports what it needs itself, so that ``r2b --help`` answers at once.
"""

from r2b_zoo.cli import classifying, converting, training, zoo  # noqa: F401  (each adds its commands)
from r2b_zoo.cli.command import main, r2b

__all__ = ["main", "r2b"]
