"""A setting that a block of code can change for the time that it runs."""

import contextlib
import threading
from collections.abc import Iterator


class Switch(threading.local):
    """A switch with a value per thread, off at first.

    A distribution strategy traces each replica in a thread, and one replica must not change the switch of another.
    """

    on = False

    @contextlib.contextmanager
    def set_to(self, value: bool) -> Iterator[None]:
        before, self.on = self.on, value
        try:
            yield
        finally:
            self.on = before
