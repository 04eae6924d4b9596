"""Tests reading frames from a video device, without a device.

The structures are compared with the kernel's header. A preloaded library answers in place of the kernel and a camera.
"""

import json
import os
import pathlib
import re
import shutil
import signal
import struct
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="the models of these tests are written with TensorFlow's schema")
pytest.importorskip("PIL", reason="JPEG images are made with Pillow: pip install pillow")
pytest.importorskip("fcntl", reason="video devices exist only on Linux")

import shades
from r2b_runtime.watch import frames, v4l2

NATIVE = pathlib.Path(__file__).with_name("native")
PATIENCE = 60
COMPILER = shutil.which("cc") or shutil.which("gcc")
pytestmark = pytest.mark.skipif(
    COMPILER is None or not sys.platform.startswith("linux"), reason="needs Linux and a C compiler: apt-get install gcc"
)


def compiled(program, *options):
    done = subprocess.run([*options, "-o", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return program


def by_name(text):
    return dict(line.split(" ") for line in text.splitlines())


def test_structures_match_the_kernels_header(tmp_path):
    program = compiled(tmp_path / "structures", COMPILER, NATIVE / "video_structures.c")
    told = by_name(subprocess.run([program], capture_output=True, text=True, check=True).stdout)
    requests = [name for name in told if name.isupper() and isinstance(getattr(v4l2, name), int)]
    assert len(requests) == 9
    for name in requests:
        assert getattr(v4l2, name) == int(told[name]), name
    flags = {"can_capture": v4l2._CAN_CAPTURE, "can_stream": v4l2._CAN_STREAM, "damaged": v4l2._DAMAGED}
    flags["has_device_capabilities"] = v4l2._HAS_DEVICE_CAPABILITIES
    assert {name: int(told[name]) for name in flags} == flags
    data = {name: bytes.fromhex(text) for name, text in told.items() if len(text) > 20}
    assert struct.unpack_from("II", data["CAPABILITY"], 84) == (0x01020304, 0x05060708)
    assert len(data["CAPABILITY"]) == v4l2.CAPABILITY.size
    assert v4l2.FORMAT_DESCRIPTION.unpack(data["FORMAT_DESCRIPTION"]) == (1, 2, 0, bytes(32), b"YUYV")
    assert v4l2.FORMAT.unpack(data["FORMAT"]) == (1, 640, 480, b"MJPG", 1, 1280, 614400)
    assert v4l2.STREAM_PARAMETERS.unpack(data["STREAM_PARAMETERS"]) == (1, 0, 0, 1000, 7500)
    assert v4l2.REQUEST_BUFFERS.unpack(data["REQUEST_BUFFERS"]) == (4, 1, 1)
    fields = v4l2.BUFFER.unpack(data["BUFFER"])
    assert fields[:4] == (3, 1, 12345, v4l2._DAMAGED)
    assert (fields[9], fields[10] & 0xFFFFFFFF, fields[11]) == (1, 0x30000, 65536)


def test_structures_of_a_processor_of_32_bits(tmp_path):
    """A compiler for 32-bit ARM checks sizes, offsets and request numbers.

    The test adapts the `struct` formats to that processor, because Python's native alignment is this machine's.
    """
    pytest.importorskip("ziglang", reason="ziglang compiles for 32-bit ARM: pip install ziglang")
    form = struct.Struct("<" + v4l2.FORMAT.format.replace("4x", "0x"))
    buffer = struct.Struct("<" + v4l2.BUFFER.format.replace("l", "i").replace("L", "I"))
    places = {"bytesused": 8, "flags": 12, "memory": 48, "m": 52, "length": 56}
    numbers = {
        "sizeof(struct v4l2_format)": form.size,
        "offsetof(struct v4l2_format, fmt.pix.pixelformat)": 12,
        "sizeof(struct v4l2_buffer)": buffer.size,
        **{f"offsetof(struct v4l2_buffer, {name})": place for name, place in places.items()},
        "VIDIOC_S_FMT": v4l2.request(3, 5, form),
        "VIDIOC_DQBUF": v4l2.request(3, 17, buffer),
        "VIDIOC_QUERYCAP": v4l2.QUERY_CAPABILITIES,
        "VIDIOC_S_PARM": v4l2.SET_PARAMETERS,
        "VIDIOC_REQBUFS": v4l2.ASK_FOR_BUFFERS,
        "VIDIOC_ENUM_FMT": v4l2.LIST_FORMATS,
    }
    lines = ["#include <linux/videodev2.h>", "#include <stddef.h>"]
    lines += [f'_Static_assert({name} == {number}u, "");' for name, number in numbers.items()]
    (tmp_path / "structures.c").write_text("\n".join(lines))
    compiled(
        *(tmp_path / "structures.o", sys.executable, "-m", "ziglang", "cc", "-target", "arm-linux-gnueabihf"),
        *("-c", tmp_path / "structures.c"),
    )


@pytest.fixture(scope="module")
def device(tmp_path_factory):
    folder = tmp_path_factory.mktemp("device")
    model = folder / "shades.tflite"
    model.write_bytes(shades.model())
    compiled(folder / "device.so", COMPILER, "-shared", "-fPIC", NATIVE / "video_device.c", "-ldl")
    return folder


def watch(device, tmp_path, frame, *arguments, **settings):
    """Starts the command with a simulated device of these settings (see video_device.c), which logs into `log`."""
    (tmp_path / "frame").write_bytes(frame)
    environment = {
        **os.environ,
        "LD_PRELOAD": str(device / "device.so"),
        "VIDEO_DEVICE": "/dev/video97",
        "VIDEO_FRAME": str(tmp_path / "frame"),
        "VIDEO_LOG": str(tmp_path / "log"),
        "VIDEO_COUNT": "20",
        **settings,
    }
    command = [sys.executable, "-m", "r2b_runtime", "watch", device / "shades.tflite", "/dev/video97", *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def grey_yuyv(luma):
    return bytes([luma, 128]) * (320 * 240)


def test_a_camera_that_gives_jpeg(device, tmp_path):
    """The device is unplugged, and the command opens it again."""
    process = watch(
        device, tmp_path, shades.jpeg("bright"), "--hold", "1", "--size", "800x600", "--fps", "7.5", VIDEO_FORMAT="MJPG"
    )
    with process:
        event = json.loads(process.stdout.readline())
        (tmp_path / "next").write_bytes(shades.jpeg("dark"))
        (tmp_path / "next").replace(tmp_path / "frame")
        assert (event["label"], json.loads(process.stdout.readline())["label"]) == ("bright", "dark")
        while (tmp_path / "log").read_text().count("open") < 2:
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
        errors = process.stderr.read().decode()
    assert "/dev/video97: it was unplugged; trying again in 1 s" in errors
    log = (tmp_path / "log").read_text().splitlines()
    assert log[:4] == ["open", "format MJPG 800x600", "rate 7.5", "unplugged"]
    assert not [line for line in log if line.startswith("unknown")]


def test_a_camera_that_gives_yuyv(device, tmp_path):
    process = watch(device, tmp_path, grey_yuyv(225), "--hold", "1", "--no-wait", VIDEO_FORMAT="YUYV")
    out, errors = process.communicate(timeout=PATIENCE)
    (event,) = shades.events(out.decode())
    assert event["label"] == "bright"
    assert re.search(r"it was unplugged; \d+ frames were dropped and 1 damaged", errors.decode())
    assert process.returncode == 0
    assert [line for line in (tmp_path / "log").read_text().splitlines() if "format" in line] == [
        "format MJPG 640x480",
        "format JPEG 640x480",
        "format YUYV 640x480",
    ]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"VIDEO_FORMAT": "pBAA"}, "/dev/video97 must give MJPG or YUYV; it gives pBAA: use picamera2 or rpicam-vid"),
        ({"VIDEO_FORMAT": "MJPG", "VIDEO_META": "1"}, "/dev/video97 gives no frames; a camera has several devices"),
    ],
)
def test_devices_without_usable_frames_are_refused(device, tmp_path, settings, message):
    process = watch(device, tmp_path, b"", **settings)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert f"r2b-run: {message}" in errors.decode()


def test_a_missing_device_counts_as_a_lost_camera(tmp_path):
    source = frames.open_source("/dev/video98")
    assert source.returns
    with pytest.raises(frames.CameraLostError, match="there is no such device"):
        next(source.frames())


def test_yuyv_conversion_agrees_with_pillows():
    """Pillow converts the same colours, in full range. Values may differ by 4, because each conversion rounds."""
    from PIL import Image

    rng = np.random.default_rng(0)
    full = rng.integers(0, 256, (6, 10, 3), dtype=np.uint8)
    full[:, 1::2, 1:] = full[:, 0::2, 1:]  # each pair of neighbours shares Cb and Cr
    expected = np.asarray(Image.fromarray(full, "YCbCr").convert("RGB")).astype(int)
    limited = np.empty_like(full)
    limited[..., 0] = np.rint(16 + full[..., 0] * (219 / 255))
    limited[..., 1:] = np.rint(128 + (full[..., 1:].astype(int) - 128) * (224 / 255))
    packed = np.zeros((6, 24), np.uint8)  # rows end with padding
    packed[:, 0:20:2], packed[:, 1:20:4], packed[:, 3:20:4] = limited[..., 0], limited[:, ::2, 1], limited[:, ::2, 2]
    found = v4l2.rgb(packed.tobytes(), 6, 10, 24)
    assert found.dtype == np.uint8
    assert np.abs(found.astype(int) - expected).max() <= 4
    black, white = (v4l2.rgb(bytes([luma, 128, luma, 128]), 1, 2, 4) for luma in (16, 235))
    assert (black.max(), white.min()) == (0, 255)


def test_jpeg_without_huffman_tables():
    """Many USB cameras leave out the standard tables, which every decoder knows."""
    image = shades.jpeg("bright")
    at = image.index(b"\xff\xc4")
    while image[at : at + 2] == b"\xff\xc4":
        image = image[:at] + image[at + 2 + int.from_bytes(image[at + 2 : at + 4], "big") :]
    assert b"\xff\xc4" not in image
    assert np.asarray(frames.decoded(image)).mean() == pytest.approx(shades.SHADES["bright"], abs=2)
