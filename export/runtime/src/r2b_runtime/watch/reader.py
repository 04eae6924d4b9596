"""Reads a source in a thread of its own and keeps the newest frame, so that a slow network sees current frames."""

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable
from typing import Optional

from r2b_runtime.watch.frames import CameraLostError, Picture, Source

FIRST_DELAY, LONGEST_DELAY = 1.0, 60.0
"""Seconds until a lost camera is tried again, at first and at most; each try without a frame doubles them."""


@dataclasses.dataclass(frozen=True)
class Frame:
    """A frame as it came.

    Attributes:
        number: how many frames the source has given so far, from 1.
        arrived: `time.monotonic()` when it came.
        damaged: frames before it that the source left out.
        picture: what it shows, not decoded yet.
    """

    number: int
    arrived: float
    damaged: int
    picture: Picture


class Reader:
    """The newest frame of a source.

    Args:
        source: where frames come from.
        wait: open the source again when it ends or breaks off.
        report: takes a sentence about the source for the user, from the reader's thread.
        notify: is called, in that thread, when there is something new.

    Attributes:
        dropped: frames that nobody took.
        lost: whether the source has ended or broken off, and is to be opened again.
        ended: why there will be no more frames, or None.
        error: what made reading impossible, or None.
    """

    def __init__(self, source: Source, wait: bool, report: Callable[[str], None], notify: Callable[[], None]) -> None:
        self.dropped = 0
        self.lost = False
        self.ended: Optional[str] = None
        self.error: Optional[Exception] = None
        self._source, self._wait, self._report, self._notify = source, wait, report, notify
        self._frame: Optional[Frame] = None
        self._number = 0
        self._changed = threading.Condition()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="frames", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def take(self) -> Optional[Frame]:
        """The newest frame, or None if it was already taken."""
        with self._changed:
            frame, self._frame = self._frame, None
            self._changed.notify()
        return frame

    def stop(self) -> None:
        """Ends reading without waiting for a read that blocks."""
        self._stopped.set()
        with self._changed:
            self._changed.notify()
        self._source.close()
        if self._source.farewell and self._thread.is_alive():
            self._thread.join(self._source.farewell)

    def _run(self) -> None:
        try:
            delay = FIRST_DELAY
            while not self._stopped.is_set():
                before = self._number
                try:
                    with contextlib.closing(self._source.frames()) as pictures:
                        for picture in pictures:
                            self._put(picture)
                            if self._stopped.is_set():
                                return
                    reason = f"it ended after {self._number} frames" if self._number else "it ended without a frame"
                except CameraLostError as lost:
                    reason = str(lost)
                if not self._wait:
                    self.ended = f"{self._source.name}: {reason}"
                    return
                delay = FIRST_DELAY if self._number > before else delay
                self.lost = True
                self._notify()
                self._report(f"{self._source.name}: {reason}; trying again in {delay:g} s")
                self._stopped.wait(delay)
                delay = min(2 * delay, LONGEST_DELAY)
        except Exception as error:  # reported by the thread that takes frames
            self.error = error
        finally:
            self._notify()

    def _put(self, picture: Picture) -> None:
        with self._changed:
            if not self._source.live:
                self._changed.wait_for(lambda: self._frame is None or self._stopped.is_set())
            self.dropped += self._frame is not None
            self._number += 1
            self._frame = Frame(self._number, time.monotonic(), self._source.damaged, picture)
            returned, self.lost = self.lost, False
        if returned:
            self._report(f"{self._source.name}: frames arrive again")
        self._notify()
