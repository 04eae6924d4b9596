"""The input and the output of a ``.tflite``: their shapes, types and quantisation."""

import math
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from tensorflow.lite.python import schema_py_generated as schema

from r2b_zoo.conversion import tensor_values

_TYPES = {
    getattr(schema.TensorType, name.upper()): name
    for name in (
        "float32",
        "float16",
        "float64",
        "int8",
        "uint8",
        "int16",
        "uint16",
        "int32",
        "uint32",
        "int64",
        "bool",
    )
}


@dataclass(frozen=True)
class FileTensor:
    """The input or the output of a file.

    Attributes:
        shape: with the batch dimension first.
        dtype: NumPy's name of the type; "object" for a type that is not in ``_TYPES``.
        scale: scale of its quantisation; 0 if it is not quantised, NaN if it has several scales.
        zero_point: zero point of its quantisation.
    """

    shape: tuple[int, ...]
    dtype: str
    scale: float
    zero_point: int

    @property
    def outputs(self) -> int:
        """The number of classes, if this is an output."""
        return self.shape[-1] if self.shape else 1

    def stored(self, values: np.ndarray) -> np.ndarray:
        """Real numbers as this input stores them: in its type, and quantised if the input is."""
        return tensor_values.stored(values, self.dtype, self.scale, self.zero_point)

    def real(self, values: np.ndarray) -> np.ndarray:
        """This output's stored numbers as real numbers, float32."""
        return tensor_values.real(values, self.scale, self.zero_point)


def input_and_output(tflite: bytes) -> tuple[FileTensor, FileTensor]:
    """The input and the output of a file; the first of each where it has several.

    Raises:
        ValueError: the file has no input or output, or is truncated or altered.
    """
    try:
        graph = schema.Model.GetRootAs(tflite).Subgraphs(0)
        if not graph.InputsLength() or not graph.OutputsLength():
            raise ValueError("it has no input or no output")
        return _tensor(graph.Tensors(graph.Inputs(0))), _tensor(graph.Tensors(graph.Outputs(0)))
    except (AttributeError, IndexError, OverflowError, TypeError, struct.error) as error:
        raise ValueError(f"it is truncated or altered ({error})") from error


def check(tflite: bytes) -> tuple[FileTensor, FileTensor]:
    """Input and output of a file. Raises ValueError if they cannot be an image and the probabilities of classes."""
    found = input_and_output(tflite)
    for tensor, is_input in zip(found, (True, False), strict=True):
        tensor_values.check("the file", tensor.dtype, tensor.scale, is_input)
    return found


def _tensor(tensor: Any) -> FileTensor:
    quantisation = tensor.Quantization()
    scales = [] if quantisation is None else [quantisation.Scale(i) for i in range(quantisation.ScaleLength())]
    zeros = [] if quantisation is None else [quantisation.ZeroPoint(i) for i in range(quantisation.ZeroPointLength())]
    return FileTensor(
        tuple(tensor.Shape(i) for i in range(tensor.ShapeLength())),
        _TYPES.get(tensor.Type(), "object"),
        # NaN stands for several scales, which only weights may have; ``check`` refuses it.
        scales[0] if len(scales) == 1 else math.nan if scales else 0.0,
        int(zeros[0]) if len(zeros) == 1 else 0,
    )
