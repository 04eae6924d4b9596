"""The parts of TFLite metadata's FlatBuffer ``ModelMetadata`` that this project writes and reads.

Field numbers and constants are those of the format's schema, version 1.5.0. TensorFlow ships no code for this schema.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Optional, Union

import flatbuffers
import flatbuffers.number_types as number_types
import numpy as np
from flatbuffers.table import Table

from r2b_zoo.conversion.attached_files import LABELS_FILE, PREPROCESSING_FILE
from r2b_zoo.data.preprocessing import Preprocessing

FILE_IDENTIFIER = b"M001"

_MIN_PARSER_VERSION = "1.0.0"


# The following classes give the field numbers of the schema's tables.
class _Model(IntEnum):
    NAME = 0
    DESCRIPTION = 1
    SUBGRAPHS = 3
    FILES = 6
    MIN_PARSER_VERSION = 7


class _Subgraph(IntEnum):
    INPUTS = 2
    OUTPUTS = 3


class _Tensor(IntEnum):
    NAME = 0
    DESCRIPTION = 1
    CONTENT = 3
    PROCESS_UNITS = 4
    FILES = 6


class _Union(IntEnum):
    """``Content`` and ``ProcessUnit``: each holds a union, which takes two fields."""

    TYPE = 0
    VALUE = 1


class _Image(IntEnum):
    COLOUR = 0
    SIZE = 1


class _Size(IntEnum):
    WIDTH = 0
    HEIGHT = 1


class _Normalization(IntEnum):
    MEAN = 0
    STD = 1


class _File(IntEnum):
    NAME = 0
    DESCRIPTION = 1
    TYPE = 2


_FEATURE_PROPERTIES, _IMAGE_PROPERTIES = 1, 2
_NORMALIZATION_OPTIONS = 1
_COLOURS = {3: 1, 1: 2}  # channels → RGB, grey
_DESCRIPTIONS, _TENSOR_AXIS_LABELS = 1, 2

_Fields = Mapping[int, Any]


@dataclass(frozen=True)
class Description:
    """What ``decode`` reads from a ``ModelMetadata``.

    Attributes:
        name: the model's name.
        description: the model's description.
        files: names of the first output's label files and of the files attached to the whole model.
        labels_file: name of the first output's first label file; None if there is none.
    """

    name: str
    description: str
    files: tuple[str, ...]
    labels_file: Optional[str]


def encode(
    name: str,
    description: str,
    input_shape: tuple[int, ...],
    labels: Optional[Sequence[str]],
    preprocessing: Optional[Preprocessing],
) -> bytes:
    """Encodes a ``ModelMetadata`` for a model that computes probabilities from an image, (1, height, width, channels).

    It contains the mean and std of the preprocessing. It only names the attached files, which hold the labels and the
    whole preprocessing.
    """
    image = {
        _Tensor.NAME: "image",
        _Tensor.DESCRIPTION: "Image of shape (1, height, width, channels), normalised: (value in 0-255 - mean) / std.",
        _Tensor.CONTENT: _content(input_shape),
    }
    if preprocessing is not None:
        options = {_Normalization.MEAN: _Floats(preprocessing.mean), _Normalization.STD: _Floats(preprocessing.std)}
        image[_Tensor.PROCESS_UNITS] = [{_Union.TYPE: _Byte(_NORMALIZATION_OPTIONS), _Union.VALUE: options}]
    probabilities = {
        _Tensor.NAME: "probabilities",
        _Tensor.DESCRIPTION: "Probability of each class.",
        _Tensor.CONTENT: {_Union.TYPE: _Byte(_FEATURE_PROPERTIES), _Union.VALUE: {}},
    }
    if labels is not None:
        probabilities[_Tensor.FILES] = [_file(LABELS_FILE, "Name of each class.", _TENSOR_AXIS_LABELS)]
    root: dict[int, Any] = {
        _Model.NAME: name,
        _Model.DESCRIPTION: description,
        _Model.SUBGRAPHS: [{_Subgraph.INPUTS: [image], _Subgraph.OUTPUTS: [probabilities]}],
        _Model.MIN_PARSER_VERSION: _MIN_PARSER_VERSION,
    }
    if preprocessing is not None:
        root[_Model.FILES] = [_file(PREPROCESSING_FILE, "How an image becomes the input.", _DESCRIPTIONS)]
    builder = flatbuffers.Builder(1024)
    builder.Finish(_write(builder, root), file_identifier=FILE_IDENTIFIER)
    return bytes(builder.Output())


def decode(buffer: bytes) -> Description:
    """Reads a ``ModelMetadata``. Raises ValueError if the buffer is not one."""
    if buffer[4:8] != FILE_IDENTIFIER:
        raise ValueError(f"TFLite metadata has {FILE_IDENTIFIER!r} at byte 4; received {buffer[4:8]!r}.")
    root = _Reader.root(buffer)
    outputs = [tensor for graph in root.tables(_Model.SUBGRAPHS)[:1] for tensor in graph.tables(_Subgraph.OUTPUTS)[:1]]
    labels = [
        file.string(_File.NAME)
        for tensor in outputs
        for file in tensor.tables(_Tensor.FILES)
        if file.byte(_File.TYPE) == _TENSOR_AXIS_LABELS
    ]
    return Description(
        name=root.string(_Model.NAME),
        description=root.string(_Model.DESCRIPTION),
        files=(*labels, *(file.string(_File.NAME) for file in root.tables(_Model.FILES))),
        labels_file=labels[0] if labels else None,
    )


def _content(shape: tuple[int, ...]) -> _Fields:
    if len(shape) != 4 or shape[-1] not in _COLOURS:
        return {_Union.TYPE: _Byte(_FEATURE_PROPERTIES), _Union.VALUE: {}}
    size = {_Size.WIDTH: _UInt(shape[2]), _Size.HEIGHT: _UInt(shape[1])}
    image = {_Image.COLOUR: _Byte(_COLOURS[shape[-1]]), _Image.SIZE: size}
    return {_Union.TYPE: _Byte(_IMAGE_PROPERTIES), _Union.VALUE: image}


def _file(name: str, description: str, kind: int) -> _Fields:
    return {_File.NAME: name, _File.DESCRIPTION: description, _File.TYPE: _Byte(kind)}


class _Byte(int):
    pass


class _UInt(int):
    pass


class _Floats(tuple[float, ...]):
    __slots__ = ()


def _write(builder: flatbuffers.Builder, value: Union[str, _Floats, _Fields, Sequence[_Fields]]) -> int:
    """Writes a text, a vector of floats, a table (by field number) or a vector of tables; returns its offset."""
    if isinstance(value, str):
        return int(builder.CreateString(value))
    if isinstance(value, _Floats):
        return int(builder.CreateNumpyVector(np.array(value, np.float32)))
    if isinstance(value, Mapping):
        # FlatBuffers are written bottom-up: the objects that a table points to must be written before the table.
        fields = {i: field if isinstance(field, int) else _write(builder, field) for i, field in value.items()}
        builder.StartObject(max(value, default=-1) + 1)
        for i, field in fields.items():
            if isinstance(value[i], _Byte):
                builder.PrependUint8Slot(i, field, 0)
            elif isinstance(value[i], _UInt):
                builder.PrependUint32Slot(i, field, 0)
            else:
                builder.PrependUOffsetTRelativeSlot(i, field, 0)
        return int(builder.EndObject())
    offsets = [_write(builder, item) for item in value]
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())


@dataclass(frozen=True)
class _Reader:
    """Reads the fields of a FlatBuffers table by number."""

    table: Table

    @classmethod
    def root(cls, buffer: bytes) -> "_Reader":
        return cls(Table(buffer, flatbuffers.encode.Get(flatbuffers.packer.uoffset, buffer, 0)))

    def _position(self, field: int) -> int:
        """Position of a field in the buffer, 0 if it is absent. The vtable starts with two lengths of 2 bytes each."""
        offset = self.table.Offset(4 + 2 * field)
        return self.table.Pos + offset if offset else 0

    def string(self, field: int) -> str:
        position = self._position(field)
        return self.table.String(position).decode() if position else ""

    def byte(self, field: int) -> int:
        position = self._position(field)
        return int(self.table.Get(number_types.Uint8Flags, position)) if position else 0

    def tables(self, field: int) -> list["_Reader"]:
        position = self._position(field)
        if not position:
            return []
        relative = position - self.table.Pos
        start = self.table.Vector(relative)
        return [
            _Reader(Table(self.table.Bytes, self.table.Indirect(start + 4 * i)))
            for i in range(self.table.VectorLen(relative))
        ]
