"""Stores labels and preprocessing inside a ``.tflite``, as TFLite metadata, so that a device needs only one file.

In this format (tensorflow.org/lite/models/convert/metadata), the file's buffer called TFLITE_METADATA holds a
FlatBuffer ``ModelMetadata``, which describes the tensors and names the attached files. A ZIP archive after the model's
own FlatBuffer holds the attached files, so any ZIP program can open the ``.tflite``.
"""

import io
import json
import struct
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

import flatbuffers
import numpy as np
from tensorflow.lite.python import schema_py_generated as schema
from tensorflow.lite.tools import flatbuffer_utils

from r2b_zoo.conversion import attached_files, metadata_schema, tensor_values
from r2b_zoo.conversion.attached_files import LABELS_FILE, PREPROCESSING_FILE, AttachedFileError, AttachedFiles
from r2b_zoo.conversion.file_tensors import FileTensor, input_and_output
from r2b_zoo.data.preprocessing import Preprocessing
from r2b_zoo.system.short_repr import short_repr

BUFFER_NAME = "TFLITE_METADATA"
PREPROCESSING_FORMAT = 1
# Defines Preprocessing.resize in words, so that another implementation can do the same.
RESIZE_RULE = "bicubic, TensorFlow 1 (align_corners=False, half_pixel_centers=False, a=-0.75)"

_MODEL_IDENTIFIER = b"TFL3"
# TFLite reads constants in place with vector instructions, which need this alignment.
_BUFFER_ALIGNMENT = 16
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # fixed, so that the same input gives the same bytes


@dataclass(frozen=True)
class Metadata:
    """The metadata of a ``.tflite``; labels and preprocessing are None if the file does not have them."""

    name: str
    description: str
    labels: Optional[tuple[str, ...]]
    preprocessing: Optional[Preprocessing]

    __repr__ = short_repr


def write(
    tflite: bytes,
    *,
    name: str,
    description: str,
    labels: Optional[Sequence[str]] = None,
    preprocessing: Optional[Preprocessing] = None,
) -> bytes:
    """Adds metadata to a model, in place of any earlier metadata.

    Args:
        tflite: a model with one input; if it has several outputs, the metadata describes the first.
        name: name of the model.
        description: description of the model.
        labels: names of the classes, each one line of text, one per element of the output's last dimension.
        preprocessing: how an image becomes the input.

    Returns:
        The contents of the new file.

    Raises:
        ValueError: there are more or fewer labels than classes, a label is not one line, the preprocessed image
            has another shape than the input or values that the input cannot hold, or the file is damaged.
    """
    taken, given = input_and_output(tflite)
    if labels is not None:
        _check_labels(labels, given.outputs)
    _check_fit(labels, preprocessing, taken, given)
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(tflite))
    files = {}
    if labels is not None:
        files[LABELS_FILE] = "\n".join(labels)
    if preprocessing is not None:
        fields = {"format": PREPROCESSING_FORMAT, "resize": RESIZE_RULE, **preprocessing.to_dict()}
        files[PREPROCESSING_FILE] = json.dumps(fields, indent=2)
    _set_buffer(model, metadata_schema.encode(name, description, taken.shape, labels, preprocessing))
    return _with_files(pack(model, len(tflite)), files)


def without_operators(input_shape: Sequence[int], outputs: int) -> bytes:
    """A ``.tflite`` without operators, on which ``write`` can be tried before there is a converted model.

    Its input is float32 (1, *input_shape), and its output float32 (1, outputs).
    """
    tensors = []
    for shape in ((1, *input_shape), (1, outputs)):
        tensor = schema.TensorT()
        tensor.shape, tensor.type = np.array(shape, np.int32), schema.TensorType.FLOAT32
        tensors.append(tensor)
    graph, model = schema.SubGraphT(), schema.ModelT()
    graph.tensors, graph.operators, graph.inputs, graph.outputs = tensors, [], [0], [1]
    model.version, model.operatorCodes, model.subgraphs, model.buffers = 3, [], [graph], [schema.BufferT()]
    return pack(model, 1 << 10)


class NoMetadataError(ValueError):
    """The file has no metadata."""


def read(tflite: bytes) -> Metadata:
    """The metadata of a file, written by this project or by another.

    Raises:
        NoMetadataError: the file has no metadata.
        ValueError: the file is not a ``.tflite``, or its metadata cannot be read or does not fit its input and output.
    """
    if tflite[4:8] != _MODEL_IDENTIFIER:
        raise ValueError(f"A .tflite has {_MODEL_IDENTIFIER!r} at byte 4; received {tflite[4:8]!r}.")
    try:
        buffer = _find_buffer(tflite)
        described = None if buffer is None else metadata_schema.decode(buffer)
        files = AttachedFiles(tflite)
        tensors = input_and_output(tflite)
    except AttachedFileError as error:
        raise ValueError(f"The .tflite is truncated or altered: its archive {error}.") from error
    except (struct.error, IndexError, OverflowError, TypeError, ValueError) as error:
        raise ValueError(f"The .tflite is truncated or altered: {error}.") from error
    if described is None:
        raise NoMetadataError(
            "The .tflite carries no metadata, so its labels and preprocessing are unknown: "
            "convert the model with r2b_zoo.convert(model, labels=..., preprocessing=...)."
        )
    missing = [name for name in described.files if name not in files.names]
    if missing:
        raise ValueError(f"The .tflite is truncated: its metadata mentions {missing[0]!r}, which is not in it.")
    try:
        names = None if described.labels_file is None else files.text(described.labels_file)
    except AttachedFileError as error:
        raise _damaged(described.labels_file, error) from error
    try:
        prepared = files.text(PREPROCESSING_FILE)
    except AttachedFileError as error:
        raise _damaged(PREPROCESSING_FILE, error) from error
    labels = None if names is None else attached_files.lines(names)
    preprocessing = None if prepared is None else _preprocessing(prepared)
    _check_fit(labels, preprocessing, *tensors)
    return Metadata(described.name, described.description, labels, preprocessing)


def _damaged(name: Optional[str], error: AttachedFileError) -> ValueError:
    return ValueError(f"The .tflite is truncated or altered: {name} inside it {error}.")


def _check_labels(labels: Sequence[str], outputs: int) -> None:
    if isinstance(labels, str):
        raise ValueError(
            f"There must be one label per output of the model ({outputs}); received the single text {labels!r}."
        )
    for i, label in enumerate(labels):
        if not isinstance(label, str) or label.splitlines() != [label]:
            raise ValueError(
                f"A label must be one line of text, because labels.txt has one per line; "
                f"received {label!r} for output {i}."
            )


def _check_fit(
    labels: Optional[Sequence[str]], preprocessing: Optional[Preprocessing], taken: FileTensor, given: FileTensor
) -> None:
    """Raises ValueError if labels or preprocessing do not fit this input and output."""
    outputs = given.shape[-1] if given.shape else 1
    if labels is not None and len(labels) != outputs:
        raise ValueError(f"There must be one label per output of the model ({outputs}); received {len(labels)} labels.")
    if preprocessing is None:
        return
    if preprocessing.input_shape != taken.shape[1:]:
        raise ValueError(
            f"The preprocessing makes images of shape {preprocessing.input_shape}, "
            f"but the file takes {taken.shape[1:]}."
        )
    tensor_values.check_normalisation("the file", taken.dtype, taken.scale, preprocessing.mean, preprocessing.std)


def _preprocessing(text: str) -> Preprocessing:
    try:
        fields = json.loads(text)
        version, rule = fields.pop("format", None), fields.pop("resize", None)
    except (AttributeError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"{PREPROCESSING_FILE} inside the .tflite is damaged: {error}.") from None
    if version != PREPROCESSING_FORMAT or rule != RESIZE_RULE:
        raise ValueError(
            f"{PREPROCESSING_FILE} has format {version!r} and resize {rule!r}; this version of r2b_zoo knows "
            f"format {PREPROCESSING_FORMAT} and resize {RESIZE_RULE!r}. Install a newer r2b_zoo."
        )
    try:
        return Preprocessing.from_dict(fields)
    except ValueError as error:
        raise ValueError(f"{PREPROCESSING_FILE} inside the .tflite is damaged: {error}") from None


def _find_buffer(tflite: bytes) -> Optional[bytes]:
    model = schema.Model.GetRootAs(tflite)
    for i in range(model.MetadataLength()):
        entry = model.Metadata(i)
        if entry.Name() == BUFFER_NAME.encode():
            return bytes(model.Buffers(entry.Buffer()).DataAsNumpy())
    return None


def _set_buffer(model: Any, data: bytes) -> None:
    model.metadata = model.metadata or []
    for entry in model.metadata:
        if entry.name == BUFFER_NAME.encode():
            break
    else:
        entry = schema.MetadataT()
        entry.name, entry.buffer = BUFFER_NAME.encode(), len(model.buffers)
        model.metadata.append(entry)
        model.buffers.append(schema.BufferT())
    model.buffers[entry.buffer].data = np.frombuffer(data, np.uint8)


class _AlignedBuffer(schema.BufferT):
    """A buffer whose data starts at a multiple of 16 bytes; TensorFlow's generated ``BufferT`` does not align data."""

    def Pack(self, builder: flatbuffers.Builder) -> int:  # noqa: N802, the generated code's name
        vector = None if self.data is None else _bytes_vector(builder, bytes(self.data))
        schema.BufferStart(builder)
        if vector is not None:
            schema.BufferAddData(builder, vector)
        return int(schema.BufferEnd(builder))


def _bytes_vector(builder: flatbuffers.Builder, data: bytes) -> int:
    builder.StartVector(1, len(data), _BUFFER_ALIGNMENT)
    builder.head -= len(data)
    builder.Bytes[builder.head : builder.head + len(data)] = data
    return int(builder.EndVector())


def pack(model: Any, size: int) -> bytes:
    """The bytes of a model, with its constants aligned so that interpreters can read them in place.

    Args:
        model: a ``ModelT``, whose buffers are replaced by aligned ones.
        size: estimate of the result's size in bytes, for allocating memory.
    """
    buffers = model.buffers
    model.buffers = []
    for buffer in buffers:
        aligned = _AlignedBuffer()
        aligned.data = buffer.data
        model.buffers.append(aligned)
    builder = flatbuffers.Builder(2 * size)
    builder.Finish(model.Pack(builder), file_identifier=_MODEL_IDENTIFIER)
    return bytes(builder.Output())


def _with_files(tflite: bytes, files: Mapping[str, str]) -> bytes:
    if not files:
        return tflite
    stream = io.BytesIO(tflite)
    with zipfile.ZipFile(stream, "a", zipfile.ZIP_STORED) as archive:
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(name, _ZIP_TIME), text)
    return stream.getvalue()
