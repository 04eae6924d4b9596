"""Writes small `.tflite` files with Larq Compute Engine's operators, in the form that its converter gives them.

Needs TensorFlow, for the schema of the format.
"""

import flatbuffers
import numpy as np
from flatbuffers import flexbuffers
from tensorflow.lite.python import schema_py_generated as schema

_TYPES = {
    "float32": schema.TensorType.FLOAT32,
    "int32": schema.TensorType.INT32,
    "int64": schema.TensorType.INT64,
    "int8": schema.TensorType.INT8,
    "uint8": schema.TensorType.UINT8,
    "bool": schema.TensorType.BOOL,
}
SAME, VALID = 0, 1
NONE, RELU, RELU_N1_TO_1, RELU6 = range(4)


def words(channels):
    return (channels + 31) // 32


def pack(signs):
    """Packs +1/-1 along the last axis into int32 words: a set bit means -1, the lowest bit is the first channel."""
    channels = signs.shape[-1]
    bits = np.zeros((*signs.shape[:-1], words(channels) * 32), np.uint8)
    bits[..., :channels] = signs < 0
    return np.packbits(bits, axis=-1, bitorder="little").view("<i4")


class Model:
    """A model with one subgraph, to which tensors and operators are added; `bytes` returns the file."""

    def __init__(self):
        self._model = schema.ModelT()
        self._model.version = 3
        self._model.description = "r2b-runtime test"
        self._model.buffers = [schema.BufferT()]
        self._model.operatorCodes = []
        self._graph = schema.SubGraphT()
        self._graph.tensors, self._graph.operators = [], []
        self._graph.inputs, self._graph.outputs = [], []
        self._model.subgraphs = [self._graph]
        self._codes = {}

    def tensor(self, shape, dtype="float32", value=None, scale=None, zero_point=0, signature=None):
        """Adds a tensor and returns its index.

        With a `value`, the tensor is a constant. `scale` is one number, or one for each index of dimension 0.
        `signature` is the shape with -1 for dynamic dimensions.
        """
        tensor = schema.TensorT()
        tensor.shape, tensor.shapeSignature = list(shape), signature
        tensor.type = _TYPES[dtype]
        tensor.name = f"tensor_{len(self._graph.tensors)}"
        if value is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(value, dtype).tobytes(), np.uint8)
            self._model.buffers.append(buffer)
            tensor.buffer = len(self._model.buffers) - 1
        if scale is not None:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale = [float(number) for number in np.atleast_1d(scale)]
            tensor.quantization.zeroPoint = [int(zero_point)] * len(tensor.quantization.scale)
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1

    def constant(self, value, dtype="float32"):
        value = np.asarray(value, dtype)
        return self.tensor(value.shape, dtype, value)

    def input(self, *args, **kwargs):
        index = self.tensor(*args, **kwargs)
        self._graph.inputs.append(index)
        return index

    def output(self, index):
        self._graph.outputs.append(index)

    def _operator(self, code, inputs, outputs):
        operator = schema.OperatorT()
        operator.opcodeIndex = code
        operator.inputs, operator.outputs = list(inputs), list(outputs)
        self._graph.operators.append(operator)
        return operator

    def _code(self, key, builtin, custom=None, version=1):
        if key not in self._codes:
            code = schema.OperatorCodeT()
            code.builtinCode = builtin
            code.deprecatedBuiltinCode = min(builtin, 127)
            code.customCode = custom
            code.version = version
            self._model.operatorCodes.append(code)
            self._codes[key] = len(self._model.operatorCodes) - 1
        return self._codes[key]

    def custom(self, name, inputs, outputs, options=None):
        operator = self._operator(self._code(name, schema.BuiltinOperator.CUSTOM, name), inputs, outputs)
        operator.customOptionsFormat = 0
        if options is not None:
            data = options if isinstance(options, bytes) else bytes(flexbuffers.Dumps(options))
            operator.customOptions = np.frombuffer(data, np.uint8)

    def builtin(self, name, inputs, outputs, options=None, version=1):
        code = self._code((name, version), getattr(schema.BuiltinOperator, name), version=version)
        operator = self._operator(code, inputs, outputs)
        if options is not None:
            operator.builtinOptions = options
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__[:-1])

    def bconv(self, x, out, filter_signs, multiplier=None, bias=None, thresholds=None, **options):
        """Adds an LceBconv2d; `filter_signs` holds +1/-1, (outputs, height, width, channels of a group).

        `options` replace default settings. With several groups, they must include `channels_in`.
        """
        settings = {
            "channels_in": filter_signs.shape[-1],
            "dilation_height_factor": 1,
            "dilation_width_factor": 1,
            "fused_activation_function": NONE,
            "pad_values": 0,
            "padding": SAME,
            "stride_height": 1,
            "stride_width": 1,
        } | options
        inputs = [x, self.constant(pack(filter_signs), "int32")]
        for value in (multiplier, bias):
            inputs.append(-1 if value is None else self.constant(value))
        inputs.append(-1 if thresholds is None else self.constant(thresholds, "int32"))
        self.custom("LceBconv2d", inputs, [out], settings)

    def signature(self, name, inputs, outputs):
        """Adds a signature; `inputs` and `outputs` map the names that its runner uses to indices of tensors."""
        signature = schema.SignatureDefT()
        signature.signatureKey, signature.inputs, signature.outputs = name, [], []
        for tensors, listed in ((inputs, signature.inputs), (outputs, signature.outputs)):
            for key, index in tensors.items():
                entry = schema.TensorMapT()
                entry.name, entry.tensorIndex = key, index
                listed.append(entry)
        self._model.signatureDefs = [*(self._model.signatureDefs or []), signature]

    def bytes(self):
        builder = flatbuffers.Builder(1024)
        builder.Finish(self._model.Pack(builder), b"TFL3")
        return bytes(builder.Output())
