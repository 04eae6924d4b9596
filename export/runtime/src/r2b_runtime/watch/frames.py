"""The sources of frames: a stream of MJPEG, a camera's program, picamera2, V4L2, or image files."""

import abc
import contextlib
import importlib.util
import io
import os
import pathlib
import select
import shutil
import stat
import subprocess
import threading
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, Optional, Union

import numpy as np

from r2b_runtime import pixels
from r2b_runtime.watch.mjpeg import LARGEST_FRAME, Splitter

if TYPE_CHECKING:
    from PIL import Image

Picture = Union[bytes, np.ndarray, pathlib.Path, Callable[[], np.ndarray]]
"""A frame before it is decoded: bytes of a JPEG image, RGB as uint8 (H, W, 3), a path of an image file, or a function
that returns RGB as uint8 (H, W, 3)."""

SILENCE = 10.0
"""Seconds without a frame after which a camera counts as gone."""

MOST_FRAME_PIXELS = 1 << 26
"""Limit on height times width of a frame, above the 64 million of the largest camera for a Raspberry Pi."""

_PIECE = 1 << 16  # bytes of a stream that are read at a time
_RECORDINGS = (".mjpeg", ".mjpg")


class CameraLostError(Exception):
    """A source has no more frames for now. The message says why, without the source's name."""


class Source(abc.ABC):
    """A source of frames.

    Attributes:
        name: the source's name in messages.
        live: whether frames arrive in real time; then only the newest is classified, otherwise every frame is.
        returns: whether the source can be opened again after it has ended.
        hold: default number of frames in a row that must agree before a change counts.
        damaged: number of frames that were left out so far, because they were damaged or cut off.
        farewell: before the process ends, it waits at most this many seconds for the reading thread to close the
            source; 0 if the operating system closes it.
    """

    name: str
    live = True
    returns = True
    hold = 3
    damaged = 0
    farewell = 0.0

    @abc.abstractmethod
    def frames(self) -> Generator[Picture, None, None]:
        """Opens the source and yields its frames to the end.

        Raises `CameraLostError` if the source is gone but may come back. The caller may then call this again.
        """

    def close(self) -> None:  # noqa: B027  most have nothing to do
        """Ends what would outlive this process, such as a camera's program."""


def decoded(picture: Picture) -> "Union[np.ndarray, Image.Image]":
    """The picture in a form that `Classifier.probabilities` takes.

    Raises `ValueError` for a JPEG or an image file that is damaged or has more than `MOST_FRAME_PIXELS` pixels.
    """
    if isinstance(picture, np.ndarray):
        return picture
    if not isinstance(picture, (bytes, pathlib.Path)):
        return picture()
    from PIL import Image

    with pixels.explained():
        image = Image.open(io.BytesIO(picture) if isinstance(picture, bytes) else picture)
        if image.width * image.height > MOST_FRAME_PIXELS:
            raise pixels.ImageError(
                f"it has {image.width} x {image.height} pixels; at most {MOST_FRAME_PIXELS} are allowed"
            )
        image.load()
        return image


class Stream(Source):
    """MJPEG from a file descriptor: standard input, or what `frames` of a subclass opens."""

    def __init__(self, descriptor: int, name: str, largest: int = LARGEST_FRAME) -> None:
        self.name, self._descriptor, self._largest = name, descriptor, largest
        self.returns = False
        self.live = not stat.S_ISREG(os.fstat(descriptor).st_mode)

    def frames(self) -> Generator[Picture, None, None]:
        yield from self._read(self._descriptor)

    def _read(self, descriptor: int, silence: Optional[float] = None) -> Generator[bytes, None, None]:
        splitter = Splitter(self._largest)
        before = self.damaged
        while True:
            if silence is not None and not select.select([descriptor], [], [], silence)[0]:
                raise CameraLostError(f"it sent nothing for {silence:g} s")
            piece = os.read(descriptor, _PIECE)
            if not piece:
                break
            for image in splitter.feed(piece):
                self.damaged = before + splitter.damaged
                yield image
        splitter.finish()
        self.damaged = before + splitter.damaged


class NamedStream(Stream):
    """MJPEG from a path: a named pipe, which can be opened again after its writer has closed it, or a recording.

    Args:
        path: path of the pipe or the file.
        largest: the most bytes that a frame may have.
        opened: a descriptor of the pipe, if it is already open and has a writer; None: open the path.
    """

    def __init__(self, path: str, largest: int = LARGEST_FRAME, opened: Optional[int] = None) -> None:
        self.name, self._path, self._largest = repr(path), path, largest
        self.returns = self.live = stat.S_ISFIFO(os.stat(path).st_mode)
        self._has_writer, self._kept = opened is not None, opened
        if self.live and opened is None:
            # Keep the pipe open: SIGPIPE would end a writer that writes while nobody has the pipe open for reading.
            self._kept = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            os.set_blocking(self._kept, True)

    def frames(self) -> Generator[Picture, None, None]:
        has_writer, self._has_writer = self._has_writer, False
        if self._kept is not None and (has_writer or _has_data(self._kept)):
            yield from self._read(self._kept)
        else:
            yield from self._opened()
        if self.returns:
            raise CameraLostError("its writer closed it")

    def _opened(self) -> Generator[bytes, None, None]:
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)  # waits for a pipe's writer
        except OSError as error:
            raise CameraLostError(f"it cannot be opened ({error.strerror})") from None
        try:
            yield from self._read(descriptor)
        finally:
            os.close(descriptor)


def _has_data(pipe: int) -> bool:
    """Whether a pipe has something to read, even if its writer has gone."""
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    return any(events & select.POLLIN for _, events in poll.poll(0))


class Program(Stream):
    """MJPEG from the standard output of a program, which each call of `frames` starts."""

    def __init__(self, arguments: list[str], largest: int = LARGEST_FRAME) -> None:
        self.name, self._arguments, self._largest = arguments[0], arguments, largest
        self.returns = self.live = True
        self._process: Optional[subprocess.Popen[bytes]] = None
        self._closed = False
        self._lock = threading.Lock()

    def frames(self) -> Generator[Picture, None, None]:
        with self._lock:
            if self._closed:
                return
            try:
                self._process = process = subprocess.Popen(
                    self._arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=2
                )
            except OSError as error:
                raise CameraLostError(f"it cannot be started ({error.strerror})") from None
        assert process.stdout is not None
        try:
            yield from self._read(process.stdout.fileno(), SILENCE)
            process.wait(SILENCE)
        except subprocess.TimeoutExpired:
            pass
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
        raise CameraLostError(f"it ended with status {process.returncode}")

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if self._process is not None:
                self._process.kill()


class Files(Source):
    """An image file, or all files of a folder except hidden ones, in the order of their names, each once."""

    live = False
    returns = False
    hold = 1

    def __init__(self, path: str) -> None:
        self.name, self._path = repr(path), pathlib.Path(path)

    def frames(self) -> Generator[Picture, None, None]:
        if not self._path.is_dir():
            yield self._path
            return
        files = [file for file in sorted(self._path.iterdir()) if file.is_file() and not file.name.startswith(".")]
        if not files:
            raise ValueError(f"there is no file in {self.name}; give a folder of images")
        yield from files


class PiCamera(Source):
    """A camera of the Raspberry Pi, read through picamera2, a package of Raspberry Pi OS."""

    farewell = 2.0

    def __init__(self, number: int, size: tuple[int, int], rate: Optional[float]) -> None:
        self.name = f"picamera2 camera {number}"
        self._number, self._size, self._rate = number, size, rate

    def frames(self) -> Generator[Picture, None, None]:
        import picamera2

        try:
            camera = picamera2.Picamera2(self._number)
        except (IndexError, RuntimeError) as error:
            raise CameraLostError(f"it cannot be opened ({error})") from None
        try:
            # picamera2's format names list a pixel's bytes from the last to the first: BGR888 gives red, green, blue.
            main = {"size": self._size, "format": "BGR888"}
            controls = {} if self._rate is None else {"FrameRate": self._rate}
            camera.configure(camera.create_video_configuration(main=main, controls=controls))
            camera.start()
            while True:
                yield self._capture(camera)
        except RuntimeError as error:
            raise CameraLostError(f"it broke off ({error})") from None
        finally:
            camera.close()

    def _capture(self, camera: Any) -> np.ndarray:
        done = threading.Event()
        job = camera.capture_array("main", wait=False, signal_function=lambda _: done.set())
        if not done.wait(SILENCE):
            raise CameraLostError(f"it sent nothing for {SILENCE:g} s")
        return np.asarray(job.get_result())


def open_source(
    text: Optional[str],
    size: tuple[int, int] = (640, 480),
    rate: Optional[float] = None,
    largest: int = LARGEST_FRAME,
    wait: Optional[bool] = None,
) -> Source:
    """Returns the source that the argument SOURCE of `r2b-run watch` names.

    Args:
        text: "-", a path, "picamera2" or "rpicam-vid"; the last two may end with ":N" for camera N, counted from 0.
            None takes picamera2 if it is installed, else rpicam-vid if that is installed, else /dev/video0.
        size: width and height that a camera is asked for.
        rate: frames per second that a camera is asked for; None: its own choice.
        largest: the most bytes that a frame of a stream may have.
        wait: whether the source is to be opened again when it ends; None: only if it is a camera or a named pipe.

    Raises:
        FileNotFoundError: there is no such file, or rpicam-vid is not installed.
        ImportError: the source needs Pillow or picamera2, which is not installed.
        ValueError: the argument names no source, standard input is a terminal, or `wait` is true for a source that
            cannot be opened again.
    """
    source = _opened(first_camera() if text is None else text, size, rate, largest, wait)
    if wait and not source.returns:
        raise ValueError(
            f"--wait needs a source that can be opened again, and {source.name} cannot: "
            "give a camera or a named pipe (mkfifo PIPE)"
        )
    return source


def _opened(text: str, size: tuple[int, int], rate: Optional[float], largest: int, wait: Optional[bool]) -> Source:
    kind, _, number = text.partition(":")
    if kind in ("picamera2", "rpicam-vid") and (not number or number.isdecimal()):
        return _pi_camera(kind, int(number or 0), size, rate, largest)
    if text != "-" and _is_device(text):
        from r2b_runtime.watch.v4l2 import VideoDevice

        return VideoDevice(text, size, rate)
    _need_pillow("JPEG frames and image files")
    return _standard_input(largest, wait) if text == "-" else _path(text, largest)


def _standard_input(largest: int, wait: Optional[bool]) -> Source:
    if os.isatty(0):
        raise ValueError(
            "standard input is a terminal; pipe MJPEG into it: "
            "rpicam-vid -t 0 -n --codec mjpeg -o - | r2b-run watch MODEL -"
        )
    path = os.path.realpath("/dev/fd/0")
    if wait and stat.S_ISFIFO(os.fstat(0).st_mode) and os.path.exists(path):
        return NamedStream(path, largest, opened=0)
    return Stream(0, "standard input", largest)


def _path(path: str, largest: int) -> Source:
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        raise FileNotFoundError(
            f"there is no source {path!r}; give -, a device such as /dev/video0, picamera2, rpicam-vid, a named pipe, "
            "an image file or a folder"
        ) from None
    if stat.S_ISFIFO(mode) or (stat.S_ISREG(mode) and path.lower().endswith(_RECORDINGS)):
        return NamedStream(path, largest)
    if stat.S_ISDIR(mode) or stat.S_ISREG(mode):
        return Files(path)
    raise ValueError(f"a source is a camera, a named pipe, an image file or a folder; {path!r} is none of them")


def first_camera() -> str:
    """The source to use if the user names none."""
    if importlib.util.find_spec("picamera2") is not None:
        return "picamera2"
    return "rpicam-vid" if shutil.which("rpicam-vid") else "/dev/video0"


def _is_device(path: str) -> bool:
    """Whether this is a character device, or a missing file in /dev: a camera that may be plugged in later."""
    with contextlib.suppress(OSError):
        return stat.S_ISCHR(os.stat(path).st_mode)
    return path.startswith("/dev/")


def _pi_camera(kind: str, number: int, size: tuple[int, int], rate: Optional[float], largest: int) -> Source:
    if kind == "picamera2":
        if importlib.util.find_spec("picamera2") is None:
            raise ImportError(
                "the source picamera2 needs this package of Raspberry Pi OS: apt install python3-picamera2, and a "
                "virtual environment made with --system-site-packages; or use the source rpicam-vid"
            )
        return PiCamera(number, size, rate)
    _need_pillow("JPEG frames and image files")
    if shutil.which("rpicam-vid") is None:
        raise FileNotFoundError(
            "the source rpicam-vid needs this program of Raspberry Pi OS: apt install rpicam-apps-lite; a USB camera "
            "is /dev/video0"
        )
    # Values follow "=", because an option whose value may be left out, such as --verbose, does not take the next
    # argument as its value.
    arguments = ["rpicam-vid", "--timeout=0", "--nopreview", "--verbose=0", f"--camera={number}", f"--width={size[0]}"]
    arguments += [f"--height={size[1]}", "--codec=mjpeg", "--flush", "--output=-"]
    if rate is not None:
        arguments.append(f"--framerate={rate:g}")
    return Program(arguments, largest)


def _need_pillow(what: str) -> None:
    if importlib.util.find_spec("PIL") is None:
        raise ImportError(f"{what} need Pillow: pip install pillow, or apt install python3-pil")
