"""Reads a source in a separate thread and keeps the newest frame, so that even a slow model gets current frames."""

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable
from typing import Optional

from r2b_runtime.watch.frames import CameraLostError, Picture, Source

FIRST_DELAY, LONGEST_DELAY = 1.0, 60.0
"""Seconds until a lost camera is tried again, at first and at most; each try without a frame doubles the delay."""


@dataclasses.dataclass(frozen=True)
class Frame:
    """A frame of the source.

    Attributes:
        number: number of the frame, counted from 1 over the whole run.
        arrived: `time.monotonic()` when it arrived.
        damaged: number of frames that the source has left out as damaged so far.
        picture: the image, not decoded yet.
    """

    number: int
    arrived: float
    damaged: int
    picture: Picture


class Reader:
    """Holds the newest frame of a source.

    Args:
        source: where frames come from.
        wait: whether to open the source again when it ends or breaks off.
        report: is called, in the reader's thread, with a sentence about the source for the user.
        notify: is called, in the same thread, when there is a new frame or an attribute below has changed.

    Attributes:
        dropped: number of frames that were replaced by a newer one before they were taken.
        lost: whether the source has ended or broken off, and is to be opened again.
        ended: the reason why there will be no more frames, or None.
        error: the exception that ended reading, or None.
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
        """The newest frame; None if it was already taken, or none has arrived yet."""
        with self._changed:
            frame, self._frame = self._frame, None
            self._changed.notify()
        return frame

    def stop(self) -> None:
        """Ends reading. If the source has a `farewell`, waits at most that long for the thread to end."""
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
        except Exception as error:  # raised by the thread that takes frames
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
