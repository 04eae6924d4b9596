"""The parts of FlatBuffers and FlexBuffers that reading a model file needs; every read stays inside the file."""

import struct
from typing import Optional


class DamagedError(ValueError):
    """The file is damaged: for example, an offset or a length points outside it."""


class Table:
    """A FlatBuffers table, whose fields are read by number.

    An absent scalar has the default, an absent table is None, and an absent vector or text is empty. The argument
    `code` is the type of a number, as a format character of the module `struct`.
    """

    def __init__(self, data: bytes, at: int) -> None:
        self._data, self._at = data, at
        self._fields = at - _read(data, "<i", at)
        self._size = _read(data, "<H", self._fields)

    @classmethod
    def root(cls, data: bytes) -> "Table":
        return cls(data, _read(data, "<I", 0))

    def scalar(self, field: int, code: str, default: int = 0) -> int:
        at = self._field(field)
        return default if at is None else _read(self._data, "<" + code, at)

    def table(self, field: int) -> Optional["Table"]:
        at = self._field(field)
        return None if at is None else Table(self._data, _follow(self._data, at))

    def text(self, field: int) -> str:
        return self.content(field).decode("utf-8", "replace")

    def content(self, field: int) -> bytes:
        start, count = self._vector(field, 1)
        return self._data[start : start + count]

    def numbers(self, field: int, code: str) -> tuple[int, ...]:
        start, count = self._vector(field, struct.calcsize("<" + code))
        return struct.unpack_from(f"<{count}{code}", self._data, start)

    def tables(self, field: int) -> list["Table"]:
        start, count = self._vector(field, 4)
        return [Table(self._data, _follow(self._data, start + 4 * i)) for i in range(count)]

    def size(self, field: int) -> int:
        """Number of bytes in a vector of bytes, without reading them."""
        return self._vector(field, 1)[1]

    def _field(self, field: int) -> Optional[int]:
        entry = 4 + 2 * field
        offset = _read(self._data, "<H", self._fields + entry) if entry + 2 <= self._size else 0
        return self._at + offset if offset else None

    def _vector(self, field: int, item: int) -> tuple[int, int]:
        at = self._field(field)
        if at is None:
            return 0, 0
        start = _follow(self._data, at)
        count = _read(self._data, "<I", start)
        if start + 4 + count * item > len(self._data):
            raise DamagedError(f"a vector of {count} elements at byte {start} ends outside the file")
        return start + 4, count


def flexbuffer_integers(data: bytes) -> dict[str, int]:
    """The integers and booleans among the first 256 entries of a FlexBuffers map; {} if it is damaged or not a map."""
    try:
        width, kind = data[-1], data[-2]
        at = len(data) - 2 - width
        if kind >> 2 != 9:
            return {}
        at, width = at - _unsigned(data, at, width), 1 << (kind & 3)
        count, key_width = _unsigned(data, at - width, width), _unsigned(data, at - 2 * width, width)
        keys = at - 3 * width - _unsigned(data, at - 3 * width, width)
        result = {}
        for i in range(min(count, 256)):
            kind = data[at + count * width + i] >> 2
            key = keys + i * key_width - _unsigned(data, keys + i * key_width, key_width)
            name = data[key : data.index(b"\0", key)].decode("ascii", "replace")
            if kind in (1, 2, 26):  # signed, unsigned, boolean
                result[name] = int.from_bytes(data[at + i * width : at + (i + 1) * width], "little", signed=kind == 1)
        return result
    except (IndexError, ValueError):
        return {}


def _unsigned(data: bytes, at: int, width: int) -> int:
    if not 0 <= at <= len(data) - width:
        raise DamagedError(f"an offset leads to byte {at} of {len(data)}")
    return int.from_bytes(data[at : at + width], "little")


def _read(data: bytes, code: str, at: int) -> int:
    if not 0 <= at <= len(data) - struct.calcsize(code):
        raise DamagedError(f"an offset leads to byte {at} of {len(data)}")
    return struct.unpack_from(code, data, at)[0]


def _follow(data: bytes, at: int) -> int:
    return at + _read(data, "<I", at)
