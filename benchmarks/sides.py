"""Processes that are measured in turns, so that other load on the machine affects all of them alike.

All processes but the one whose turn it is are stopped, with their threads: an input pipeline would otherwise fill its
buffers during the turns of others, and that work would not be counted in its own times.
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
        name: name of the side in tables.
        work: ``work(*arguments, connection)``, which runs in the process. It sends one message at the start, then
            answers every True that it receives with what it measured in a turn, and ends at False.
        arguments: the first arguments of ``work``.

    Attributes:
        said: the message that ``work`` sent at the start.
    """

    def __init__(self, name: str, work: Callable[..., None], *arguments: Any) -> None:
        self.name = name
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=work, args=(*arguments, theirs), daemon=True)
        self._process.start()
        # When this process ends, multiprocessing sends SIGTERM to the sides and waits, but a stopped side never reacts.
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
