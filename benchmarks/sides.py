"""Processes that are measured in turns, so that whatever else the machine does hits all of them.

Whoever is not at turn is stopped, threads and all: an input pipeline would fill its buffers while others are measured,
and be measured with what it had finished before.
"""

import atexit
import multiprocessing
import os
import signal
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
        # Where this process fails, multiprocessing asks those it started to end, and stopped ones would never answer.
        atexit.register(self._process.kill)
        theirs.close()
        self.said: Any = self._connection.recv()
        self._signal(signal.SIGSTOP)

    def turn(self) -> Any:
        self._signal(signal.SIGCONT)
        self._connection.send(True)
        try:
            return self._connection.recv()
        finally:
            self._signal(signal.SIGSTOP)

    def end(self) -> None:
        self._signal(signal.SIGCONT)
        self._connection.send(False)
        self._process.join()

    def _signal(self, number: int) -> None:
        pid = self._process.pid
        if pid is not None and self._process.is_alive():
            os.kill(pid, number)
