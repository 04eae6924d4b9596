"""Rewrites the operators of a ``.tflite``, with their tensors and constants, and removes what becomes unused."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Optional, Union

import numpy as np
from tensorflow.lite.python import schema_py_generated as schema

from r2b_zoo.conversion.calibration import Quantisation

_Op = schema.BuiltinOperator

# The version to record for each operator; it tells an interpreter that the operator takes int8.
_VERSIONS = {
    _Op.CONV_2D: 3,
    _Op.DEPTHWISE_CONV_2D: 3,
    # Scales per filter came with version 12. LCE's interpreter refuses version 12, but its kernel supports such scales.
    _Op.FULLY_CONNECTED: 4,
    _Op.QUANTIZE: 1,
    _Op.DEQUANTIZE: 2,
    _Op.MAX_POOL_2D: 2,
    _Op.PAD: 2,
    _Op.RESHAPE: 1,
}


class EditedGraph:
    """The first subgraph of a model, whose operators are rewritten one after the other.

    Attributes:
        replacements: numbers of the added buffers whose constants replace constants of the model.

    Args:
        model: a model as ``flatbuffer_utils`` reads it; it is changed in place, and has its new operators after
            ``finish``.
    """

    def __init__(self, model: Any) -> None:
        self._model, self._graph = model, model.subgraphs[0]
        self._operators: list[Any] = []
        self._origins = {i: i for i in range(len(model.buffers))}
        self.replacements: set[int] = set()

    def keep(self, operator: Any) -> None:
        """Keeps an operator unchanged."""
        self._operators.append(operator)

    def emit(self, code: int, inputs: Sequence[int], outputs: Sequence[int], like: Any = None) -> None:
        """Adds an int8 operator, with the options of the operator ``like``, or else with default options."""
        operator = schema.OperatorT()
        operator.opcodeIndex = self._opcode(code)
        operator.inputs, operator.outputs = np.array(inputs, np.int32), np.array(outputs, np.int32)
        if like is not None:
            operator.builtinOptionsType, operator.builtinOptions = like.builtinOptionsType, like.builtinOptions
        elif code in _OPTIONS:
            operator.builtinOptionsType, make = _OPTIONS[code]
            operator.builtinOptions = make()
        self._operators.append(operator)

    def _opcode(self, code: int) -> int:
        for i, known in enumerate(self._model.operatorCodes):
            if max(known.builtinCode, known.deprecatedBuiltinCode) == code and known.version == _VERSIONS[code]:
                return i
        added = schema.OperatorCodeT()
        added.builtinCode = added.deprecatedBuiltinCode = code
        added.version = _VERSIONS[code]
        self._model.operatorCodes.append(added)
        return len(self._model.operatorCodes) - 1

    def scale_of(self, tensor: int) -> float:
        return float(self._graph.tensors[tensor].quantization.scale[0])

    def add_like(self, tensor: int, quantisation: Quantisation, channels: int = 0) -> int:
        """Adds an int8 tensor with the shape of ``tensor`` and ``channels`` extra channels; returns its number."""
        like = self._graph.tensors[tensor]
        added = np.zeros(len(like.shape), np.int32)
        added[-1] = channels
        found = _tensor(like.shape + added, schema.TensorType.INT8, like.name + b"_int8")
        if like.shapeSignature is not None:
            found.shapeSignature = like.shapeSignature + added
        found.quantization = parameters([quantisation.scale], [quantisation.zero_point])
        return self._add(found)

    def add_constant(self, values: np.ndarray, kind: int, origin: Union[int, bytes], quantisation: Any) -> int:
        """Adds a constant tensor.

        Args:
            values: the values, in the type that ``kind`` says.
            kind: a ``TensorType``.
            origin: number of the tensor that the constant replaces; or the constant's name, if it replaces none.
            quantisation: see ``parameters``.

        Returns:
            The tensor's number.
        """
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(values.tobytes(), np.uint8)
        self._model.buffers.append(buffer)
        number = len(self._model.buffers) - 1
        name = origin
        if isinstance(origin, int):
            name = self._graph.tensors[origin].name
            self._origins[number] = self._origins[self._graph.tensors[origin].buffer]
            self.replacements.add(number)
        found = _tensor(values.shape, kind, name)
        found.buffer, found.quantization = number, quantisation
        return self._add(found)

    def _add(self, tensor: Any) -> int:
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1

    def finish(self) -> tuple[dict[int, int], frozenset[int]]:
        """Puts the new operators into the model, and removes unused tensors, constants and operator codes.

        Returns:
            First, new number of a buffer → original number of this buffer, or of the buffer that it replaces; added
            buffers that replace none are left out. Second, the new numbers of the buffers in ``replacements``.
        """
        self._graph.operators = self._operators
        self._renumber_tensors()
        codes = _renumbered(operator.opcodeIndex for operator in self._operators)
        self._model.operatorCodes = [self._model.operatorCodes[old] for old in codes]
        for operator in self._operators:
            operator.opcodeIndex = codes[operator.opcodeIndex]
        holders = [*self._graph.tensors, *(self._model.metadata or [])]
        buffers = _renumbered([0, *(holder.buffer for holder in holders)])
        self._model.buffers = [self._model.buffers[old] for old in buffers]
        for holder in holders:
            holder.buffer = buffers[holder.buffer]
        origins = {new: self._origins[old] for old, new in buffers.items() if old in self._origins}
        return origins, frozenset(buffers[old] for old in self.replacements if old in buffers)

    def _renumber_tensors(self) -> None:
        graph = self._graph
        used = [*graph.inputs, *graph.outputs]
        for operator in graph.operators:
            used += [*operator.inputs, *operator.outputs]
        tensors = _renumbered(int(tensor) for tensor in used if tensor >= 0)
        for holder in (graph, *graph.operators):
            for name in ("inputs", "outputs"):
                numbers = [tensors.get(int(old), -1) for old in getattr(holder, name)]
                setattr(holder, name, np.array(numbers, np.int32))
        for signature in self._model.signatureDefs or []:
            for entry in (*signature.inputs, *signature.outputs):
                entry.tensorIndex = tensors[entry.tensorIndex]
        graph.tensors = [graph.tensors[old] for old in tensors]


def parameters(scales: Any, zero_points: Optional[Sequence[int]] = None, axis: int = 0) -> Any:
    """TFLite's quantisation of a tensor: one scale, or one per index along an axis; zero points are 0 unless given."""
    found = schema.QuantizationParametersT()
    found.scale = np.array(scales, np.float32)
    found.zeroPoint = np.array(np.zeros(len(found.scale)) if zero_points is None else zero_points, np.int64)
    found.quantizedDimension = axis
    return found


def _tensor(shape: Sequence[int], kind: int, name: Union[int, bytes]) -> Any:
    found = schema.TensorT()
    found.shape, found.type, found.name = np.array(shape, np.int32), kind, name
    found.hasRank = True
    return found


def _of_one_pixel() -> Any:
    """The options of a 1×1 convolution."""
    options = schema.Conv2DOptionsT()
    options.padding, options.strideH, options.strideW = schema.Padding.VALID, 1, 1
    options.dilationHFactor = options.dilationWFactor = 1
    return options


_OPTIONS: dict[int, tuple[int, Callable[[], Any]]] = {
    _Op.QUANTIZE: (schema.BuiltinOptions.QuantizeOptions, schema.QuantizeOptionsT),
    _Op.DEQUANTIZE: (schema.BuiltinOptions.DequantizeOptions, schema.DequantizeOptionsT),
    _Op.CONV_2D: (schema.BuiltinOptions.Conv2DOptions, _of_one_pixel),
}


def _renumbered(numbers: Iterable[int]) -> dict[int, int]:
    """Old number → new number: the old numbers that occur become, in ascending order, 0, 1, 2 …."""
    return {old: new for new, old in enumerate(sorted(set(numbers)))}
