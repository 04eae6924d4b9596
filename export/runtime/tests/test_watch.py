"""Tests `r2b-run watch` as a user runs it: frames in, lines of JSON out."""

import contextlib
import io
import json
import os
import pathlib
import re
import shlex
import signal
import threading

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="the models of these tests are written with TensorFlow's schema")
pytest.importorskip("PIL", reason="JPEG images are made with Pillow: pip install pillow")

import shades
from PIL import Image
from r2b_runtime.classifier import Classifier
from r2b_runtime.command import main
from r2b_runtime.watch import frames
from r2b_runtime.watch.hysteresis import Rules
from r2b_runtime.watch.loop import Settings, Watch
from r2b_runtime.watch.outputs import Lines
from shades import PATIENCE, started

pytestmark = pytest.mark.skipif(os.name != "posix", reason="r2b-run watch runs on Linux and macOS")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return shades.written(tmp_path_factory.mktemp("watch"))


@pytest.fixture
def recording(tmp_path):
    """Returns a function that writes a recording, with one frame per shade in a text, and returns its path."""

    def write(words):
        path = tmp_path / "recording.mjpeg"
        path.write_bytes(b"".join(shades.jpeg(word) for word in words.split()))
        return str(path)

    return write


def watched(capsys, *arguments):
    """Runs the command in this process, asserts that it succeeds, and returns its events and standard error."""
    assert main(["watch", *map(str, arguments)]) == 0
    captured = capsys.readouterr()
    return shades.events(captured.out), captured.err


def test_one_line_for_each_change(capsys, model, recording):
    path = recording("dark dark bright bright bright bright dark grey grey grey grey grey")
    events, errors = watched(capsys, model, path)
    assert [(event["label"], event["previous"], event["frame"]) for event in events] == [
        ("bright", None, 5),
        ("grey", "bright", 10),
    ]
    for event in events:
        assert event["event"] == "change"
        assert 0.9 < event["probability"] <= 1
        assert (event["dropped"], event["damaged"]) == (0, 0)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", event["time"])
        assert "top" not in event
    assert "it ended after 12 frames; 0 frames were dropped and 0 damaged" in errors


def test_hold_top_threshold_and_leave_change_the_events(capsys, model, recording):
    path = recording("dark bright 150 150 dark")
    events, _ = watched(capsys, model, path, "--hold", "1", "--top", "2")
    assert [event["label"] for event in events] == ["dark", "bright", "grey", "dark"]
    assert [len(event["top"]) for event in events] == [2] * 4
    for event in events:
        assert event["top"][0] == {"label": event["label"], "probability": event["probability"]}
        assert event["top"][0]["probability"] >= event["top"][1]["probability"]
    # For shade 180, the probabilities of grey and bright lie between 0.2 and 0.99.
    path = recording("bright 180 180 grey 200")
    events, _ = watched(capsys, model, path, "--hold", "1", "--threshold", "0.99", "--leave", "0.2")
    assert [event["label"] for event in events][:2] == ["bright", "grey"]
    events, _ = watched(capsys, model, path, "--hold", "1", "--threshold", "0.99")
    assert [event["label"] for event in events][:2] == ["bright", None]
    assert events[1]["probability"] < 0.99  # of the most probable class, since there is no label
    assert events[1]["previous"] == "bright"


def test_a_recording_shorter_than_hold_gives_no_event(capsys, model, recording):
    assert watched(capsys, model, recording("dark " * 20), "--hold", "60s")[0] == []


def test_no_line_is_written_after_a_signal_during_classification(capsys, monkeypatch, model, recording):
    """On a full pipe, a write would wait forever, because the signal came too early to interrupt it."""
    probabilities = Classifier.probabilities

    def interrupted(classifier, picture):
        os.kill(os.getpid(), signal.SIGTERM)
        return probabilities(classifier, picture)

    monkeypatch.setattr(Classifier, "probabilities", interrupted)
    assert main(["watch", str(model), recording("dark bright"), "--hold", "1"]) == 0
    assert capsys.readouterr().out == ""


def test_a_signal_ends_the_wait_for_an_output_that_nobody_reads(model, recording):
    """The signal may come just before the write, and then does not interrupt it."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writing, bytes(4096))
    os.set_blocking(writing, True)
    with open(writing, "w") as full, open(reading, "rb"):
        source = frames.open_source(recording("dark bright"))
        settings = Settings(Rules(frames=1), wait=False)
        watch = Watch(Classifier(str(model)), source, settings, [Lines(full)], print)

        def signalled() -> None:
            watch._signal = signal.SIGTERM
            watch._notify()

        timer = threading.Timer(0.5, signalled)
        timer.start()
        assert watch.run() == 0
        timer.join()


def test_a_folder_and_an_image(capsys, model, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, shade in enumerate(["dark", "bright", "bright", "grey"]):
        (folder / f"{number}.jpg").write_bytes(shades.jpeg(shade))
    Image.new("RGB", (30, 20), (250, 250, 250)).save(folder / "9.png")
    (folder / "5.jpg").write_text("no image")
    (folder / ".hidden.jpg").write_bytes(shades.jpeg("dark"))
    events, errors = watched(capsys, model, folder)
    assert [(event["label"], pathlib.Path(event["file"]).name) for event in events] == [
        ("dark", "0.jpg"),
        ("bright", "1.jpg"),
        ("grey", "3.jpg"),
        ("bright", "9.png"),
    ]
    assert [event["damaged"] for event in events] == [0, 0, 0, 1]
    assert "5.jpg is left out: cannot identify image file" in errors
    events, _ = watched(capsys, model, folder / "0.jpg")
    assert [event["label"] for event in events] == ["dark"]


def test_a_damaged_frame_is_left_out(capsys, model, tmp_path):
    path = tmp_path / "recording.mjpeg"
    bright = shades.jpeg("bright")
    huge = bright.replace(
        (48).to_bytes(2, "big") + (64).to_bytes(2, "big"), (8000).to_bytes(2, "big") + (9000).to_bytes(2, "big"), 1
    )
    assert huge != bright
    undecodable = bright.replace(b"\xff\xc0\0\x0b\x08", b"\xff\xc0\0\x0b\x09", 1)  # samples of nine bits
    assert undecodable != bright
    path.write_bytes(bright + bright[:-20] + bright + undecodable + bright + huge + bright + shades.jpeg("dark"))
    events, errors = watched(capsys, model, path, "--hold", "1")
    assert [(event["label"], event["damaged"]) for event in events] == [("bright", 0), ("dark", 3)]
    assert "frame 3 is left out" in errors
    assert "pixels; at most 67108864 are allowed" in errors


def test_a_command_at_each_change(capfd, model, recording, tmp_path):
    script = 'echo "$R2B_LABEL,$R2B_PREVIOUS,$R2B_FRAME,$R2B_PROBABILITY,$R2B_TIME" >> seen.txt; echo noise; cat'
    command = f"cd {shlex.quote(str(tmp_path))} && {script}"
    path = recording("dark bright dark")
    assert main(["watch", model, path, "--hold", "1", "--command", command]) == 0
    captured = capfd.readouterr()
    events = shades.events(captured.out)  # standard output contains only JSON
    assert captured.err.count("noise\n") == 3
    seen = [line.split(",") for line in (tmp_path / "seen.txt").read_text().splitlines()]
    assert [row[0] for row in seen] == ["dark", "bright", "dark"]
    assert [row[1] for row in seen] == ["", "dark", "bright"]
    for row, event in zip(seen, events):
        assert (int(row[2]), float(row[3]), row[4]) == (event["frame"], event["probability"], event["time"])


def test_a_command_that_fails_is_reported(capsys, model, recording):
    _, errors = watched(capsys, model, recording("dark"), "--hold", "1", "--command", "exit 7")
    assert "--command ended with status 7" in errors


def test_labels_are_no_commands(capfd, tmp_path, recording):
    """A label goes into the command's environment, whose values the shell does not execute."""
    evil = f"$(touch {tmp_path}/pwned); `touch {tmp_path}/pwned` & ' \" ü"
    path = tmp_path / "evil.tflite"
    path.write_bytes(shades.model((evil, "grey", "bright")))
    arguments = ["--hold", "1", "--command", f'printf %s "$R2B_LABEL" > {tmp_path}/label; echo $R2B_LABEL']
    assert main(["watch", str(path), recording("dark"), *arguments]) == 0
    assert (tmp_path / "label").read_text(encoding="utf-8") == evil
    assert not (tmp_path / "pwned").exists()
    assert shades.events(capfd.readouterr().out)[0]["label"] == evil


def test_watch_ends_when_the_reader_of_its_lines_goes_away(model, recording):
    """As in `r2b-run watch ... | head -1`."""
    process = started(model, recording("dark bright " * 300), "--hold", "1")
    assert json.loads(process.stdout.readline())["label"] == "dark"
    process.stdout.close()
    assert process.wait(PATIENCE) == 0
    assert b"Traceback" not in process.stderr.read()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["MODEL", "nowhere"], "there is no source 'nowhere'; give -, a device such as /dev/video0, picamera2"),
        (["nowhere.tflite", "-"], "there is no model file 'nowhere.tflite'"),
        (["MODEL", "/dev/null"], "/dev/null'? is not a video device"),
        (["MODEL", "EMPTY"], "there is no file in '.*'; give a folder of images"),
        (
            ["MODEL", "EMPTY", "--wait"],
            "--wait needs a source that can be opened again, and '.*' cannot: give a camera",
        ),
        (
            ["MODEL", "EMPTY", "--threshold", "0.5", "--leave", "0.6"],
            "--leave must be at most --threshold, 0.5; received 0.6",
        ),
        (["MODEL", "picamera2"], "the source picamera2 needs this package of Raspberry Pi OS: apt install"),
        (["MODEL", "rpicam-vid:1"], "the source rpicam-vid needs this program of Raspberry Pi OS: apt install"),
    ],
)
def test_errors_are_one_sentence(capfd, monkeypatch, model, tmp_path, arguments, message):
    monkeypatch.setenv("PATH", str(tmp_path))
    known = {"MODEL": model, "EMPTY": str(tmp_path)}
    if "EMPTY" in arguments:
        assert not list(tmp_path.iterdir())
    assert main(["watch", *(known.get(argument, argument) for argument in arguments)]) == 1
    captured = capfd.readouterr()
    assert not captured.out
    assert re.search(f"^r2b-run: {message}", captured.err, re.MULTILINE)
    assert "Traceback" not in captured.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--threshold", "1.5"], "must be a probability above 0, at most 1; received '1.5'"),
        (["--threshold", "nan"], "must be a probability above 0, at most 1; received 'nan'"),
        (["--hold", "0"], "must be frames from 1, as in 3, or seconds, as in 1.5s; received '0'"),
        (["--hold", "3 s"], "must be frames from 1, as in 3, or seconds, as in 1.5s; received '3 s'"),
        (["--every", "0"], "must be a number above 0; received '0'"),
        (["--size", "640"], "must be width x height, as in 640x480; received '640'"),
        (["--size", "0x480"], "must be width x height, as in 640x480; received '0x480'"),
        (["--top", "-1"], "argument --top: "),
    ],
)
def test_wrong_arguments(capsys, arguments, message):
    with pytest.raises(SystemExit, match="2"):
        main(["watch", "model.tflite", "-", *arguments])
    assert message in capsys.readouterr().err


def test_help_names_every_source_and_shows_examples(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["watch", "--help"])
    text = capsys.readouterr().out
    for word in ("picamera2", "rpicam-vid", "/dev/video0", "PIPE", "examples:", "R2B_LABEL"):
        assert word in text


def test_jpeg_without_pillow(monkeypatch, capsys, model):
    monkeypatch.setattr(frames.importlib.util, "find_spec", lambda name: None)
    assert main(["watch", model, "-"]) == 1
    assert "JPEG frames and image files need Pillow: pip install pillow, or apt install" in capsys.readouterr().err


def test_arrays_are_frames(model):
    """An array, such as a frame of picamera2, is used unchanged; JPEG data are decoded."""
    image = np.zeros((4, 6, 3), np.uint8)
    assert frames.decoded(image) is image
    stream = io.BytesIO(shades.jpeg("dark"))
    assert frames.decoded(stream.getvalue()).size == (64, 48)
