"""Tests `r2b-run watch` with cameras that are slow, hang, die and come back: pipes, programs and picamera2."""

import os
import queue
import re
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
from r2b_runtime import Classifier
from r2b_runtime.watch import frames
from r2b_runtime.watch.hysteresis import Rules
from r2b_runtime.watch.loop import Settings, Watch
from r2b_runtime.watch.reader import Reader
from shades import PATIENCE, line_with, lines, started

pytestmark = pytest.mark.skipif(os.name != "posix", reason="r2b-run watch runs on Linux and macOS")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return shades.written(tmp_path_factory.mktemp("watch"))


def test_command_ends_when_standard_input_ends(model):
    """Standard input cannot be opened again, so the command ends and reports how many frames it saw."""
    process = started(model, "-")
    out, errors = process.communicate(b"".join(shades.jpeg("bright") for _ in range(50)), timeout=PATIENCE)
    assert process.returncode == 0
    events = shades.events(out.decode())
    assert [event["label"] for event in events] in ([], ["bright"])  # none if fewer than 3 frames were classified
    found = re.search(rb"standard input: it ended after 50 frames; (\d+) frames were dropped and 0 damaged", errors)
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
    """Once the command is ready, ffmpeg sends two seconds of black and two of white in real time."""
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
    """Acts as a camera that starts, sends some frames and dies."""
    with open(path, "wb") as pipe:
        for _ in range(count):
            pipe.write(shades.jpeg(shade))
            pipe.flush()
            time.sleep(0.05)


def test_a_camera_that_dies_and_comes_again(model, tmp_path):
    """A named pipe is opened again after its writer has closed it."""
    pipe = tmp_path / "camera"
    os.mkfifo(pipe)
    with started(model, pipe, "--hold", "1", "--every", "0.2") as process:
        events = lines(process)
        write_frames(pipe, "bright")
        assert next(event for event in events if event["event"] == "change")["label"] == "bright"
        assert "camera': its writer closed it; trying again in 1 s" in line_with(process, "trying again")
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
        assert "frames arrive again" in process.stderr.read().decode()


def test_command_with_no_wait_ends_when_its_pipe_closes(model, tmp_path):
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
    """A script takes the place of rpicam-vid, which exists only on a Raspberry Pi: it writes frames and ends."""
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
    options = set(log.read_text().splitlines()[0].split())
    assert options >= {"--codec=mjpeg", "--width=320", "--height=240", "--camera=1", "--framerate=5", "--output=-"}


class PiCamera2:
    """Replaces picamera2, which exists only on a Raspberry Pi. Records calls, and fails when it is first opened."""

    opened, shade, silent = [], 250, False

    def __init__(self, number):
        if not PiCamera2.opened:
            PiCamera2.opened.append("refused")
            raise RuntimeError("Camera __init__ sequence did not complete.")
        PiCamera2.opened.append(number)

    def create_video_configuration(self, **options):
        return options

    def configure(self, options):
        assert options["main"]["format"] == "BGR888"  # picamera2's name for red, green, blue in memory
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


def test_picamera2_is_opened_again_after_failure_and_silence(monkeypatch, model):
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
    assert PiCamera2.opened[-1] == "closed"  # stop() has closed the camera


class Camera(frames.Source):
    """Yields `count` frames of one pixel as fast as they are read; a pixel's value is its frame's index, from 0."""

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


def test_no_frame_of_a_recording_is_dropped():
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
    """The delay doubles after each try without a frame, and is 1 s again after a try with a frame."""
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


def test_a_camera_that_hangs(monkeypatch, model, tmp_path):
    """The pipe stays open while no frames arrive. Outputs are told when frames stop, and when they arrive again."""
    monkeypatch.setattr(frames, "SILENCE", 0.3)
    pipe, heard = tmp_path / "camera", queue.Queue()
    os.mkfifo(pipe)
    settings = Settings(Rules(frames=1), wait=False)
    output = types.SimpleNamespace(
        event=lambda event: heard.put(event.label), camera=heard.put, close=lambda finish: None
    )
    source = frames.open_source(str(pipe))
    watch = Watch(Classifier(model, engine="r2b"), source, settings, [output], heard.put)
    thread = threading.Thread(target=watch.run)  # run() sets signal handlers only in the main thread
    thread.start()
    with open(pipe, "wb", buffering=0) as camera:
        for shade in ("bright", "dark"):
            camera.write(shades.jpeg(shade))
            assert [heard.get(timeout=PATIENCE) for _ in range(3)] == [True, shade, False]
    thread.join(PATIENCE)
    assert "its writer closed it; 0 frames were dropped" in heard.get(timeout=PATIENCE)


def test_output_that_nobody_reads_does_not_block_the_command(model, tmp_path):
    """Standard output is a full pipe: the command still reads the camera's frames, and a signal still ends it."""
    pipe = tmp_path / "camera"
    os.mkfifo(pipe)
    with started(model, pipe, "--hold", "1", "--top", "3") as process, open(pipe, "wb", buffering=0) as camera:
        end = time.monotonic() + 2
        while time.monotonic() < end:
            camera.write(shades.jpeg("dark") + shades.jpeg("bright"))
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
