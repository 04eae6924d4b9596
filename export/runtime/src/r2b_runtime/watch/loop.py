"""Classifies frames as they arrive, and passes events to the outputs."""

import dataclasses
import datetime
import os
import pathlib
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, Optional

import numpy as np

from r2b_runtime.classifier import Classifier
from r2b_runtime.watch import frames
from r2b_runtime.watch.frames import Source, decoded
from r2b_runtime.watch.hysteresis import Hysteresis, Rules
from r2b_runtime.watch.outputs import Event, Lines, Output
from r2b_runtime.watch.reader import Frame, Reader
from r2b_runtime.watch.systemd import Notifier

_STOPPING = (signal.SIGINT, signal.SIGTERM)


class _StoppedError(BaseException):
    """A signal to stop came while an event was passed to the outputs, which may block, for instance on a full pipe."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings of a run.

    Attributes:
        rules: when the label changes.
        every: seconds between events of the kind "alive"; None: there are none.
        top: how many of the most probable classes an event lists; 0: none.
        wait: whether to open the source again after it has ended or broken off.
    """

    rules: Rules
    every: Optional[float] = None
    top: int = 0
    wait: bool = True


class Watch:
    """The state of one run. `run` returns when the source has ended or a signal has come.

    Args:
        classifier: classifies each frame.
        source: where frames come from.
        settings: the settings of the run.
        outputs: receive each event, in this order.
        report: is called with a sentence for the user, from any thread.
    """

    def __init__(
        self,
        classifier: Classifier,
        source: Source,
        settings: Settings,
        outputs: Sequence[Output],
        report: Callable[[str], None],
    ) -> None:
        self._classifier, self._source, self._settings = classifier, source, settings
        self._outputs, self._report = outputs, report
        self._notifier = Notifier()
        self._woken, self._wake = _pipe()
        self._reader = Reader(source, settings.wait, report, self._notify)
        self._state = Hysteresis(settings.rules)
        self._row: Optional[np.ndarray] = None
        self._frame = self._damaged = self._undecoded = 0
        self._arrived: Optional[float] = None
        self._silent_at: Optional[float] = None
        self._here: Optional[bool] = None
        self._signal: Optional[int] = None
        self._in_output = False

    def run(self) -> int:
        """Watches until the source ends or a signal comes, and returns the exit status.

        The status is 130 after SIGINT and 0 after SIGTERM. At the end of the source it is 0, or 1 if no frame was
        classified. Raises the errors of reading the source, and `ValueError` if the network's output contains NaN.
        """
        finished = False
        with self._signals():
            try:
                self._reader.start()
                self._notifier.ready(f"watching {self._source.name}")
                finished = self._loop()
            except _StoppedError:
                pass
            finally:
                self._notifier.stopping()
                self._reader.stop()
                for output in self._outputs:
                    output.close(finished)
        if self._signal is not None:
            return 130 if self._signal == signal.SIGINT else 0
        self._report(
            f"{self._reader.ended}; {self._reader.dropped} frames were dropped and "
            f"{self._source.damaged + self._undecoded} damaged"
        )
        return 0 if self._row is not None else 1

    def _loop(self) -> bool:
        """Classifies frames; returns True at the end of the source, and False after a signal."""
        alive_at = None if self._settings.every is None else time.monotonic() + self._settings.every
        while self._signal is None:
            self._notifier.watchdog()
            # Read these before taking a frame; otherwise the reader might put a last frame and set them in between.
            ended, lost = self._reader.ended, self._reader.lost
            frame = self._reader.take()
            if frame is not None:
                self._camera(True)
                self._classify(frame)
            elif self._reader.error is not None:
                raise self._reader.error
            elif ended is not None:
                return True
            elif lost or self._is_silent():
                self._camera(False)
            now = time.monotonic()
            if alive_at is not None and now >= alive_at:
                alive_at = now + float(self._settings.every or 0)
                self._tell(self._event("alive", self._label()))
            if frame is None:
                self._sleep([alive_at, self._notifier.next_watchdog, self._silent_at if self._here else None])
        return False

    def _is_silent(self) -> bool:
        """Whether a live source has sent nothing for `SILENCE` seconds, for instance because a pipe's writer hangs."""
        return self._silent_at is not None and time.monotonic() >= self._silent_at

    def _classify(self, frame: Frame) -> None:
        self._damaged = frame.damaged
        self._silent_at = frame.arrived + frames.SILENCE if self._source.live else None
        try:
            picture = decoded(frame.picture)
        except (ValueError, OSError) as error:
            self._undecoded += 1
            if not self._source.live or _is_power_of_ten(self._undecoded):
                name = frame.picture if isinstance(frame.picture, pathlib.Path) else f"frame {frame.number}"
                self._report(f"{name} is left out: {error}")
            return
        self._row = self._classifier.probabilities(picture)
        self._frame, self._arrived = frame.number, frame.arrived
        previous = self._label()
        if self._state.update(self._row.tolist(), frame.arrived):
            file = {"file": str(frame.picture)} if isinstance(frame.picture, pathlib.Path) else {}
            self._tell(self._event("change", previous, **file))
            self._notifier.status(f"{self._source.name}: {self._label()}")

    def _label(self) -> Optional[str]:
        return None if self._state.label is None else self._classifier.labels[self._state.label]

    def _event(self, kind: str, previous: Optional[str], **more: Any) -> Event:
        index, row = self._state.label, self._row
        if index is None and row is not None:
            index = int(row.argmax())
        if row is not None and self._settings.top:
            best = np.argsort(-row, kind="stable")[: self._settings.top]
            more["top"] = [{"label": self._classifier.labels[i], "probability": _rounded(row[i])} for i in best]
        if kind == "alive":
            arrived = self._arrived
            more["seconds_since_frame"] = None if arrived is None else round(time.monotonic() - arrived, 3)
        return Event(
            kind,
            datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds"),
            self._label(),
            None if index is None or row is None else _rounded(row[index]),
            previous,
            self._frame,
            self._reader.dropped,
            self._damaged + self._undecoded,
            more,
        )

    def _tell(self, event: Event) -> None:
        self._in_output = True
        try:
            if self._signal is not None:  # the signal came before this event, and an output might block forever
                raise _StoppedError
            for output in self._outputs:
                if isinstance(output, Lines):
                    self._wait_for_room(output)
                output.event(event)
        finally:
            self._in_output = False

    def _wait_for_room(self, lines: Lines) -> None:
        """Waits until a line can be written without blocking; raises `_StoppedError` if a signal comes before that.

        A signal that comes just before a blocking write does not interrupt it. If nobody reads the output, the write
        never returns. Waiting for `_woken` notices such a signal: Python writes the signal's number to that pipe.
        """
        descriptor = lines.descriptor
        while descriptor is not None and not select.select([], [descriptor], [], 0)[1]:
            if self._signal is not None:
                raise _StoppedError
            select.select([self._woken], [descriptor], [])
            self._drain()

    def _camera(self, here: bool) -> None:
        if here is self._here:
            return
        self._here = here
        if not here:
            self._state.interrupt()
        for output in self._outputs:
            output.camera(here)

    def _sleep(self, moments: Sequence[Optional[float]]) -> None:
        """Sleeps until the reader or a signal wakes the loop, or until the earliest of `moments`.

        A moment is a value of `time.monotonic()`, or None, which is ignored.
        """
        known = [moment for moment in moments if moment is not None]
        timeout = max(0.0, min(known) - time.monotonic()) if known else None
        select.select([self._woken], [], [], timeout)
        self._drain()

    def _drain(self) -> None:
        """Empties the pipe that wakes the loop."""
        with suppress(BlockingIOError):
            os.read(self._woken, 1 << 16)

    def _notify(self) -> None:
        with suppress(BlockingIOError):  # the pipe is full, so the loop wakes up anyway
            os.write(self._wake, b"\0")

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Handles the signals that stop the run. Only the main thread may set handlers; in others this does nothing."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        former = {number: signal.signal(number, self._stop) for number in _STOPPING}
        wakeup = signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(wakeup)
            for number, handler in former.items():
                signal.signal(number, handler)

    def _stop(self, number: int, _frame: Optional[FrameType]) -> None:
        self._signal = number
        if self._in_output:
            self._in_output = False
            raise _StoppedError


def _pipe() -> tuple[int, int]:
    ends = os.pipe()
    for end in ends:
        os.set_blocking(end, False)
    return ends


def _rounded(probability: np.float32) -> float:
    return round(float(probability), 6)


def _is_power_of_ten(number: int) -> bool:
    return set(str(number)[1:]) <= {"0"} and str(number)[0] == "1"
