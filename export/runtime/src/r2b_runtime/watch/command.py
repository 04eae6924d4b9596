"""The command `r2b-run watch`: its arguments, and the function that runs it."""

import argparse
import os
import pathlib
import socket
import sys
from typing import Any, Optional

from r2b_runtime.classifier import Classifier
from r2b_runtime.terminal import printable
from r2b_runtime.watch import arguments, frames, mqtt, unit
from r2b_runtime.watch.hysteresis import Rules
from r2b_runtime.watch.loop import Settings, Watch
from r2b_runtime.watch.mjpeg import LARGEST_FRAME
from r2b_runtime.watch.outputs import Command, Lines, Output

_DESCRIPTION = """\
Classifies what a camera sees and prints one line of JSON whenever the label changes. Frames that come while one is
classified are dropped, not queued. When a camera fails, the command waits for it to come back."""
_EXAMPLES = """\
sources:
  picamera2[:N]     a camera of the Raspberry Pi, where the package python3-picamera2 is installed
  rpicam-vid[:N]    the same camera, read through the program rpicam-vid, which is started again when it ends
  /dev/video0       a USB camera (V4L2) that gives MJPEG or YUYV
  -                 MJPEG on standard input; the command ends with the stream
  PIPE              MJPEG from a named pipe, which is opened again when its writer has gone
  FILE.mjpeg        a recording, each frame of it
  IMAGE or FOLDER   image files, each once, for trying
  (none)            picamera2 or rpicam-vid if installed, else /dev/video0

examples:
  r2b-run watch model.tflite /dev/video0
  r2b-run watch model.tflite photos/ --threshold 0.8 --top 3
  rpicam-vid -t 0 -n --codec mjpeg -o - | r2b-run watch model.tflite -
  r2b-run watch model.tflite --hold 2s --command 'echo "$R2B_LABEL at $R2B_PROBABILITY" >> seen.txt'
  r2b-run watch model.tflite --mqtt homeassistant.local --mqtt-user camera --mqtt-password-file password
  r2b-run watch model.tflite rpicam-vid --systemd
"""
_PORT, _TLS_PORT = 1883, 8883


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the help text and the arguments of `r2b-run watch` to a parser."""
    parser.description, parser.epilog = _DESCRIPTION, _EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("model", metavar="MODEL", help="a .tflite file with labels and preprocessing")
    parser.add_argument("source", metavar="SOURCE", nargs="?", help="where frames come from, see below")
    parser.add_argument(
        "--systemd", action="store_true", help="print a systemd unit that runs this command as a service, and end"
    )
    _add_change(parser.add_argument_group("what counts as a change"))
    _add_outputs(parser.add_argument_group("what happens then"))
    _add_mqtt(parser.add_argument_group("MQTT and Home Assistant"))
    _add_camera(parser.add_argument_group("camera and network"))


def _add_change(group: "argparse._ArgumentGroup") -> None:
    group.add_argument(
        "--threshold",
        type=arguments.probability,
        default=0.5,
        metavar="P",
        help="probability that a class needs to become the label (default: 0.5)",
    )
    group.add_argument(
        "--leave",
        type=arguments.probability,
        metavar="P",
        help="the label stays until its probability is below this (default: 0.8 of the threshold)",
    )
    group.add_argument(
        "--hold",
        type=arguments.hold,
        metavar="N|Ns",
        help="a change counts after N frames in a row, or after N seconds, as in 1.5s (default: 3; image files: 1)",
    )


def _add_outputs(group: "argparse._ArgumentGroup") -> None:
    group.add_argument(
        "--top", type=arguments.count, default=0, metavar="N", help="list the N most probable classes too"
    )
    group.add_argument("--every", type=arguments.positive, metavar="S", help="print a sign of life every S seconds too")
    group.add_argument(
        "--command",
        metavar="CMD",
        help="run CMD in the shell at each change, with R2B_LABEL (empty: no class is probable enough), "
        "R2B_PROBABILITY, R2B_PREVIOUS, R2B_FRAME and R2B_TIME in its environment",
    )


def _add_mqtt(group: "argparse._ArgumentGroup") -> None:
    group.add_argument("--mqtt", metavar="HOST", help="publish to this broker too")
    group.add_argument(
        "--mqtt-port",
        type=arguments.port,
        metavar="N",
        help=f"the broker's port (default: {_PORT}, with TLS {_TLS_PORT})",
    )
    group.add_argument("--mqtt-user", metavar="NAME", help="user (default: R2B_MQTT_USER of the environment)")
    group.add_argument(
        "--mqtt-password-file",
        metavar="FILE",
        help="file with the user's password (default: the password in R2B_MQTT_PASSWORD of the environment)",
    )
    group.add_argument("--mqtt-tls", action="store_true", help="encrypt, and check the broker's certificate")
    signer = "certificate of the authority that signed the broker's certificate (implies --mqtt-tls)"
    group.add_argument("--mqtt-ca", metavar="FILE", help=signer)
    group.add_argument(
        "--mqtt-name",
        metavar="NAME",
        help="name of the device, also used in topics, r2b/NAME/state (default: this computer's)",
    )
    group.add_argument(
        "--mqtt-discovery",
        metavar="TOPIC",
        default="homeassistant",
        help="Home Assistant's discovery prefix (default: homeassistant)",
    )


def _add_camera(group: "argparse._ArgumentGroup") -> None:
    group.add_argument(
        "--size", type=arguments.size, default=(640, 480), metavar="WxH", help="size of the frames (default: 640x480)"
    )
    group.add_argument("--fps", type=arguments.positive, metavar="N", help="frames per second (default: the camera's)")
    group.add_argument(
        "--wait",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="try again when the source ends (default: yes, except for standard input and files)",
    )
    group.add_argument(
        "--max-frame",
        type=arguments.count,
        default=LARGEST_FRAME >> 20,
        metavar="MIB",
        help=f"refuse a larger frame (default: {LARGEST_FRAME >> 20})",
    )
    group.add_argument("--threads", type=arguments.count, default=1, metavar="N", help="threads (default: 1)")


def run(parsed: argparse.Namespace, **limits: Any) -> int:
    """Watches as the arguments say, or prints a unit for --systemd; returns the exit status.

    `limits` are options of `Classifier`. Raises `RuntimeError` on Windows, `ValueError` for arguments that contradict
    each other, and the errors of `Classifier`, `open_source`, `Account`, `read_password`, `Broker`, `check_readable`
    and `Watch.run`.
    """
    if os.name != "posix":
        raise RuntimeError("r2b-run watch runs on Linux and macOS; use r2b-run predict here")
    leave = 0.8 * parsed.threshold if parsed.leave is None else parsed.leave
    if leave > parsed.threshold:
        raise ValueError(f"--leave must be at most --threshold, {parsed.threshold:g}; received {leave:g}")
    account = _account(parsed)
    classifier = Classifier(parsed.model, parsed.threads, engine="r2b", **limits)
    if parsed.systemd:
        sys.stdout.write(_unit(parsed))
        return 0
    source = frames.open_source(parsed.source, parsed.size, parsed.fps, parsed.max_frame << 20, parsed.wait)
    count, seconds = parsed.hold or (source.hold, 0.0)
    settings = Settings(
        Rules(parsed.threshold, leave, count, seconds),
        parsed.every,
        parsed.top,
        source.returns if parsed.wait is None else parsed.wait,
    )
    outputs: list[Output] = [Lines()]
    if account is not None:
        outputs.append(mqtt.Broker(account, parsed.model, classifier.labels, report))
    if parsed.command is not None:
        outputs.append(Command(parsed.command, report))
    report(f"watching {source.name} for {len(classifier.labels)} labels")
    return Watch(classifier, source, settings, outputs, report).run()


def report(sentence: str) -> None:
    """Prints a sentence on standard error as one line, with control characters escaped."""
    sys.stderr.write(f"r2b-run: {printable(' '.join(sentence.split()))}\n")
    sys.stderr.flush()


def _account(parsed: argparse.Namespace) -> Optional[mqtt.Account]:
    if parsed.mqtt is None:
        return None
    tls = parsed.mqtt_tls or parsed.mqtt_ca is not None
    return mqtt.Account(
        parsed.mqtt,
        parsed.mqtt_port or (_TLS_PORT if tls else _PORT),
        parsed.mqtt_name or socket.gethostname(),
        parsed.mqtt_user or os.environ.get("R2B_MQTT_USER"),
        # For --systemd the password is not read here: the file may be readable only by root, and systemd reads it.
        None if parsed.systemd else mqtt.read_password(parsed.mqtt_password_file, report),
        tls,
        parsed.mqtt_ca,
        parsed.mqtt_discovery,
    )


def _unit(parsed: argparse.Namespace) -> str:
    source = frames.first_camera() if parsed.source is None else parsed.source
    if source == "-":
        raise ValueError(
            "a service has no pipe on its standard input: give a camera, rpicam-vid or a named pipe as the source"
        )
    if os.path.exists(source):
        source = os.path.abspath(source)
    if parsed.mqtt is not None and parsed.mqtt_password_file is None and "R2B_MQTT_PASSWORD" in os.environ:
        raise ValueError("a service does not have this shell's R2B_MQTT_PASSWORD: give --mqtt-password-file")
    if parsed.mqtt is not None and parsed.mqtt_user is None:
        parsed.mqtt_user = os.environ.get("R2B_MQTT_USER")
    package = pathlib.Path(__file__).parents[1]
    for path in (parsed.model, sys.executable, str(package), parsed.mqtt_ca):
        if path is not None:
            unit.check_readable(path)
    password_file = os.path.abspath(parsed.mqtt_password_file) if parsed.mqtt_password_file else ""
    network = parsed.mqtt is not None or parsed.command is not None
    return unit.unit(arguments.written(parsed, source), source, password_file, network)
