"""Processes that are measured in turns, so that whatever else the machine does hits all of them."""

import multiprocessing
from collections.abc import Callable
from typing import Any


class Side:
    """A process that does its work a turn at a time.

    Args:
        name: for tables.
        work: ``work(*arguments, connection)``; sends what it has to say at the start, then answers every True that it
            receives with what it measured in a turn, and ends at False.
        arguments: of ``work``.

    Attributes:
        said: what it sent at the start.
    """

    def __init__(self, name: str, work: Callable[..., None], *arguments: Any) -> None:
        self.name = name
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=work, args=(*arguments, theirs), daemon=True)
        self._process.start()
        theirs.close()
        self.said: Any = self._connection.recv()

    def turn(self) -> Any:
        self._connection.send(True)
        return self._connection.recv()

    def end(self) -> None:
        self._connection.send(False)
        self._process.join()
