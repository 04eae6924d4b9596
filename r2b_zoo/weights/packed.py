"""Packed weights: one bit for each weight of a binary convolution, and 16 bits for every other weight.

A packed file is a ZIP archive with uncompressed members:

    record.json    facts about the network, the layers with the shapes of their arrays in order, a card, and a SHA-256
    bits           the signs of the kernels of binary convolutions, eight to a byte, 1 where a weight is not negative
    scales         float32, the mean magnitude of each filter of these kernels
    values         float16, every other array

Numbers are little-endian, and each kernel starts at a byte boundary. The SHA-256 covers the rest of record.json and
the other members. A filter W is read as sign(W) · mean|W|, which has the signs and the mean magnitude of W. A
network therefore computes the same from this filter as from W, whether its quantiser keeps the scale of a filter
(Martínez et al., ICLR 2020, equation 3) or not.
"""

import contextlib
import hashlib
import io
import json
import math
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

import numpy as np

from r2b_zoo.weights.file import UNREADABLE, Record, WeightsFile

if TYPE_CHECKING:
    import tensorflow as tf

FORMAT = 1
_RECORD, _BITS, _SCALES, _VALUES = "record.json", "bits", "scales", "values"
_MEMBERS = (_RECORD, _BITS, _SCALES, _VALUES)
_SCALE, _VALUE = np.dtype("<f4"), np.dtype("<f2")
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # fixed, so that the same weights give the same bytes
_AXES_OF_A_FILTER = (0, 1, 2)


def content(layers: Iterable["tf.keras.layers.Layer"], record: Record, card: Mapping[str, Any]) -> bytes:
    """The bytes of a packed file with the weights of these layers.

    Args:
        layers: the layers of a network with binary kernels.
        record: the network's record.
        card: the fields of ``WeightsCard`` except ``name``, ``network``, ``arguments`` and ``bytes``, as data that JSON
            can store; ``preprocessing`` is a dictionary.

    Raises:
        ValueError: the layers have no binary kernels, or a value of their other arrays is not finite in float16.
    """
    told, bits, scales, values = [], [], [], []
    for layer in layers:
        arrays = []
        for weight in layer.weights:
            value = np.asarray(weight.numpy(), np.float32)
            is_binary = getattr(layer, "kernel_quantizer", None) is not None and value.ndim == 4
            if is_binary:
                bits.append(np.packbits(value >= 0).tobytes())
                scales.append(np.abs(value).mean(_AXES_OF_A_FILTER, dtype=np.float64).astype(_SCALE).tobytes())
            else:
                values.append(_halved(value, weight.name).tobytes())
            arrays.append([list(value.shape), is_binary])
        if arrays:
            told.append([layer.name, arrays])
    if not bits:
        raise ValueError(
            "Only a network with binary kernels can be packed, and this one has none: save it with "
            "r2b_zoo.weights.save."
        )
    description = {
        "format": FORMAT,
        "network": record.network,
        "precision": record.precision,
        "size": record.size,
        "options": record.options,
        "layers": told,
        "card": dict(card),
    }
    parts = [b"".join(all_) for all_ in (bits, scales, values)]
    description["sha256"] = _digest(description, parts)
    text = json.dumps(description, indent=1, ensure_ascii=False).encode()
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, data in zip(_MEMBERS, [text, *parts], strict=True):
            archive.writestr(zipfile.ZipInfo(name, _ZIP_TIME), data)
    return stream.getvalue()


class PackedWeights:
    """A packed file, read as a whole, with the attributes and the ``arrays`` of ``WeightsFile``.

    Attributes:
        path: path of the file.
        shapes: shapes of the arrays of each layer, by the layer's name.
        numbered: False, since layers have their own names.
        record: the facts that the file records about its network.
        card: the card that is stored with the weights.
        sha256: the SHA-256 of the content, which equals the recorded one.

    Raises:
        ValueError: the file is missing, truncated, altered, not a packed file, or of another version of the format.
    """

    numbered = False

    def __init__(self, path: Any) -> None:
        self.path = path
        try:
            description, self._parts = _members(Path(path))
            version, recorded = description["format"], description.pop("sha256")
            if version == FORMAT:
                self._layers = [
                    (str(name), [(_shape(shape), bool(is_binary)) for shape, is_binary in arrays])
                    for name, arrays in description["layers"]
                ]
                size, self.card = description["size"], _checked_card(description["card"])
                self.record = Record(
                    description["network"],
                    description["precision"],
                    None if size is None else (int(size[0]), int(size[1])),
                    description["options"],
                )
                self.sha256 = _digest(description, self._parts)
                lengths = _lengths(self._layers)
        except UNREADABLE as error:
            raise ValueError(
                f"{path} cannot be read (truncated or altered?): take another copy of the file, or, if it came with "
                "r2b_zoo, reinstall r2b_zoo."
            ) from error
        if version != FORMAT:
            raise ValueError(
                f"{path} is a file of packed weights of format {version!r}, and this version of r2b_zoo knows format "
                f"{FORMAT}: install a newer r2b_zoo."
            )
        if lengths != [len(part) for part in self._parts]:
            raise ValueError(
                f"{path} is damaged: its record describes arrays of other sizes than the file holds. Take another copy "
                "of the file, or, if it came with r2b_zoo, reinstall r2b_zoo."
            )
        if self.sha256 != recorded:
            raise ValueError(
                f"{path} is damaged: its content is not what was written into it (its SHA-256 is {self.sha256}, and "
                f"{recorded} is recorded). Take another copy of the file, or, if it came with r2b_zoo, reinstall "
                "r2b_zoo."
            )
        self.shapes = {name: [shape for shape, _ in arrays] for name, arrays in self._layers}

    def arrays(self) -> dict[str, list[np.ndarray]]:
        """The arrays of each layer, by the layer's name.

        Kernels of binary convolutions are float32, ± the scale of their filter; other arrays are float16.

        Raises:
            ValueError: a value is not finite.
        """
        starts = [0, 0, 0]

        def taken(part: int, count: int, dtype: Any) -> np.ndarray:
            found = np.frombuffer(self._parts[part], dtype, count, starts[part])
            starts[part] += found.nbytes
            return found

        arrays: dict[str, list[np.ndarray]] = {}
        for name, kinds in self._layers:
            arrays[name] = []
            for shape, is_binary in kinds:
                count = math.prod(shape)
                if is_binary:
                    signs = np.unpackbits(taken(0, -(-count // 8), np.uint8), count=count).reshape(shape)
                    scale = taken(1, shape[-1], _SCALE)
                    arrays[name].append(np.where(signs, scale, -scale))
                else:
                    arrays[name].append(taken(2, count, _VALUE).reshape(shape))
            if not all(np.isfinite(array).all() for array in arrays[name]):
                raise ValueError(
                    f"{self.path} holds values that are not finite numbers (NaN or infinite) in layer {name!r}; all "
                    "weights must be finite. Take another copy of the file, or weights from before the training "
                    "diverged."
                )
        return arrays


def opened(path: Any) -> contextlib.AbstractContextManager[Union[WeightsFile, PackedWeights]]:
    """Opens a weights file, packed or not; a packed file is read as a whole, so there is nothing to close.

    Raises:
        ValueError: as ``WeightsFile`` and ``PackedWeights`` raise it.
    """
    return contextlib.nullcontext(PackedWeights(path)) if _is_packed(path) else WeightsFile(path)


def _is_packed(path: Any) -> bool:
    if not zipfile.is_zipfile(path):
        # The directory of an archive is at its end, so a truncated archive has none; recognise it by its start.
        return Path(path).is_file() and _starts_as_packed(Path(path))
    try:
        with zipfile.ZipFile(path) as archive:
            return _RECORD in archive.namelist()
    except UNREADABLE:
        return _starts_as_packed(Path(path))


def _starts_as_packed(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(64)
    return start.startswith(b"PK\x03\x04") and _RECORD.encode() in start


def _members(path: Path) -> tuple[dict[str, Any], list[bytes]]:
    size = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        members = [archive.getinfo(name) for name in _MEMBERS]
        # Members of a packed file are not compressed, so together they are smaller than the file. Refuse a file whose
        # members declare more: reading them could exhaust memory.
        if sum(member.file_size for member in members) > size:
            raise ValueError(size)
        text, *parts = (archive.read(member) for member in members)
    return dict(json.loads(text)), parts


def _digest(description: Mapping[str, Any], parts: Sequence[bytes]) -> str:
    """SHA-256 of the description and the other members."""
    sha = hashlib.sha256(json.dumps(description, sort_keys=True).encode())
    for part in parts:
        sha.update(part)
    return sha.hexdigest()


def _checked_card(card: Any) -> dict[str, Any]:
    """The card as a dictionary. Raises KeyError or TypeError if class names or preprocessing are missing or wrong."""
    if not all(isinstance(name, str) for name in card["class_names"]) or not isinstance(card["preprocessing"], dict):
        raise TypeError(card)
    return dict(card)


def _shape(shape: Sequence[Any]) -> tuple[int, ...]:
    if not all(isinstance(size, int) and size > 0 for size in shape):
        raise ValueError(shape)
    return tuple(shape)


def _lengths(layers: Iterable[tuple[str, Sequence[tuple[tuple[int, ...], bool]]]]) -> list[int]:
    """The sizes in bytes of the members ``bits``, ``scales`` and ``values`` for these arrays."""
    bits = scales = values = 0
    for shape, is_binary in (array for _, arrays in layers for array in arrays):
        if is_binary:
            bits += -(-math.prod(shape) // 8)
            scales += shape[-1] * _SCALE.itemsize
        else:
            values += math.prod(shape) * _VALUE.itemsize
    return [bits, scales, values]


def _halved(value: np.ndarray, name: str) -> np.ndarray:
    with np.errstate(over="ignore"):
        halved = value.astype(_VALUE)
    if not np.isfinite(halved).all():
        raise ValueError(
            f"Packed weights are finite float16 numbers, up to {np.finfo(_VALUE).max:,.0f}; {name} has "
            f"{float(np.abs(value).max()):g}. Write the network with r2b_zoo.weights.save, which keeps float32."
        )
    return halved
