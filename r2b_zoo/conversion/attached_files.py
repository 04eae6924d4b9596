"""The files that TFLite metadata attaches to a model: a ZIP archive behind the model's own bytes.

r2b_zoo and r2b_runtime have identical copies of this file, because neither depends on the other; a test compares them.
"""

import io
import struct
import zipfile
import zlib
from typing import Optional

LABELS_FILE, PREPROCESSING_FILE = "labels.txt", "preprocessing.json"

MAX_BYTES = 1 << 24
"""Limit for one attached file, which could otherwise inflate to any size; the names of a million classes fit."""

_METHODS = {zipfile.ZIP_STORED: "stored", zipfile.ZIP_DEFLATED: "deflated"}


class AttachedFileError(ValueError):
    """An attached file cannot be used. The message is a sentence without its subject, which is the file."""


class AttachedFiles:
    """The archive behind a model; empty where there is none.

    Args:
        data: the whole contents of a `.tflite` file.

    Raises:
        AttachedFileError: the archive is damaged.
    """

    def __init__(self, data: bytes) -> None:
        self._stream = io.BytesIO(data)
        self.names: tuple[str, ...] = ()
        if not zipfile.is_zipfile(self._stream):
            return
        try:
            with zipfile.ZipFile(self._stream) as archive:
                self.names = tuple(archive.namelist())
        except _FAILURES as error:
            raise AttachedFileError(f"is damaged: {_sentence(error)}") from error

    def text(self, name: str) -> Optional[str]:
        """The text of a file, UTF-8 with or without a byte-order mark; None if there is no such file.

        Only this file is inflated, and at most `MAX_BYTES` of it.

        Raises:
            AttachedFileError: it is damaged, too large, compressed by an unusual method, or not UTF-8.
        """
        if name not in self.names:
            return None
        try:
            with zipfile.ZipFile(self._stream) as archive:
                entry = archive.getinfo(name)
                if entry.file_size > MAX_BYTES:
                    raise AttachedFileError(f"has {entry.file_size:,} bytes, and at most {MAX_BYTES:,} are read")
                # zipfile inflates other compression methods without a limit.
                if entry.compress_type not in _METHODS:
                    raise AttachedFileError(
                        f"is compressed by method {entry.compress_type}; known are "
                        + " and ".join(f"{number} ({method})" for number, method in _METHODS.items())
                    )
                with archive.open(entry) as file:
                    content = file.read(MAX_BYTES + 1)
        except AttachedFileError:
            raise
        except _FAILURES as error:
            raise AttachedFileError(f"is damaged: {_sentence(error)}") from error
        try:
            return content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise AttachedFileError(f"is not UTF-8 text: {error}") from error


def lines(text: str) -> tuple[str, ...]:
    """The lines of `labels.txt`, with any system's line ends; a line end after the last line adds no line."""
    return tuple(text.replace("\r\n", "\n").removesuffix("\n").split("\n"))


# zipfile and the modules it uses raise these errors for bytes that are not an archive.
_FAILURES = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    LookupError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
)


def _sentence(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
