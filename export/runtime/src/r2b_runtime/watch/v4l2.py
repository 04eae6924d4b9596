"""Reads frames of a video device through Video4Linux2 (`linux/videodev2.h`), with nothing but system calls.

If Pillow is installed, a camera is asked for JPEG first, because most USB cameras give JPEG in every size. If it has no
JPEG, or Pillow is missing, it is asked for YUYV.
System calls need only the few structures below; OpenCV or the program ffmpeg would need many packages on the board.
"""

import contextlib
import errno
import fcntl
import importlib.util
import mmap
import os
import select
import struct
from collections.abc import Generator, Iterator
from typing import Optional

import numpy as np

from r2b_runtime.watch.frames import SILENCE, CameraLostError, Picture, Source

_BUFFERS = 4
_CAPTURE, _MMAP, _ANY_FIELD = 1, 1, 0  # V4L2_BUF_TYPE_VIDEO_CAPTURE, V4L2_MEMORY_MMAP, V4L2_FIELD_ANY
_CAN_CAPTURE, _CAN_STREAM, _HAS_DEVICE_CAPABILITIES = 0x1, 0x04000000, 0x80000000
_DAMAGED = 0x40  # V4L2_BUF_FLAG_ERROR
_JPEG = (b"MJPG", b"JPEG")
_YUYV = b"YUYV"

# The structures have the machine's alignment. On 32-bit machines BUFFER has 32-bit times, which kernels accept unless
# they were built without COMPAT_32BIT_TIME.
CAPABILITY = struct.Struct("16s32s32sIII12x")
FORMAT_DESCRIPTION = struct.Struct("III32s4s16x")
_UNION = struct.calcsize("P")  # where the union of struct v4l2_format begins
FORMAT = struct.Struct(f"I{_UNION - 4}xII4sIII{200 - 24}x")  # type, then the first fields of v4l2_pix_format
STREAM_PARAMETERS = struct.Struct("IIIII184x")
REQUEST_BUFFERS = struct.Struct("III8x")
BUFFER = struct.Struct("5I2l16s2IL3I0L")
_NUMBER = struct.Struct("i")


def request(direction: int, number: int, structure: struct.Struct) -> int:
    """The number of an ioctl of video devices; direction: 1 if the program writes, 2 if it reads, 3 for both."""
    return direction << 30 | structure.size << 16 | ord("V") << 8 | number


QUERY_CAPABILITIES = request(2, 0, CAPABILITY)
LIST_FORMATS = request(3, 2, FORMAT_DESCRIPTION)
SET_FORMAT = request(3, 5, FORMAT)
ASK_FOR_BUFFERS = request(3, 8, REQUEST_BUFFERS)
DESCRIBE_BUFFER = request(3, 9, BUFFER)
GIVE_BUFFER = request(3, 15, BUFFER)
TAKE_BUFFER = request(3, 17, BUFFER)
START = request(1, 18, _NUMBER)
SET_PARAMETERS = request(3, 22, STREAM_PARAMETERS)


class VideoDevice(Source):
    """A camera with a device file such as /dev/video0.

    Args:
        path: path of the device file, which need not exist yet.
        size: width and height that the camera is asked for; it may give others.
        rate: frames per second that the camera is asked for; None: its own choice.
    """

    def __init__(self, path: str, size: tuple[int, int], rate: Optional[float]) -> None:
        self.name, self._path, self._size, self._rate = path, path, size, rate

    def frames(self) -> Generator[Picture, None, None]:
        with contextlib.ExitStack() as stack:
            try:
                device = os.open(self._path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
                stack.callback(os.close, device)
                self._check(device)
                shape = self._configure(device)
                buffers = [stack.enter_context(buffer) for buffer in _map_buffers(device)]
                fcntl.ioctl(device, START, _NUMBER.pack(_CAPTURE))
                while True:
                    yield from self._next(device, buffers, shape)
            except OSError as error:
                raise self._explained(error) from None

    def _check(self, device: int) -> None:
        try:
            answer = fcntl.ioctl(device, QUERY_CAPABILITIES, bytes(CAPABILITY.size))
        except OSError as error:
            if error.errno in (errno.ENOTTY, errno.EINVAL, errno.ENOSYS):
                raise ValueError(f"{self._path} is not a video device; give one such as /dev/video0") from None
            raise
        able, able_here = struct.unpack_from("II", answer, 84)
        if able & _HAS_DEVICE_CAPABILITIES:
            able = able_here
        if not (able & _CAN_CAPTURE and able & _CAN_STREAM):
            raise ValueError(
                f"{self._path} gives no frames; a camera has several devices, and v4l2-ctl --list-devices shows the "
                "right one first"
            )

    def _configure(self, device: int) -> Optional[tuple[int, int, int]]:
        """Chooses a format. Returns None for JPEG, and (height, width, bytes per row) for YUYV."""
        has_pillow = importlib.util.find_spec("PIL") is not None
        for wanted in (*(_JPEG if has_pillow else ()), _YUYV):
            given = FORMAT.pack(_CAPTURE, *self._size, wanted, _ANY_FIELD, 0, 0)
            try:
                answer = fcntl.ioctl(device, SET_FORMAT, given)
            except OSError as error:
                if error.errno == errno.EINVAL:
                    continue
                raise
            _, width, height, chosen, _, stride, _ = FORMAT.unpack(answer)
            if chosen == wanted:
                self._set_rate(device)
                return None if chosen in _JPEG else (height, width, max(stride, 2 * width))
        offered = _formats(device)
        if not has_pillow and set(offered) & set(_JPEG):
            raise ImportError(
                f"{self._path} gives JPEG, which needs Pillow: pip install pillow, or apt install python3-pil"
            )
        names = ", ".join(name.decode("ascii", "backslashreplace") for name in offered) or "no format at all"
        raise ValueError(
            f"{self._path} must give MJPG or YUYV; it gives {names}: use picamera2 or rpicam-vid for a camera at the "
            "Raspberry Pi's own connector"
        )

    def _set_rate(self, device: int) -> None:
        """Asks for a frame rate; a camera that has only one rate refuses and keeps its own."""
        if self._rate is not None:
            with contextlib.suppress(OSError):
                given = STREAM_PARAMETERS.pack(_CAPTURE, 0, 0, 1000, max(1, round(self._rate * 1000)))
                fcntl.ioctl(device, SET_PARAMETERS, given)

    def _next(self, device: int, buffers: list[mmap.mmap], shape: Optional[tuple[int, int, int]]) -> Iterator[Picture]:
        """Waits for a frame and yields it; yields nothing if it is damaged."""
        if not select.select([device], [], [], SILENCE)[0]:
            raise CameraLostError(f"it sent nothing for {SILENCE:g} s")
        try:
            answer = fcntl.ioctl(device, TAKE_BUFFER, _buffer())
        except BlockingIOError:
            return
        index, _, used, flags = struct.unpack_from("4I", answer)
        data = buffers[index][:used]
        fcntl.ioctl(device, GIVE_BUFFER, _buffer(index))
        if flags & _DAMAGED or not data or (shape is not None and len(data) < shape[0] * shape[2]):
            self.damaged += 1
        elif shape is None:
            yield data
        else:
            yield lambda: rgb(data, *shape)

    def _explained(self, error: OSError) -> Exception:
        """The exception for an error of a system call: `PermissionError`, or `CameraLostError`."""
        if error.errno in (errno.EACCES, errno.EPERM):
            return PermissionError(
                f"{self._path} may not be opened: add the user to its group (sudo usermod -aG video $USER) and log in "
                "again"
            )
        known = {
            errno.ENOENT: "there is no such device",
            errno.ENODEV: "it was unplugged",
            errno.ENXIO: "it was unplugged",
            errno.EBUSY: "another program uses it",
        }
        return CameraLostError(known.get(error.errno or 0) or f"it does not answer ({error.strerror})")


def rgb(data: bytes, height: int, width: int, stride: int) -> np.ndarray:
    """Converts YUYV, which has two pixels in four bytes, to RGB by ITU-R BT.601 in limited range.

    Args:
        data: at least height * stride bytes.
        height, width: in pixels; the last column of an odd width is left out, because YUYV stores pixels in pairs.
        stride: bytes from row to row.

    Returns:
        uint8 (height, width, 3), where width is rounded down to an even number.
    """
    rows = np.frombuffer(data, np.uint8, height * stride).reshape(height, stride)
    quads = rows[:, : width // 2 * 4].reshape(height, width // 2, 4).astype(np.int32)
    luma = (quads[:, :, 0::2] - 16) * 298
    blue, red = quads[:, :, 1:2] - 128, quads[:, :, 3:4] - 128
    colours = np.stack([luma + 409 * red, luma - 100 * blue - 208 * red, luma + 516 * blue], axis=-1)
    return np.clip((colours + 128) >> 8, 0, 255).astype(np.uint8).reshape(height, width // 2 * 2, 3)


def _formats(device: int) -> list[bytes]:
    """The four letters of every format that a device offers."""
    found: list[bytes] = []
    with contextlib.suppress(OSError):  # the index after the last format gives an error
        while len(found) < 100:
            answer = fcntl.ioctl(device, LIST_FORMATS, FORMAT_DESCRIPTION.pack(len(found), _CAPTURE, 0, b"", b""))
            found.append(FORMAT_DESCRIPTION.unpack(answer)[4])
    return found


def _map_buffers(device: int) -> list[mmap.mmap]:
    """Asks for buffers, maps them into memory, and gives all of them to the device."""
    answer = fcntl.ioctl(device, ASK_FOR_BUFFERS, REQUEST_BUFFERS.pack(_BUFFERS, _CAPTURE, _MMAP))
    buffers = []
    for index in range(REQUEST_BUFFERS.unpack(answer)[0]):
        fields = BUFFER.unpack(fcntl.ioctl(device, DESCRIBE_BUFFER, _buffer(index)))
        offset, length = fields[10] & 0xFFFFFFFF, fields[11]
        buffers.append(mmap.mmap(device, length, offset=offset))
        fcntl.ioctl(device, GIVE_BUFFER, _buffer(index))
    return buffers


def _buffer(index: int = 0) -> bytes:
    return BUFFER.pack(index, _CAPTURE, 0, 0, 0, 0, 0, bytes(16), 0, _MMAP, 0, 0, 0, 0)
