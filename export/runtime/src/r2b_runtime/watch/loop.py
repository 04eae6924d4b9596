"""Classifies the newest frame again and again, and tells outputs what changed."""

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
    """A signal came while an output blocked, for instance on a full pipe."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings of a run.

    Attributes:
        rules: when the label changes.
        every: seconds between signs of life; None: none.
        top: how many of the most probable classes an event lists; 0: none.
        wait: open a source again that has ended or broken off.
    """

    rules: Rules
    every: Optional[float] = None
    top: int = 0
    wait: bool = True


class Watch:
    """The state of one run. `run` returns when the source has ended or a signal came.

    Args:
        classifier: what classifies a frame.
        source: where frames come from.
        settings: when the label changes, and what events hold.
        outputs: take the events, in this order.
        report: takes a sentence for the user, from any thread.
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
        """Watches; returns the exit status: 0, 1 if no frame was classified, 130 after SIGINT.

        Raises the errors of reading the source, and `ValueError` for an answer of the network that is not a number.
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
        """Returns whether the source has ended by itself."""
        alive_at = None if self._settings.every is None else time.monotonic() + self._settings.every
        while self._signal is None:
            self._notifier.watchdog()
            # Read these before taking a frame: the reader sets them only after it has put its last frame.
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
        """Whether a camera that has not ended sends nothing, for instance because the program behind a pipe hangs."""
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
            if self._signal is not None:  # the signal came between outputs, and an output might block forever
                raise _StoppedError
            for output in self._outputs:
                if isinstance(output, Lines):
                    self._wait_for_room(output)
                output.event(event)
        finally:
            self._in_output = False

    def _wait_for_room(self, lines: Lines) -> None:
        """Waits until a write would not block, or raises `_StoppedError` after a signal.

        A signal that comes just before a write does not interrupt it, and if nobody reads the pipe, the write would
        never return. This waits for the signal, too, because its number is written to the pipe of `_woken`.
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
        """Sleeps until there is something new, or until the first of these moments."""
        known = [moment for moment in moments if moment is not None]
        timeout = max(0.0, min(known) - time.monotonic()) if known else None
        select.select([self._woken], [], [], timeout)
        self._drain()

    def _drain(self) -> None:
        """Empties the pipe that wakes the loop."""
        with suppress(BlockingIOError):
            os.read(self._woken, 1 << 16)

    def _notify(self) -> None:
        with suppress(BlockingIOError):  # the pipe is full, so its reader wakes up anyway
            os.write(self._wake, b"\0")

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Handles the signals that stop the run; does nothing outside the main thread, which alone may set handlers."""
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
