"""The outputs of events: lines of JSON, and commands."""

import dataclasses
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any, Optional, Protocol, TextIO

MOST_WAITING = 100
"""The most changes that wait while a command runs; further ones are dropped, with a message."""


@dataclasses.dataclass(frozen=True)
class Event:
    """The state of a watch at one moment.

    Attributes:
        event: "change" if the label has changed; "alive" for a sign of life.
        time: ISO 8601 with milliseconds, in UTC.
        label: the current class, or None if no class is probable enough.
        probability: of the label, or of the most probable class if there is no label; None before the first frame.
        previous: the label before this change; in a sign of life, the current label.
        frame: number of the last frame that was classified, from 1; 0 before the first.
        dropped: number of frames that were not classified, because newer ones had come.
        damaged: number of frames that the source left out as damaged, or that could not be decoded.
        more: further fields by name: "top", "file" or "seconds_since_frame".
    """

    event: str
    time: str
    label: Optional[str]
    probability: Optional[float]
    previous: Optional[str]
    frame: int
    dropped: int
    damaged: int
    more: dict[str, Any] = dataclasses.field(default_factory=dict)

    def as_json(self) -> str:
        """The event as a JSON object in one line of ASCII; the fields in `more` stand beside the others."""
        fields = {**vars(self), **self.more}
        del fields["more"]
        return json.dumps(fields)


class Output(Protocol):
    """Receives events. All methods are called from one thread, and should not wait for slow receivers."""

    def event(self, event: Event) -> None: ...

    def camera(self, here: bool) -> None:
        """Is called with True when frames begin to arrive, and with False when they stop."""

    def close(self, finish: bool) -> None:
        """Ends the output; if `finish` is true, after it has handled all events."""


class Lines:
    """One line of JSON for each event."""

    def __init__(self, stream: Optional[TextIO] = None) -> None:
        self._stream = stream or sys.stdout

    @property
    def descriptor(self) -> Optional[int]:
        """The file descriptor to which lines are written; None for a stream in memory."""
        try:
            return self._stream.fileno()
        except OSError:
            return None

    def event(self, event: Event) -> None:
        print(event.as_json(), file=self._stream, flush=True)

    def camera(self, here: bool) -> None:
        pass

    def close(self, finish: bool) -> None:
        pass


class Command:
    """Runs a shell command for each change of the label, one at a time.

    The label and the numbers are not in the command's text but in environment variables, whose values a shell does not
    execute.
    """

    def __init__(self, command: str, report: Callable[[str], None]) -> None:
        self._command, self._report = command, report
        self._waiting: queue.Queue[Optional[Event]] = queue.Queue(MOST_WAITING)
        self._thread = threading.Thread(target=self._run, name="commands", daemon=True)
        self._thread.start()

    def event(self, event: Event) -> None:
        if event.event != "change":
            return
        try:
            self._waiting.put_nowait(event)
        except queue.Full:
            self._report(f"--command: {MOST_WAITING} changes wait for it; this one is left out: {event.label!r}")

    def camera(self, here: bool) -> None:
        pass

    def close(self, finish: bool) -> None:
        if finish:
            self._waiting.put(None)
            self._thread.join()

    def _run(self) -> None:
        while (event := self._waiting.get()) is not None:
            try:
                done = subprocess.run(
                    ["/bin/sh", "-c", self._command],
                    env={**os.environb, **_variables(event)},
                    stdin=subprocess.DEVNULL,
                    stdout=2,  # standard output is for lines of JSON
                )
            except OSError as error:
                self._report(f"--command cannot be run: {error.strerror}")
                continue
            if done.returncode:
                self._report(f"--command ended with status {done.returncode}")


def _variables(event: Event) -> dict[bytes, bytes]:
    values = {
        "LABEL": event.label or "",
        "PROBABILITY": "" if event.probability is None else f"{event.probability:.6f}",
        "PREVIOUS": event.previous or "",
        "FRAME": str(event.frame),
        "TIME": event.time,
    }
    return {f"R2B_{name}".encode(): value.replace("\0", " ").encode() for name, value in values.items()}
