"""Reads a `.tflite` file's operators, sizes, labels and preprocessing, without an interpreter."""

import dataclasses
import math
import os
import stat
from collections.abc import Callable, Sequence
from typing import NamedTuple, Optional, Union

from r2b_runtime import attached_files
from r2b_runtime.attached_files import LABELS_FILE, PREPROCESSING_FILE
from r2b_runtime.flatbuffer import DamagedError, Table, flexbuffer_integers
from r2b_runtime.preprocessing import Preprocessing

_Shape = tuple[int, ...]
ModelPath = Union[str, "os.PathLike[str]"]
ModelBytes = Union[bytes, bytearray, memoryview]
ModelSource = Union[ModelPath, ModelBytes]  # the path of a `.tflite` file, or its contents

# Names of the `.tflite` format's BuiltinOperator values, by number from 0.
_BUILTIN = [
    "ADD",
    "AVERAGE_POOL_2D",
    "CONCATENATION",
    "CONV_2D",
    "DEPTHWISE_CONV_2D",
    "DEPTH_TO_SPACE",
    "DEQUANTIZE",
    "EMBEDDING_LOOKUP",
    "FLOOR",
    "FULLY_CONNECTED",
    "HASHTABLE_LOOKUP",
    "L2_NORMALIZATION",
    "L2_POOL_2D",
    "LOCAL_RESPONSE_NORMALIZATION",
    "LOGISTIC",
    "LSH_PROJECTION",
    "LSTM",
    "MAX_POOL_2D",
    "MUL",
    "RELU",
    "RELU_N1_TO_1",
    "RELU6",
    "RESHAPE",
    "RESIZE_BILINEAR",
    "RNN",
    "SOFTMAX",
    "SPACE_TO_DEPTH",
    "SVDF",
    "TANH",
    "CONCAT_EMBEDDINGS",
    "SKIP_GRAM",
    "CALL",
    "CUSTOM",
    "EMBEDDING_LOOKUP_SPARSE",
    "PAD",
    "UNIDIRECTIONAL_SEQUENCE_RNN",
    "GATHER",
    "BATCH_TO_SPACE_ND",
    "SPACE_TO_BATCH_ND",
    "TRANSPOSE",
    "MEAN",
    "SUB",
    "DIV",
    "SQUEEZE",
    "UNIDIRECTIONAL_SEQUENCE_LSTM",
    "STRIDED_SLICE",
    "BIDIRECTIONAL_SEQUENCE_RNN",
    "EXP",
    "TOPK_V2",
    "SPLIT",
    "LOG_SOFTMAX",
    "DELEGATE",
    "BIDIRECTIONAL_SEQUENCE_LSTM",
    "CAST",
    "PRELU",
    "MAXIMUM",
    "ARG_MAX",
    "MINIMUM",
    "LESS",
    "NEG",
    "PADV2",
    "GREATER",
    "GREATER_EQUAL",
    "LESS_EQUAL",
    "SELECT",
    "SLICE",
    "SIN",
    "TRANSPOSE_CONV",
    "SPARSE_TO_DENSE",
    "TILE",
    "EXPAND_DIMS",
    "EQUAL",
    "NOT_EQUAL",
    "LOG",
    "SUM",
    "SQRT",
    "RSQRT",
    "SHAPE",
    "POW",
    "ARG_MIN",
    "FAKE_QUANT",
    "REDUCE_PROD",
    "REDUCE_MAX",
    "PACK",
    "LOGICAL_OR",
    "ONE_HOT",
    "LOGICAL_AND",
    "LOGICAL_NOT",
    "UNPACK",
    "REDUCE_MIN",
    "FLOOR_DIV",
    "REDUCE_ANY",
    "SQUARE",
    "ZEROS_LIKE",
    "FILL",
    "FLOOR_MOD",
    "RANGE",
    "RESIZE_NEAREST_NEIGHBOR",
    "LEAKY_RELU",
    "SQUARED_DIFFERENCE",
    "MIRROR_PAD",
    "ABS",
    "SPLIT_V",
    "UNIQUE",
    "CEIL",
    "REVERSE_V2",
    "ADD_N",
    "GATHER_ND",
    "COS",
    "WHERE",
    "RANK",
    "ELU",
    "REVERSE_SEQUENCE",
    "MATRIX_DIAG",
    "QUANTIZE",
    "MATRIX_SET_DIAG",
    "ROUND",
    "HARD_SWISH",
    "IF",
    "WHILE",
    "NON_MAX_SUPPRESSION_V4",
    "NON_MAX_SUPPRESSION_V5",
    "SCATTER_ND",
    "SELECT_V2",
    "DENSIFY",
    "SEGMENT_SUM",
    "BATCH_MATMUL",
    "PLACEHOLDER_FOR_GREATER_OP_CODES",
    "CUMSUM",
    "CALL_ONCE",
    "BROADCAST_TO",
    "RFFT2D",
    "CONV_3D",
    "IMAG",
    "REAL",
    "COMPLEX_ABS",
    "HASHTABLE",
    "HASHTABLE_FIND",
    "HASHTABLE_IMPORT",
    "HASHTABLE_SIZE",
    "REDUCE_ALL",
    "CONV_3D_TRANSPOSE",
    "VAR_HANDLE",
    "READ_VARIABLE",
    "ASSIGN_VARIABLE",
    "BROADCAST_ARGS",
    "RANDOM_STANDARD_NORMAL",
    "BUCKETIZE",
    "RANDOM_UNIFORM",
    "MULTINOMIAL",
    "GELU",
    "DYNAMIC_UPDATE_SLICE",
    "RELU_0_TO_1",
    "UNSORTED_SEGMENT_PROD",
    "UNSORTED_SEGMENT_MAX",
    "UNSORTED_SEGMENT_SUM",
    "ATAN2",
    "UNSORTED_SEGMENT_MIN",
    "SIGN",
    "BITCAST",
    "BITWISE_XOR",
    "RIGHT_SHIFT",
]
_CUSTOM = _BUILTIN.index("CUSTOM")
_TYPES = [
    "float32",
    "float16",
    "int32",
    "uint8",
    "int64",
    "string",
    "bool",
    "int16",
    "complex64",
    "int8",
    "float64",
    "complex128",
    "uint64",
    "resource",
    "variant",
    "uint32",
    "uint16",
    "int4",
]


@dataclasses.dataclass(frozen=True)
class Tensor:
    name: str
    shape: tuple[int, ...]
    dtype: str
    bytes: int  # size of a constant in the file; 0 for other tensors
    signature: tuple[int, ...] = ()  # the shape, with -1 where the file leaves a dimension open


@dataclasses.dataclass(frozen=True)
class Operator:
    name: str
    inputs: tuple[Optional[Tensor], ...]  # None for an optional input that is absent
    outputs: tuple[Optional[Tensor], ...]
    options: dict[str, int]  # integer and boolean options of a custom operator

    @property
    def binary(self) -> bool:
        """Whether it is an operator of Larq Compute Engine."""
        return self.name.startswith("Lce")

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one inference, by the shapes in the file; 0 for operators not in `_MACS`."""
        counted = _MACS.get(self.name)
        if counted is None or not self.outputs or len(self.inputs) < 2:
            return 0
        output, weights = self.outputs[0], self.inputs[1]
        if output is None or weights is None or len(weights.shape) != counted.rank:
            return 0
        return counted.macs(self, output.shape, weights.shape)


def _bconv_macs(operator: Operator, output: _Shape, weights: _Shape) -> int:
    filters, height, width, words = weights
    # A word of the filter holds 32 channels. Without groups the last word may hold fewer. With groups all words are
    # full, and channels_in counts the channels of all groups.
    channels = min(32 * words, operator.options.get("channels_in", 32 * words))
    return math.prod(output[:-1]) * filters * height * width * channels  # not output[-1]: it counts words if bit-packed


def _transposed_macs(operator: Operator, output: _Shape, weights: _Shape) -> int:
    image = operator.inputs[2] if len(operator.inputs) > 2 else None
    return math.prod(image.shape) * math.prod(weights[:3]) if image else 0


class _Counted(NamedTuple):
    rank: int  # rank of the weights, which are the second input
    macs: Callable[[Operator, _Shape, _Shape], int]


_MACS = {
    "LceBconv2d": _Counted(4, _bconv_macs),
    "CONV_2D": _Counted(4, lambda _, output, weights: math.prod(output) * math.prod(weights[1:])),
    "DEPTHWISE_CONV_2D": _Counted(4, lambda _, output, weights: math.prod(output) * math.prod(weights[1:3])),
    "FULLY_CONNECTED": _Counted(2, lambda _, output, weights: math.prod(output) * weights[1]),
    "TRANSPOSE_CONV": _Counted(4, _transposed_macs),
}


class ModelFile:
    """Reads a model's bytes.

    Args:
        data: the contents of a `.tflite` file.
        name: the file's name, for messages.

    Attributes:
        operators, inputs, outputs, tensors: those of the first graph, which is the main one.
        description: the text with which the converter describes the model.

    Raises `ValueError` if the bytes are not a complete model.
    """

    def __init__(self, data: bytes, name: str = "the model") -> None:
        self.name, self.data = name, data
        if bytes(data[4:8]) != b"TFL3":
            raise ValueError(f"{name} is not a .tflite file: it has {bytes(data[4:8])!r} at byte 4 instead of b'TFL3'")
        try:
            self._read(Table.root(data))
        except DamagedError as error:
            raise ValueError(f"{name} is damaged or was not copied whole: {error}; convert or copy it again") from None

    def _read(self, model: Table) -> None:
        codes, buffers = model.tables(1), model.tables(4)
        graphs = model.tables(2)
        if not graphs:
            raise DamagedError("it holds no graph")
        self.description = model.text(3)
        self.tensors = [_tensor(table, buffers) for table in graphs[0].tables(0)]
        self.inputs = self._pick(graphs[0].numbers(1, "i"))
        self.outputs = self._pick(graphs[0].numbers(2, "i"))
        names = [_name(code) for code in codes]
        self.operators: list[Operator] = []
        for table in graphs[0].tables(3):
            code = table.scalar(0, "I")
            if code >= len(names):
                raise DamagedError(f"an operator has code {code} of {len(names)}")
            self.operators.append(
                Operator(
                    names[code],
                    self._pick(table.numbers(1, "i")),
                    self._pick(table.numbers(2, "i")),
                    flexbuffer_integers(table.content(5)),
                )
            )

    def _pick(self, indices: Sequence[int]) -> tuple[Optional[Tensor], ...]:
        if any(not -1 <= i < len(self.tensors) for i in indices):
            raise DamagedError(f"the file names tensors {indices} of {len(self.tensors)}")
        return tuple(None if i < 0 else self.tensors[i] for i in indices)

    def labels(self) -> Optional[tuple[str, ...]]:
        """Names of the classes, or None if the file does not have them."""
        text = self._text(LABELS_FILE)
        return None if text is None else attached_files.lines(text)

    def preprocessing(self) -> Optional[Preprocessing]:
        """How to make the input from an image, or None if the file does not say."""
        text = self._text(PREPROCESSING_FILE)
        return None if text is None else Preprocessing.from_json(text)

    def signatures(self) -> dict[str, "Signature"]:
        """Signatures by name. Raises `ValueError` for a file that is damaged."""
        try:
            return {
                table.text(2): Signature(
                    *({one.text(0): one.scalar(1, "I") for one in table.tables(i)} for i in (0, 1))
                )
                for table in Table.root(self.data).tables(7)
            }
        except DamagedError as error:
            raise ValueError(
                f"{self.name} is damaged or was not copied whole: {error}; convert or copy it again"
            ) from None

    def _text(self, name: str) -> Optional[str]:
        """The text of a file in the archive that follows the model, or None if it is missing."""
        try:
            return attached_files.AttachedFiles(self.data).text(name)
        except attached_files.AttachedFileError as error:
            raise ValueError(f"{name} inside {self.name} {error}; convert or copy it again") from None


@dataclasses.dataclass(frozen=True)
class Signature:
    """Tensor numbers of a model's inputs and outputs, by the names that a signature gives them."""

    inputs: dict[str, int]
    outputs: dict[str, int]


def read(model: Union[ModelSource, ModelFile]) -> ModelFile:
    """Reads a `ModelFile` from a path or from bytes; a `ModelFile` is returned unchanged.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a regular file, is empty, cannot be read, or is not a complete model.
    """
    if isinstance(model, ModelFile):
        return model
    if isinstance(model, (bytes, bytearray, memoryview)):
        return ModelFile(bytes(model))
    path = os.fspath(model)
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe might never end
            raise ValueError(f"{path!r} is not a regular file; give the path of a .tflite file")
        with open(path, "rb") as file:
            data = file.read()
        if not data:
            raise ValueError(f"{path!r} is empty; copy or convert it again")
        return ModelFile(data, repr(path))
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no model file {path!r}") from None
    except OSError as error:
        raise ValueError(f"the model file {path!r} cannot be read: {error.strerror or error}") from None


def _tensor(table: Table, buffers: Sequence[Table]) -> Tensor:
    index, dtype = table.scalar(2, "I"), table.scalar(1, "b")
    if index >= len(buffers):
        raise DamagedError(f"a tensor names buffer {index} of {len(buffers)}")
    shape = table.numbers(0, "i")
    if any(size < -1 for size in shape):
        raise DamagedError(f"a tensor has shape {shape}")
    return Tensor(
        table.text(3),
        shape,
        _TYPES[dtype] if 0 <= dtype < len(_TYPES) else f"type {dtype}",
        buffers[index].size(0),
        table.numbers(7, "i") or shape,
    )


def _name(code: Table) -> str:
    builtin = max(code.scalar(0, "b"), code.scalar(3, "i"))  # files from before 2020 have only field 0
    if builtin == _CUSTOM:
        return code.text(1) or "CUSTOM"
    return _BUILTIN[builtin] if 0 <= builtin < len(_BUILTIN) else f"builtin operator {builtin}"
