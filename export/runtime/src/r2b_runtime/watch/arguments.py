"""Parses the argument values of `r2b-run watch`, and turns parsed arguments back into a command line for a service."""

import argparse
import math
import os
import re
import sys
from typing import Any, Optional

MOST = (1 << 20) - 1
"""The largest value that `count` accepts."""


def probability(text: str) -> float:
    value = _number(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"must be a probability above 0, at most 1; received {text!r}")
    return value


def positive(text: str) -> float:
    value = _number(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number above 0; received {text!r}")
    return value


def count(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= MOST:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 to {MOST}; received {text!r}")
    return int(text)


def port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 1 << 16:
        raise argparse.ArgumentTypeError(f"must be a port from 1 to 65535; received {text!r}")
    return int(text)


def hold(text: str) -> tuple[int, float]:
    """Parses --hold into the (frames, seconds) that a change must last: "3" gives (3, 0.0), "1.5s" gives (1, 1.5)."""
    found = re.fullmatch(r"(\d{1,9})|(\d{1,9}(?:\.\d{1,9})?)s", text, re.ASCII)
    if found is None or (found[1] is not None and int(found[1]) == 0):
        raise argparse.ArgumentTypeError(f"must be frames from 1, as in 3, or seconds, as in 1.5s; received {text!r}")
    return (int(found[1]), 0.0) if found[1] else (1, float(found[2]))


def size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text, re.ASCII)
    if found is None or 0 in (int(found[1]), int(found[2])):
        raise argparse.ArgumentTypeError(f"must be width x height, as in 640x480; received {text!r}")
    return int(found[1]), int(found[2])


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def written(parsed: argparse.Namespace, source: str) -> list[str]:
    """The command line that a service runs, as a list: the parsed arguments with their defaults, and `source`.

    The paths of the model and the certificate become absolute. The password file is left out; `unit` adds it.
    """
    seconds = parsed.hold and parsed.hold[1]
    values: dict[str, Any] = {
        "threshold": parsed.threshold,
        "leave": parsed.leave,
        "hold": None if parsed.hold is None else f"{seconds!r}s" if seconds else parsed.hold[0],
        "top": parsed.top or None,
        "every": parsed.every,
        "command": parsed.command,
        "size": "{}x{}".format(*parsed.size),
        "fps": parsed.fps,
        "max-frame": parsed.max_frame,
        "threads": parsed.threads,
        "max-memory": parsed.max_memory,
        "max-work": parsed.max_work,
        "mqtt": parsed.mqtt,
    }
    if parsed.mqtt is not None:
        values |= {
            "mqtt-port": parsed.mqtt_port,
            "mqtt-name": parsed.mqtt_name,
            "mqtt-user": parsed.mqtt_user,
            "mqtt-ca": _absolute(parsed.mqtt_ca),
            "mqtt-discovery": parsed.mqtt_discovery,
        }
    options = [f"--{name}={value}" for name, value in values.items() if value is not None]
    options += ["--mqtt-tls"] if parsed.mqtt_tls else []
    options += [] if parsed.wait is None else ["--wait" if parsed.wait else "--no-wait"]
    return [sys.executable, "-m", "r2b_runtime", "watch", os.path.abspath(parsed.model), source, *options]


def _absolute(path: Optional[str]) -> Optional[str]:
    return None if path is None else os.path.abspath(path)
