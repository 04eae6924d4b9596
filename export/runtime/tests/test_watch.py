"""`r2b-run watch` as a user runs it: frames in, lines of JSON out."""

import io
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
import types

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="the models of these tests are written with TensorFlow's schema")
pytest.importorskip("PIL", reason="JPEG images are made with Pillow: pip install pillow")

import shades
from PIL import Image
from r2b_runtime.command import main
from r2b_runtime.watch import frames
from r2b_runtime.watch.reader import Reader

pytestmark = pytest.mark.skipif(os.name != "posix", reason="r2b-run watch runs on Linux and macOS")

PATIENCE = 60  # seconds after which a test gives up; a busy machine is slow


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("watch") / "shades.tflite"
    path.write_bytes(shades.model())
    return str(path)


@pytest.fixture
def recording(tmp_path):
    """Writes a recording with one frame for each word."""

    def write(words):
        path = tmp_path / "recording.mjpeg"
        path.write_bytes(b"".join(shades.jpeg(word) for word in words.split()))
        return str(path)

    return write


def started(*arguments, **options):
    """The command as a process of its own."""
    command = [sys.executable, "-m", "r2b_runtime", "watch", *map(str, arguments)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.Popen(command, text=False, **pipes)


def lines(process):
    """The events of a process's standard output, as they come; fails where none comes for too long."""
    timer = threading.Timer(PATIENCE, process.kill)
    timer.start()
    try:
        for line in process.stdout:
            yield json.loads(line)
    finally:
        timer.cancel()


def watched(capsys, *arguments):
    """Events and standard error of a run in this process that ends well."""
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
    assert "it ended after 12 frames; 0 of them were dropped and 0 damaged" in errors


def test_options_of_a_change(capsys, model, recording):
    path = recording("dark bright 150 150 dark")
    events, _ = watched(capsys, model, path, "--hold", "1", "--top", "2")
    assert [event["label"] for event in events] == ["dark", "bright", "grey", "dark"]
    assert [len(event["top"]) for event in events] == [2] * 4
    for event in events:
        assert event["top"][0] == {"label": event["label"], "probability": event["probability"]}
        assert event["top"][0]["probability"] >= event["top"][1]["probability"]
    # A shade between grey and bright has 0.65 of one and 0.35 of the other.
    path = recording("bright 180 180 grey 200")
    events, _ = watched(capsys, model, path, "--hold", "1", "--threshold", "0.99", "--leave", "0.2")
    assert [event["label"] for event in events][:2] == ["bright", "grey"]
    events, _ = watched(capsys, model, path, "--hold", "1", "--threshold", "0.99")
    assert [event["label"] for event in events][:2] == ["bright", None]
    assert events[1]["probability"] < 0.99  # of the most probable class
    assert events[1]["previous"] == "bright"


def test_hold_in_seconds(capsys, model, recording):
    assert watched(capsys, model, recording("dark " * 20), "--hold", "60s")[0] == []


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
    assert "pixels; 67108864 are the most" in errors


def test_standard_input_ends(model):
    """A pipe has no end that could come again: the command ends, and says what it saw."""
    process = started(model, "-")
    out, errors = process.communicate(b"".join(shades.jpeg("bright") for _ in range(50)), timeout=PATIENCE)
    assert process.returncode == 0
    events = shades.events(out.decode())
    assert [event["label"] for event in events] in ([], ["bright"])  # all but the last few were dropped
    found = re.search(rb"standard input: it ended after 50 frames; (\d+) of them were dropped and 0 damaged", errors)
    assert found
    assert int(found[1]) < 50


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "standard input: it ended without a frame"),
        (
            b"\0\0\0\1\x67" + bytes(1 << 21),
            "the stream must be MJPEG, .* it seems to be H.264 or H.265; have",
        ),
    ],
)
def test_no_frame_at_all(model, data, message):
    process = started(model, "-", "--max-frame", "1")
    out, errors = process.communicate(data, timeout=PATIENCE)
    assert (process.returncode, out) == (1, b"")
    assert re.search(f"^r2b-run: {message}", errors.decode(), re.MULTILINE)
    assert "Traceback" not in errors.decode()


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="frames come from ffmpeg: apt-get install ffmpeg")
def test_frames_from_ffmpeg(model):
    """Two seconds of black, then two of white, in real time, once the command waits for them."""
    scene = "color=black:s=160x120:r=20:d=2[a];color=white:s=160x120:r=20:d=2[b];[a][b]concat"
    process = started(model, "-", "--hold", "1")
    assert b"watching standard input" in process.stderr.readline()
    camera = subprocess.Popen(
        ["ffmpeg", "-v", "error", "-re", "-f", "lavfi", "-i", scene, "-f", "mjpeg", "-"], stdout=process.stdin
    )
    out, errors = process.communicate(timeout=PATIENCE)
    assert camera.wait(PATIENCE) == process.returncode == 0
    assert [event["label"] for event in shades.events(out.decode())] == ["dark", "bright"]
    assert b"it ended after 80 frames" in errors


def write_frames(path, shade, count=5):
    """What a camera does that is started, sends some frames and dies."""
    with open(path, "wb") as pipe:
        for _ in range(count):
            pipe.write(shades.jpeg(shade))
            pipe.flush()
            time.sleep(0.05)


def test_a_camera_that_dies_and_comes_again(model, tmp_path):
    """A named pipe is opened again; what was seen before the gap does not count for a change after it."""
    pipe = tmp_path / "camera"
    os.mkfifo(pipe)
    with started(model, pipe, "--hold", "1", "--every", "0.2") as process:
        events = lines(process)
        write_frames(pipe, "bright")
        assert next(event for event in events if event["event"] == "change")["label"] == "bright"
        write_frames(pipe, "dark")
        again = next(event for event in events if event["event"] == "change")
        assert (again["label"], again["previous"]) == ("dark", "bright")
        alive = next(event for event in events if event["event"] == "alive")
        assert (alive["label"], alive["previous"]) == ("dark", "dark")
        assert alive["seconds_since_frame"] >= 0
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
        assert time.monotonic() - began < 5
        errors = process.stderr.read().decode()
    assert re.search(r"camera': its writer closed it; trying again in 1 s", errors)
    assert "frames arrive again" in errors


def test_without_waiting_a_pipe_ends_the_command(model, tmp_path):
    pipe = tmp_path / "camera"
    os.mkfifo(pipe)
    with started(model, pipe, "--no-wait") as process:
        write_frames(pipe, "bright", 1)
        assert process.wait(PATIENCE) == 0
        assert re.search(rb"camera': its writer closed it", process.stderr.read())


def test_standard_input_that_can_be_opened_again(model, tmp_path):
    pipe = tmp_path / "camera"
    os.mkfifo(pipe)
    writer = threading.Thread(target=write_frames, args=(pipe, "bright"))
    writer.start()
    with open(pipe, "rb") as stdin, started(model, "-", "--wait", "--hold", "1", stdin=stdin) as process:
        writer.join()
        stdin.close()
        write_frames(pipe, "dark")
        assert "dark" in (event["label"] for event in lines(process))
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 130


FAKE_CAMERA = """#!{python}
import sys, time
open({log!r}, "a").write(" ".join(sys.argv[1:]) + "\\n")
count = len(open({log!r}).readlines())
for _ in range(5):
    sys.stdout.buffer.write(open({frames!r} + str(min(count, 2)), "rb").read())
    sys.stdout.flush()
    time.sleep(0.05)
sys.exit(count)
"""


def test_a_camera_program_is_started_again(model, tmp_path, monkeypatch):
    """rpicam-vid itself exists only on a Raspberry Pi; a program in its place writes frames and dies."""
    program, log, frame = tmp_path / "rpicam-vid", tmp_path / "log", tmp_path / "frame"
    program.write_text(FAKE_CAMERA.format(python=sys.executable, log=str(log), frames=str(frame)))
    program.chmod(0o755)
    (tmp_path / "frame1").write_bytes(shades.jpeg("dark"))
    (tmp_path / "frame2").write_bytes(shades.jpeg("bright"))
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with started(model, "rpicam-vid:1", "--size", "320x240", "--fps", "5", "--hold", "1") as process:
        events = lines(process)
        assert [next(events)["label"], next(events)["label"]] == ["dark", "bright"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
        assert b"rpicam-vid: it ended with status 1; trying again in 1 s" in process.stderr.read()
    first = shlex.split(log.read_text().splitlines()[0])
    options = dict(zip(first, first[1:]))
    assert (options["--codec"], options["--width"], options["--height"]) == ("mjpeg", "320", "240")
    assert (options["--camera"], options["--framerate"], options["--output"]) == ("1", "5", "-")


class PiCamera2:
    """What `watch` uses of picamera2, which exists only on a Raspberry Pi: this one shows what it is asked."""

    opened, shade, silent = [], 250, False

    def __init__(self, number):
        if not PiCamera2.opened:
            PiCamera2.opened.append("refused")
            raise RuntimeError("Camera __init__ sequence did not complete.")
        PiCamera2.opened.append(number)

    def create_video_configuration(self, **options):
        return options

    def configure(self, options):
        assert options["main"]["format"] == "BGR888"  # red first, in picamera2's names
        self.width, self.height = options["main"]["size"]
        PiCamera2.opened.append(options["controls"])

    def start(self):
        PiCamera2.opened.append("started")

    def capture_array(self, name, wait, signal_function):
        assert (name, wait) == ("main", False)
        if not PiCamera2.silent:
            threading.Timer(0.01, signal_function, [self]).start()
        return self

    def get_result(self):
        return np.full((self.height, self.width, 3), PiCamera2.shade, np.uint8)

    def close(self):
        PiCamera2.opened.append("closed")


def test_picamera2(monkeypatch, model):
    monkeypatch.setitem(sys.modules, "picamera2", types.SimpleNamespace(Picamera2=PiCamera2))
    monkeypatch.setattr(frames.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(frames, "SILENCE", 0.2)
    monkeypatch.setattr("r2b_runtime.watch.reader.FIRST_DELAY", 0.01)
    said, arrived = [], threading.Event()
    reader = Reader(frames.open_source("picamera2:1", (32, 24), 5.0), True, said.append, arrived.set)
    reader.start()
    while (frame := reader.take()) is None:
        assert arrived.wait(PATIENCE)
    assert frame.picture.shape == (24, 32, 3)
    PiCamera2.silent = True
    while len(said) < 3:
        time.sleep(0.01)
    PiCamera2.silent = False
    arrived.clear()
    assert arrived.wait(PATIENCE)
    reader.stop()
    assert "cannot be opened (Camera __init__ sequence did not complete.)" in said[0]
    assert any("it sent nothing for 0.2 s" in sentence for sentence in said)
    assert PiCamera2.opened[:4] == ["refused", 1, {"FrameRate": 5.0}, "started"]
    assert PiCamera2.opened[-1] == "closed"  # at the end, before the process ends


def test_a_command_at_each_change(capfd, model, recording, tmp_path):
    script = 'echo "$R2B_LABEL,$R2B_PREVIOUS,$R2B_FRAME,$R2B_PROBABILITY,$R2B_TIME" >> seen.txt; echo noise; cat'
    command = f"cd {shlex.quote(str(tmp_path))} && {script}"
    path = recording("dark bright dark")
    assert main(["watch", model, path, "--hold", "1", "--command", command]) == 0
    captured = capfd.readouterr()
    events = shades.events(captured.out)  # nothing but JSON
    assert captured.err.count("noise\n") == 3
    seen = [line.split(",") for line in (tmp_path / "seen.txt").read_text().splitlines()]
    assert [row[0] for row in seen] == ["dark", "bright", "dark"]
    assert [row[1] for row in seen] == ["", "dark", "bright"]
    for row, event in zip(seen, events):
        assert (int(row[2]), float(row[3]), row[4]) == (event["frame"], event["probability"], event["time"])


def test_a_command_that_fails_is_said(capsys, model, recording):
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


class Camera(frames.Source):
    """Gives numbers for frames, as fast as they are asked for."""

    name = "camera"

    def __init__(self, count, live):
        self.count, self.live = count, live

    def frames(self):
        for number in range(self.count):
            yield np.full((1, 1, 3), number, np.uint8)


def test_a_slow_consumer_gets_the_newest_frame():
    reader = Reader(Camera(100, live=True), False, print, lambda: None)
    reader.start()
    reader._thread.join(PATIENCE)
    frame = reader.take()
    assert (frame.number, frame.picture[0, 0, 0]) == (100, 99)
    assert reader.dropped == 99
    assert reader.take() is None
    assert reader.ended == "camera: it ended after 100 frames"


def test_of_a_recording_no_frame_is_dropped():
    waiting = threading.Semaphore(0)
    reader = Reader(Camera(20, live=False), False, print, waiting.release)
    reader.start()
    numbers = []
    while len(numbers) < 20 and waiting.acquire(timeout=PATIENCE):
        frame = reader.take()
        if frame is not None:
            numbers.append(frame.number)
    assert numbers == list(range(1, 21))
    assert reader.dropped == 0


def test_the_delay_grows_and_starts_again(monkeypatch):
    """Three tries without a frame, one with a frame, and again."""
    said, tries = [], iter([0, 0, 0, 1, 0])

    class Broken(frames.Source):
        name = "camera"

        def frames(self):
            count = next(tries, None)
            if count is None:
                reader.stop()
                return
            yield from [np.zeros((1, 1, 3), np.uint8)] * count
            raise frames.CameraLostError("unplugged")

    reader = Reader(Broken(), True, said.append, lambda: None)
    monkeypatch.setattr(reader._stopped, "wait", lambda seconds: None)
    reader._run()
    assert re.findall(r"in (\d+) s", " ".join(said)) == ["1", "2", "4", "1", "2", "4"]
    assert "camera: frames arrive again" in said


def test_an_output_that_nobody_reads_does_not_keep_the_command(model, tmp_path):
    """Standard output is a full pipe: frames are dropped meanwhile, and a signal still ends the command at once."""
    pipe = tmp_path / "camera"
    os.mkfifo(pipe)
    with started(model, pipe, "--hold", "1", "--top", "3") as process, open(pipe, "wb", buffering=0) as camera:
        end = time.monotonic() + 2
        while time.monotonic() < end:
            camera.write(shades.jpeg("dark") + shades.jpeg("bright"))
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0


def test_the_reader_of_the_lines_goes_away(model, recording):
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
        (["MODEL", "/dev/null"], "/dev/null'? is no video device"),
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
    assert "frames as JPEG need Pillow: pip install pillow, or apt install python3-pil" in capsys.readouterr().err


def test_arrays_are_frames(model):
    """What picamera2 and V4L2 give needs no Pillow."""
    image = np.zeros((4, 6, 3), np.uint8)
    assert frames.decoded(image) is image
    stream = io.BytesIO(shades.jpeg("dark"))
    assert frames.decoded(stream.getvalue()).size == (64, 48)
