"""Notes signals that ask a process to stop, so that it can save a checkpoint first."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any, Optional

_STDOUT_AND_STDERR = (1, 2)
_HANGUP = getattr(signal, "SIGHUP", None)  # Windows has none


class StopRequest:
    """``received`` is the number of the first signal that was received, or 0."""

    received: int = 0


@contextlib.contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Notes SIGINT, SIGTERM and SIGHUP instead of ending the process, since a step that is half done cannot be saved.

    Only the first SIGINT or SIGTERM is noted; a second one interrupts at once. SIGHUP never interrupts, because a
    closing terminal sends one and its shell often another. Output to a closed terminal is discarded instead of failing.
    Signals that the process ignores stay ignored: SIGHUP under nohup, SIGINT in the background of a script. Only the
    main thread receives signals; in another thread, no signal is noted.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before: dict[int, Any] = {}
    for number in (signal.SIGINT, signal.SIGTERM, _HANGUP):
        # getsignal returns None for a handler that was not installed from Python; Python cannot restore such a handler.
        if number is not None and signal.getsignal(number) not in (signal.SIG_IGN, None):
            before[number] = signal.getsignal(number)
    terminals = [descriptor for descriptor in _STDOUT_AND_STDERR if _is_terminal(descriptor)]

    def note(number: int, frame: Optional[FrameType]) -> None:
        request.received = request.received or number
        if number == _HANGUP:
            _leave(terminals)
            return
        for signal_number, handler in before.items():
            if signal_number != _HANGUP:
                signal.signal(signal_number, handler)

    try:
        for number in before:
            signal.signal(number, note)
        yield request
    finally:
        for number, handler in before.items():
            # After a SIGHUP, ignore further ones: they may come while the process still reports what it saved.
            signal.signal(number, signal.SIG_IGN if number == _HANGUP == request.received else handler)


def _leave(terminals: list[int]) -> None:
    """Sends output to the null device if its terminal is gone."""
    for descriptor in terminals:
        if not _is_terminal(descriptor):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, descriptor)
            os.close(null)


def _is_terminal(descriptor: int) -> bool:
    try:
        return os.isatty(descriptor)
    except OSError:  # closed
        return False
