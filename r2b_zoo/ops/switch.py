"""A setting that is on while a block of code runs."""

import contextlib
import threading
from collections.abc import Iterator


class Switch(threading.local):
    """A switch that each thread sets for itself, because a distribution strategy traces its replicas in threads."""

    on = False

    @contextlib.contextmanager
    def set_to(self, value: bool) -> Iterator[None]:
        before, self.on = self.on, value
        try:
            yield
        finally:
            self.on = before
