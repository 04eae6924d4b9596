"""Reads those parts of a shared library (an ELF file) for which Android has rules."""

import pathlib
import struct

MACHINES = {183: "arm64-v8a", 40: "armeabi-v7a", 62: "x86_64"}

_LOAD, _DYNAMIC, _TLS, _GNU_STACK = 1, 2, 7, 0x6474E551
_NEEDED, _STRTAB, _SYMTAB, _SONAME, _TEXTREL, _FLAGS, _HASH = 1, 5, 6, 14, 22, 30, 4
_FLAG_TEXTREL, _EXECUTABLE, _CODE_AND_DATA = 4, 1, 3


class Library:
    """Describes a shared library: a little-endian ELF file of 32 or 64 bits that has a DT_HASH table.

    Attributes:
        abi: the processor, as Android names it, or "machine N" if it is none of `MACHINES`.
        name: DT_SONAME, or "" if there is none.
        needed: DT_NEEDED, the file names of the libraries that are loaded with it.
        undefined: the set of symbols that the needed libraries must define.
        exported: the set of symbols that it defines for other libraries.

    Raises `ValueError` if the file is not a little-endian ELF file.
    """

    def __init__(self, path):
        data = pathlib.Path(path).read_bytes()
        if data[:4] != b"\x7fELF" or data[5] != 1:
            raise ValueError(f"a little-endian ELF file starts with 7f454c46..01; {path} starts with {data[:6].hex()}")
        wide = data[4] == 2
        (machine,) = struct.unpack_from("<H", data, 18)
        self.abi = MACHINES.get(machine, f"machine {machine}")
        self._segments = list(_segments(data, wide))
        self._loads = self._of_type(_LOAD)
        entries = list(_entries(data, wide, self._of_type(_DYNAMIC)[0]))
        self._first = dict(reversed(entries))
        text = _texts(data, _place(self._loads, self._first[_STRTAB]))
        self.name = text(self._first[_SONAME]) if _SONAME in self._first else ""
        self.needed = [text(value) for tag, value in entries if tag == _NEEDED]
        (count,) = struct.unpack_from("<I", data, _place(self._loads, self._first[_HASH]) + 4)
        symbols = list(_symbols(data, wide, _place(self._loads, self._first[_SYMTAB]), count))
        self.undefined = {text(name) for name, section in symbols if section == 0 and name}
        self.exported = {text(name) for name, section in symbols if section != 0}

    @property
    def alignments(self):
        """The alignments of the loaded segments, in bytes."""
        return [load["alignment"] for load in self._loads]

    @property
    def text_relocations(self):
        return _TEXTREL in self._first or bool(self._first.get(_FLAGS, 0) & _FLAG_TEXTREL)

    @property
    def writable_code(self):
        return any(load["flags"] & _CODE_AND_DATA == _CODE_AND_DATA for load in self._loads)

    @property
    def executable_stack(self):
        """Whether the stack can be executed; true also if the file does not say."""
        stack = self._of_type(_GNU_STACK)
        return not stack or bool(stack[0]["flags"] & _EXECUTABLE)

    @property
    def thread_local(self):
        """Whether it needs a dynamic linker that supports thread-local variables."""
        return bool(self._of_type(_TLS))

    def _of_type(self, kind):
        return [segment for segment in self._segments if segment["type"] == kind]


def _place(loads, address):
    """The offset in the file of the byte that is loaded at `address`. Raises `ValueError` if there is none."""
    for load in loads:
        if load["address"] <= address < load["address"] + load["size"]:
            return address - load["address"] + load["offset"]
    raise ValueError(f"the library has no content at address {address:#x}")


def _texts(data, table):
    """Returns a function that reads the string at an offset in the string table, which begins at `table`."""
    return lambda offset: data[table + offset : data.index(b"\0", table + offset)].decode()


def _segments(data, wide):
    (table,) = struct.unpack_from("<Q" if wide else "<I", data, 32 if wide else 28)
    size, count = struct.unpack_from("<2H", data, 54 if wide else 42)
    for place in range(table, table + size * count, size):
        if wide:
            kind, flags, offset, address, _, in_file, _, alignment = struct.unpack_from("<2I6Q", data, place)
        else:
            kind, offset, address, _, in_file, _, flags, alignment = struct.unpack_from("<8I", data, place)
        yield {
            "type": kind,
            "flags": flags,
            "offset": offset,
            "address": address,
            "size": in_file,
            "alignment": alignment,
        }


def _entries(data, wide, dynamic):
    form = "<2Q" if wide else "<2I"
    for place in range(dynamic["offset"], dynamic["offset"] + dynamic["size"], struct.calcsize(form)):
        tag, value = struct.unpack_from(form, data, place)
        if tag == 0:
            return
        yield tag, value


def _symbols(data, wide, start, count):
    """Yields each dynamic symbol: its name's offset in the string table, and its section's number (0: undefined)."""
    size, section = (24, 6) if wide else (16, 14)
    for place in range(start, start + count * size, size):
        yield struct.unpack_from("<I", data, place)[0], struct.unpack_from("<H", data, place + section)[0]
