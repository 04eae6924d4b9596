"""The arguments of `r2b-run watch`."""

import argparse
import math
import os
import re
import sys
from typing import Any

from r2b_runtime.classifier import Classifier
from r2b_runtime.terminal import printable
from r2b_runtime.watch import frames
from r2b_runtime.watch.hysteresis import Rules
from r2b_runtime.watch.loop import Settings, Watch
from r2b_runtime.watch.mjpeg import LARGEST_FRAME
from r2b_runtime.watch.outputs import Command, Lines, Output

_DESCRIPTION = """\
Classifies what a camera sees and prints one line of JSON whenever the label changes. Frames that come while one is
classified are dropped, not queued. A camera that dies is waited for."""
_EXAMPLES = """\
sources:
  picamera2[:N]     a camera of the Raspberry Pi, where the package python3-picamera2 is installed
  rpicam-vid[:N]    the same through the program rpicam-vid, which is started again when it ends
  /dev/video0       a USB camera (V4L2) that gives MJPEG or YUYV
  -                 MJPEG on standard input; the command ends with the stream
  PIPE              MJPEG from a named pipe, which is opened again when its writer has gone
  FILE.mjpeg        a recording, each frame of it
  IMAGE or FOLDER   image files, each once, for trying
  without one       picamera2 or rpicam-vid where they are, else /dev/video0

examples:
  r2b-run watch model.tflite /dev/video0
  r2b-run watch model.tflite photos/ --threshold 0.8 --top 3
  rpicam-vid -t 0 -n --codec mjpeg -o - | r2b-run watch model.tflite -
  r2b-run watch model.tflite --hold 2s --command 'echo "$R2B_LABEL at $R2B_PROBABILITY" >> seen.txt'
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Makes this the parser of `r2b-run watch`."""
    parser.description, parser.epilog = _DESCRIPTION, _EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("model", metavar="MODEL", help="a .tflite file with labels and preprocessing")
    parser.add_argument("source", metavar="SOURCE", nargs="?", help="where frames come from, see below")
    change = parser.add_argument_group("what counts as a change")
    change.add_argument(
        "--threshold",
        type=_probability,
        default=0.5,
        metavar="P",
        help="probability that a class needs to become the label (default: 0.5)",
    )
    change.add_argument(
        "--leave",
        type=_probability,
        metavar="P",
        help="the label stays until its probability is below this (default: 0.8 of the threshold)",
    )
    change.add_argument(
        "--hold",
        type=_hold,
        metavar="N|Ns",
        help="a change counts after N frames in a row, or after N seconds, as in 1.5s (default: 3; image files: 1)",
    )
    output = parser.add_argument_group("what happens then")
    output.add_argument("--top", type=_count, default=0, metavar="N", help="list the N most probable classes too")
    output.add_argument("--every", type=_seconds, metavar="S", help="print a sign of life every S seconds too")
    output.add_argument(
        "--command",
        metavar="CMD",
        help="run CMD in the shell at each change, with R2B_LABEL (empty: no class is probable enough), "
        "R2B_PROBABILITY, R2B_PREVIOUS, R2B_FRAME and R2B_TIME in its environment",
    )
    camera = parser.add_argument_group("camera and network")
    camera.add_argument("--size", type=_size, default=(640, 480), metavar="WxH", help="of frames (default: 640x480)")
    camera.add_argument("--fps", type=_seconds, metavar="N", help="frames per second (default: the camera's)")
    camera.add_argument(
        "--wait",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="try again when the source ends (default: yes, except for standard input and files)",
    )
    camera.add_argument(
        "--max-frame",
        type=_count,
        default=LARGEST_FRAME >> 20,
        metavar="MIB",
        help=f"refuse a larger frame (default: {LARGEST_FRAME >> 20})",
    )
    camera.add_argument("--threads", type=_count, default=1, metavar="N", help="threads (default: 1)")


def run(parsed: argparse.Namespace, **limits: Any) -> int:
    """Watches as the arguments say; returns the exit status. Raises the errors of `Classifier` and `open_source`."""
    if os.name != "posix":
        raise RuntimeError("r2b-run watch runs on Linux and macOS; use r2b-run predict here")
    leave = 0.8 * parsed.threshold if parsed.leave is None else parsed.leave
    if leave > parsed.threshold:
        raise ValueError(f"--leave must be at most --threshold, {parsed.threshold:g}; received {leave:g}")
    classifier = Classifier(parsed.model, parsed.threads, engine="r2b", **limits)
    source = frames.open_source(parsed.source, parsed.size, parsed.fps, parsed.max_frame << 20, parsed.wait)
    count, seconds = parsed.hold or (source.hold, 0.0)
    settings = Settings(
        Rules(parsed.threshold, leave, count, seconds),
        parsed.every,
        parsed.top,
        source.returns if parsed.wait is None else parsed.wait,
    )
    outputs: list[Output] = [Lines()]
    if parsed.command is not None:
        outputs.append(Command(parsed.command, report))
    report(f"watching {source.name} for {len(classifier.labels)} labels")
    return Watch(classifier, source, settings, outputs, report).run()


def report(sentence: str) -> None:
    """Prints a sentence on standard error, in one piece, whatever is in it."""
    sys.stderr.write(f"r2b-run: {printable(' '.join(sentence.split()))}\n")
    sys.stderr.flush()


def _number(text: str, rule: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"must be {rule}; received {text!r}")
    return value


def _probability(text: str) -> float:
    value = _number(text, "a probability above 0, at most 1")
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"must be a probability above 0, at most 1; received {text!r}")
    return value


def _seconds(text: str) -> float:
    value = _number(text, "a number above 0")
    if value <= 0:
        raise argparse.ArgumentTypeError(f"must be a number above 0; received {text!r}")
    return value


def _count(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 1 << 20:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1; received {text!r}")
    return int(text)


def _hold(text: str) -> tuple[int, float]:
    """Frames and seconds that a change must be seen for."""
    found = re.fullmatch(r"(\d{1,9})|(\d{1,9}(?:\.\d{1,9})?)s", text, re.ASCII)
    if found is None or found[1] == "0":
        raise argparse.ArgumentTypeError(f"must be frames from 1, as in 3, or seconds, as in 1.5s; received {text!r}")
    return (int(found[1]), 0.0) if found[1] else (1, float(found[2]))


def _size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text, re.ASCII)
    if found is None or "0" in (found[1].lstrip("0") or "0", found[2].lstrip("0") or "0"):
        raise argparse.ArgumentTypeError(f"must be width x height, as in 640x480; received {text!r}")
    return int(found[1]), int(found[2])
