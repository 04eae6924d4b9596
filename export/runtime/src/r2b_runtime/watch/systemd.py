"""Tells systemd the state of the service."""

import os
import socket
import time
from contextlib import suppress
from typing import Optional


class Notifier:
    """Sends messages to systemd, as sd_notify(3) does; does nothing unless systemd has set NOTIFY_SOCKET.

    Attributes:
        next_watchdog: value of `time.monotonic()` at which the next sign of life is due; None: systemd wants none.
    """

    def __init__(self) -> None:
        self._address = os.environ.get("NOTIFY_SOCKET", "")
        microseconds, process = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
        asked = self._address and microseconds.isdecimal() and process in ("", str(os.getpid()))
        self._interval = int(microseconds) / 2e6 if asked else None  # half the time that systemd allows
        self.next_watchdog: Optional[float] = None if self._interval is None else time.monotonic()

    def ready(self, status: str) -> None:
        self._send(f"READY=1\nSTATUS={status}")

    def status(self, status: str) -> None:
        self._send(f"STATUS={status}")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def watchdog(self) -> None:
        """Sends a sign of life if one is due."""
        if self._interval is not None and self.next_watchdog is not None and time.monotonic() >= self.next_watchdog:
            self.next_watchdog = time.monotonic() + self._interval
            self._send("WATCHDOG=1")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
            connection.sendto(message.encode(errors="replace"), address)
