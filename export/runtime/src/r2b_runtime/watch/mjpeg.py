"""Splits a stream into its JPEG images, without decoding them.

The images may follow each other directly, as `rpicam-vid --codec mjpeg` and `ffmpeg -f mjpeg` write them, or have other
bytes between them, such as the headers of `multipart/x-mixed-replace` that network cameras send. Images are read marker
by marker (ITU-T T.81, annex B), because a thumbnail in an image's EXIF data has a start and an end marker too.
"""

import re
from collections.abc import Iterator
from typing import Optional

LARGEST_FRAME = 16 << 20
"""Default limit on the bytes of one image, far above the frames of usual cameras."""

_START = b"\xff\xd8\xff"  # start of image, and the first byte of the next marker
_MARKER = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")  # ends entropy-coded data; FF 00 and restart markers do not
_SCAN, _END, _AGAIN = 0xDA, 0xD9, 0xD8  # markers: start of scan, end of image, start of image
_FREE = {*range(0xE0, 0xF0), 0xFE}  # segments of applications and comments, which may hold a thumbnail
_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD8)}
_OTHERS = {
    b"\x00\x00\x00\x01": "H.264 or H.265; have the camera send MJPEG (rpicam-vid --codec mjpeg)",
    b"\x00\x00\x01": "H.264 or H.265; have the camera send MJPEG (rpicam-vid --codec mjpeg)",
    b"YUV4MPEG2": "raw video; have it encoded (ffmpeg -f mjpeg)",
    b"\x89PNG": "PNG images; have them encoded as JPEG (ffmpeg -f mjpeg)",
    b"\x1aE\xdf\xa3": "Matroska; have ffmpeg unpack it (ffmpeg -i - -f mjpeg -)",
}


class NoMjpegError(ValueError):
    """A stream is not a sequence of JPEG images, or one of them is too large."""


class Splitter:
    """Takes a stream piece by piece, and yields each image once it is complete.

    Args:
        largest: the most bytes that may come without completing an image.

    Attributes:
        damaged: how many images were left out, because they were cut off or broken.
    """

    def __init__(self, largest: int = LARGEST_FRAME) -> None:
        self.damaged = 0
        self._largest = largest
        self._data = bytearray()
        self._position = 0  # index in _data; all bytes before it were examined
        self._inside = self._in_scan = False
        self._useless = 0  # bytes since the last whole image that were removed from _data
        self._begin: Optional[bytes] = b""  # how the stream begins, for messages; None after the first whole image

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yields the images that end in `data`. Raises `NoMjpegError` after `largest` bytes without a whole image."""
        if self._begin is not None:
            self._begin += data[:16]
        self._data += data
        while True:
            image = self._next()
            if image is None:
                break
            self._begin, self._useless = None, 0
            yield image
        if self._useless + len(self._data) > self._largest:
            raise self._refusal()

    def finish(self) -> None:
        """Ends the stream; an image that is not complete counts as damaged."""
        self.damaged += self._inside
        self._data.clear()
        self._position, self._inside, self._in_scan = 0, False, False

    def _next(self) -> Optional[bytes]:
        """The next whole image, or None if more data is needed."""
        while True:
            if not self._inside:
                if not self._find_start():
                    return None
            elif self._in_scan:
                end = self._leave_scan()
                if end is None:
                    return None
            else:
                end = self._segment()
                if end is None:
                    return None
                if end:
                    image = bytes(self._data[:end])
                    self._cut(end)
                    self._inside = False
                    return image

    def _find_start(self) -> bool:
        found = self._data.find(_START)
        if found < 0:
            # The last two bytes may be the beginning of _START.
            self._useless += max(0, len(self._data) - 2)
            del self._data[:-2]
            return False
        self._useless += found
        self._cut(found)
        self._inside, self._in_scan, self._position = True, False, 2
        return True

    def _segment(self) -> Optional[int]:
        """Steps over one marker and its segment.

        Returns None if more data is needed, the index after the image if the marker ends the image, otherwise 0.
        """
        data, at = self._data, self._position
        while data[at : at + 2] == b"\xff\xff":  # fill bytes
            at += 1
        if at + 4 > len(data) and not (at + 2 <= len(data) and data[at + 1] == _END):
            return None
        marker = data[at + 1]
        if data[at] != 0xFF or marker in (0x00, _AGAIN):
            self._give_up(2)
            return 0
        if marker == _END:
            return at + 2
        if marker in _WITHOUT_LENGTH:
            self._position = at + 2
            return 0
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if length < 2 or length == int.from_bytes(_START[:2], "big"):
            self._give_up(2)
            return 0
        if at + 2 + length > len(data):
            self._position = at
            return None
        begins = self._next_start(marker, at + 2, at + 2 + length)
        if begins:
            self._give_up(begins)
            return 0
        self._in_scan = marker == _SCAN
        # The search for the end of a scan begins with the last byte of its header. This byte is 0xFF only if the image
        # was cut off, and may then be the first byte of the next image.
        self._position = at + 2 + length - self._in_scan
        return 0

    def _next_start(self, marker: int, begin: int, end: int) -> int:
        """The index at which the next image begins inside a segment, because this one was cut off; 0 if none does."""
        if marker not in _FREE and (found := self._data.find(_START, begin, end)) >= 0:
            return found
        for start in (_START[:2], _START):  # a segment that holds a thumbnail does not end with these
            if self._data.endswith(start, begin, end):
                return end - len(start)
        return 0

    def _leave_scan(self) -> Optional[int]:
        """Goes to the marker that ends entropy-coded data, and returns 0; returns None if more data is needed."""
        found = _MARKER.search(self._data, self._position)
        if found is None:
            # The last byte may be the first of a marker.
            self._position = max(self._position, len(self._data) - 1)
            return None
        at = found.end() - 2
        if self._data[at + 1] == _AGAIN:  # the image was cut off, and the next one begins
            self._give_up(at)
        else:
            self._position, self._in_scan = at, False
        return 0

    def _give_up(self, after: int) -> None:
        """Discards a damaged image up to index `after`, where the search for the next image begins."""
        self.damaged += 1
        self._useless += after
        self._cut(after)
        self._inside = self._in_scan = False

    def _cut(self, end: int) -> None:
        del self._data[:end]
        self._position = 0

    def _refusal(self) -> NoMjpegError:
        size = f"{self._largest / (1 << 20):g} MiB"
        if self._inside and not self._useless:
            return NoMjpegError(f"a frame is larger than {size}; give a larger --max-frame for a stream that you trust")
        rule = "the stream must be MJPEG, JPEG images one after the other"
        if self._begin is None:
            return NoMjpegError(
                f"{rule}; there is no further image in the {size} after the last one: start the camera again"
            )
        for begin, name in _OTHERS.items():
            if self._begin.startswith(begin):
                return NoMjpegError(f"{rule}; it seems to be {name}")
        return NoMjpegError(
            f"{rule}; there is no whole image in its first {size}, which begin with {self._begin[:8].hex(' ')}: have "
            "the camera send MJPEG (rpicam-vid --codec mjpeg, ffmpeg -f mjpeg)"
        )
