"""Reports for each Keras layer whether it is binary, int8 or float in a ``.tflite``, why, and how many bytes it takes.

A layer counts as binary only if the file has an ``LceBconv2d`` with exactly this layer's bits; a filter may be negated
where a negative factor follows. The converter merges the names of tensors and cuts them off after 50 characters. Names
are therefore used only where values cannot decide: between layers with equal bits, and for constants that are not
kernels.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Optional

import larq as lq
import numpy as np
import tensorflow as tf
from tensorflow.lite.python import schema_py_generated as schema
from tensorflow.lite.tools import flatbuffer_utils

from r2b_zoo.conversion.int8 import Rewritten
from r2b_zoo.system.short_repr import short_repr

Kind = Literal["binary", "int8", "float", "graph"]
REST = "(graph and metadata)"

_BINARY_CONVOLUTION = "LceBconv2d"
_LCE_PREFIX = "Lce"
_WORD_BITS = 32
_QUANTIZERS = ("input_quantizer", "kernel_quantizer", "depthwise_quantizer", "pointwise_quantizer")
# Two kernels are the same up to a factor per filter if the cosine between corresponding filters is at least this. Int8
# rounding leaves the cosine above this limit; for filters of different layers it is far lower.
_SAME_DIRECTION = 0.999
# Filters with fewer values are not compared, because different filters may have the same direction by chance.
_SHORTEST_FILTER = 4
_WEIGHTS = "calibrated: 8-bit weights with a scale per filter"
_BIAS = "folded into an int8 layer, whose bias has 32 bits"


@dataclass(frozen=True)
class LayerReport:
    """One row of the table.

    Attributes:
        name: the layer's name after the names of the models that contain it ("encoder/conv"); ``REST`` in the last row.
        kind: "binary", "int8" or "float"; "graph" in the last row.
        reason: why the layer is of this kind, in plain words; in the last row, what it counts.
        bytes: size of the layer's constants in the file; in the last row, all other bytes of the file.
        quantized: whether the layer has a quantiser.
    """

    name: str
    kind: Kind
    reason: str
    bytes: int
    quantized: bool = False

    __repr__ = short_repr


@dataclass(frozen=True, eq=False)
class _Leaf:
    """A layer that owns variables or quantisers. ``weights`` has its variables' values, as its quantisers give them."""

    path: str
    layer: tf.keras.layers.Layer
    weights: tuple[np.ndarray, ...]
    quantizers: Mapping[str, Any]


@dataclass(frozen=True)
class _Constant:
    buffer: int
    name: str
    type: int
    shape: tuple[int, ...]
    data: np.ndarray  # uint8

    def array(self) -> Optional[np.ndarray]:
        """The stored float32 or int8 numbers as float32; None for any other type."""
        if self.type == schema.TensorType.FLOAT32:
            return self.data.view(np.float32).reshape(self.shape)
        if self.type == schema.TensorType.INT8:
            return self.data.view(np.int8).astype(np.float32).reshape(self.shape)
        return None


@dataclass(frozen=True)
class _Operator:
    name: str
    custom: bool
    output: str
    constants: tuple[Optional[_Constant], ...]
    """One per input; None where the input is computed or missing."""

    @property
    def inputs_that_are_constants(self) -> list[_Constant]:
        return [constant for constant in self.constants if constant is not None]


def layer_table(model: tf.keras.Model, tflite: bytes, rewritten: Optional[Rewritten] = None) -> tuple[LayerReport, ...]:
    """Reports what became of a model's layers in the file that the model was converted to.

    Args:
        model: the Keras model.
        tflite: contents of the file.
        rewritten: the result of ``int8.quantise``, if layers of the file were rewritten in int8. Layers are then
            recognised in the float file (``rewritten.source``), because int8 weights may include the normalisation of
            the image.

    Returns:
        One row per layer that has variables or quantisers, in the model's order, and a last row for everything in the
        file that belongs to no layer. The bytes of all rows add up to the size of the file.
    """
    leaves = list(_leaves(model))
    operators = list(_operators(tflite if rewritten is None else rewritten.source))
    binary, filters = _match_binary(leaves, operators, model.name)
    owners = _owners(leaves, operators, filters, model.name)

    sizes = dict.fromkeys(leaves, 0)
    in_int8: dict[_Leaf, str] = {}
    for leaf, size, form in _constants_of_layers(owners, tflite, rewritten):
        sizes[leaf] += size
        if form:
            in_int8.setdefault(leaf, form)
    rows = []
    for leaf in leaves:
        kind: Kind = "int8" if leaf in in_int8 else "float"
        if leaf in binary:
            kind, reason = "binary", "LceBconv2d with this layer's bits" + _negated(binary[leaf]) + _caveat(leaf.layer)
        elif leaf.quantizers:
            reason = _why_not_binary(leaf)
        elif kind == "int8":
            reason = in_int8[leaf]
        else:
            reason = "not quantised" if sizes[leaf] else "folded into the operators around it"
        rows.append(LayerReport(leaf.path, kind, reason, sizes[leaf], quantized=bool(leaf.quantizers)))
    rest = len(tflite) - sum(sizes.values())
    return (*rows, LayerReport(REST, "graph", "operators, shapes, names, labels, preprocessing", rest))


def _constants_of_layers(
    owners: "Mapping[int, tuple[_Constant, _Leaf]]", tflite: bytes, rewritten: Optional[Rewritten]
) -> Iterator[tuple[_Leaf, int, str]]:
    """For each constant of a layer: the layer, the constant's bytes in the file, and its int8 form in words, or ""."""
    if rewritten is None:
        for constant, leaf in owners.values():
            form = "8-bit weights" if constant.type == schema.TensorType.INT8 else ""
            yield leaf, constant.data.nbytes, form
        return
    buffers = flatbuffer_utils.read_model_from_bytearray(bytearray(tflite)).buffers
    for buffer, origin in rewritten.origins.items():
        if origin in owners:
            constant, leaf = owners[origin]
            form = _WEIGHTS if len(constant.shape) > 1 else _BIAS
            yield leaf, len(buffers[buffer].data), form if buffer in rewritten.replaced else ""


def _negated(filters: int) -> str:
    if not filters:
        return ""
    return f"; {filters} filter{'s' if filters > 1 else ''} negated, for the negative factor that follows"


def _caveat(layer: tf.keras.layers.Layer) -> str:
    """A note for layers that LCE 0.16's optimised kernels compute wrongly; "" for all others.

    These kernels correct zero padding for each border separately, which is wrong where two borders overlap.
    """
    shape = getattr(layer, "input_shape", None)  # a layer inside another layer has none
    if shape is None or layer.padding != "same" or layer.pad_values != 0:
        return ""
    if all(size >= kernel for size, kernel in zip(shape[1:3], layer.kernel_size, strict=True)):
        return ""
    return (
        "; its input is smaller than its kernel, for which LCE's optimised kernels are wrong and its reference kernels "
        "right"
    )


def why_unrunnable(tflite: bytes) -> Optional[str]:
    """Says why no engine can run a file of LCE's converter, and what to change; None if an engine can.

    The converter writes a TensorFlow operator that it cannot translate as a custom operator of the same name. It also
    folds constant factors of any shape into a binary convolution, but the kernels accept only one factor per channel.
    """
    operators = list(_operators(tflite))
    unknown = sorted({op.name for op in operators if op.custom and not op.name.startswith(_LCE_PREFIX)})
    if unknown:
        return f"TFLite has no operator {', '.join(unknown)}: replace it with others, or leave it out of the model"
    for operator in operators:
        if operator.name != _BINARY_CONVOLUTION:
            continue
        kernel, *factors = operator.constants[1:4]
        for factor in factors:
            if kernel is not None and factor is not None and factor.shape != kernel.shape[:1]:
                return (
                    f"a factor of shape {factor.shape} was folded into the binary convolution before "
                    f"{operator.output!r}, whose kernels take one factor per channel: "
                    "put a tf.reshape between the convolution and a factor that depends on the position"
                )
    return None


def pack_signs(kernel: np.ndarray) -> bytes:
    """Packs the signs of a kernel (height, width, in, out) as in the filter of an ``LceBconv2d``.

    The result holds 32-bit words of shape (out, height, width, ⌈in / 32⌉).

    A bit is 1 where the value is negative. The lowest bit of a word is its first channel. Bits beyond the last channel
    are 0.
    """
    bits = np.moveaxis(kernel < 0, -1, 0)
    bits = np.pad(bits, [(0, 0), (0, 0), (0, 0), (0, -bits.shape[-1] % _WORD_BITS)])
    return np.packbits(bits, axis=-1, bitorder="little").tobytes()


def _leaves(model: tf.keras.Model) -> Iterator[_Leaf]:
    seen: set[int] = set()
    for path, layer in _walk(model, ""):
        quantizers = _quantizers(layer)
        if id(layer) in seen or not (layer.weights or quantizers):
            continue
        seen.add(id(layer))
        with lq.context.quantized_scope(True):
            weights = tuple(np.asarray(tf.convert_to_tensor(weight)) for weight in _own_weights(layer))
        yield _Leaf(path, layer, weights, quantizers)


def _walk(layer: tf.keras.layers.Layer, path: str) -> Iterator[tuple[str, tf.keras.layers.Layer]]:
    """Yields each layer that owns variables, with its path; inner layers come before the layer that contains them.

    A layer owns those of its variables that no layer inside it has. A layer that has quantisers but no inner layers
    with variables is included too.
    """
    if isinstance(layer, tf.keras.Model):
        for inner in layer.layers:
            yield from _walk(inner, f"{path}/{inner.name}".lstrip("/"))
        return
    inside = _inner_layers_with_weights(layer)
    for inner in inside:
        if _own_weights(inner):
            yield f"{path}/{inner.name}", inner
    if _own_weights(layer) or (_quantizers(layer) and not inside):
        yield path, layer


def _own_weights(layer: tf.keras.layers.Layer) -> list[tf.Variable]:
    """The layer's variables that no layer inside it has."""
    held = {id(weight) for inner in _inner_layers_with_weights(layer) for weight in inner.weights}
    return [weight for weight in layer.weights if id(weight) not in held]


def _inner_layers_with_weights(layer: tf.keras.layers.Layer) -> list[tf.keras.layers.Layer]:
    return [inner for inner in layer.submodules if isinstance(inner, tf.keras.layers.Layer) and inner.weights]


def _quantizers(layer: tf.keras.layers.Layer) -> dict[str, Any]:
    found = {name: getattr(layer, name, None) for name in _QUANTIZERS}
    return {name: quantizer for name, quantizer in found.items() if _quantizes(quantizer)}


def _quantizes(function: Any) -> bool:
    """Whether this is a quantiser and not, for example, the tanh that takes a quantiser's place in a real network."""
    if function is None or isinstance(function, lq.quantizers.NoOp):
        return False
    return getattr(function, "precision", None) is not None or _levels(function).size <= 2


def _levels(function: Any) -> np.ndarray:
    return np.unique(np.asarray(function(tf.linspace([-2.0], [2.0], 64))))


def _operators(tflite: bytes) -> Iterator[_Operator]:
    file = flatbuffer_utils.read_model_from_bytearray(bytearray(tflite))
    for graph in file.subgraphs:
        for operator in graph.operators:
            custom = file.operatorCodes[operator.opcodeIndex].customCode
            name = custom.decode() if custom else flatbuffer_utils.opcode_to_name(file, operator.opcodeIndex)
            constants = tuple(_constant(file, graph, index) for index in operator.inputs)
            yield _Operator(name, bool(custom), graph.tensors[operator.outputs[0]].name.decode(), constants)


def _constant(file: Any, graph: Any, index: int) -> Optional[_Constant]:
    if index < 0:
        return None
    tensor = graph.tensors[index]
    data = file.buffers[tensor.buffer].data
    if data is None or len(data) == 0:
        return None
    shape = () if tensor.shape is None else tuple(int(size) for size in tensor.shape)
    return _Constant(tensor.buffer, tensor.name.decode(), tensor.type, shape, np.asarray(data, np.uint8))


def _match_binary(
    leaves: Sequence[_Leaf], operators: Sequence[_Operator], model_name: str
) -> tuple[dict[_Leaf, int], dict[int, _Leaf]]:
    """Matches the layers with the ``LceBconv2d`` operators.

    Each operator accounts for one layer: if two layers have the same bits and only one operator has them, only one of
    the layers is binary.

    A bit-packed output is the result of a comparison with a threshold, in one direction for all channels. If a channel
    has a negative factor, LCE's converter therefore negates the channel's filter.

    Returns:
        Each binary layer → how many of its filters are negated; and number of a binary kernel's buffer → its layer.
    """
    # If nothing else distinguishes two layers, prefer the layer that binarises its own input.
    with_kernel = sorted(filter(_has_binary_kernel, leaves), key=lambda leaf: "input_quantizer" not in leaf.quantizers)
    packed = {leaf: _Filters.of(leaf.weights[0]) for leaf in with_kernel}
    binary: dict[_Leaf, int] = {}
    buffers: dict[int, _Leaf] = {}
    remaining = [operator for operator in operators if operator.name == _BINARY_CONVOLUTION]
    # First match operators by name and bits, then the remaining operators by bits alone; each time, match equal bits
    # before negated bits.
    for by_name, by_sign in ((True, False), (True, True), (False, False), (False, True)):
        unnamed = []
        for operator in remaining:
            kernel = operator.constants[1]
            left = [leaf for leaf in packed if leaf not in binary]
            if by_name:
                left = [leaf for leaf in left if _names(operator.output, leaf, model_name)]
            found = None if kernel is None else _with_filters(kernel.data, left, packed, by_sign)
            if kernel is None or found is None:
                unnamed.append(operator)
                continue
            leaf, binary[leaf] = found
            buffers.setdefault(kernel.buffer, leaf)
        remaining = unnamed
    return binary, buffers


def _with_filters(
    data: np.ndarray, leaves: Sequence[_Leaf], packed: "Mapping[_Leaf, _Filters]", by_sign: bool
) -> Optional[tuple[_Leaf, int]]:
    """The first layer with these filters, and how many are negated (0 unless ``by_sign``); None if there is none."""
    for leaf in leaves:
        negated = packed[leaf].negated_in(data)
        if negated == 0 or (by_sign and negated is not None):
            return leaf, negated
    return None


@dataclass(frozen=True)
class _Filters:
    """A kernel's packed bits, and a mask of the bits that are not padding; both uint8 with a row per filter."""

    bits: np.ndarray
    used: np.ndarray

    @classmethod
    def of(cls, kernel: np.ndarray) -> "_Filters":
        filters = kernel.shape[-1]
        bits, used = (
            np.frombuffer(pack_signs(array), np.uint8).reshape(filters, -1) for array in (kernel, -np.ones_like(kernel))
        )
        return cls(bits, used)

    def negated_in(self, data: np.ndarray) -> Optional[int]:
        """How many of these filters are negated in a constant's bytes; None if the constant has other filters."""
        if data.size != self.bits.size:
            return None
        change = data.reshape(self.bits.shape) ^ self.bits
        negated = change[:, 0] != 0
        if not np.array_equal(change, self.used * negated[:, np.newaxis]):
            return None
        return int(negated.sum())


def _has_binary_kernel(leaf: _Leaf) -> bool:
    """Whether the layer is a QuantConv2D whose quantised kernel has a single magnitude within each filter."""
    if not isinstance(leaf.layer, lq.layers.QuantConv2D) or "kernel_quantizer" not in leaf.quantizers:
        return False
    magnitudes = np.abs(leaf.weights[0]).reshape(-1, leaf.weights[0].shape[-1])
    return bool(np.allclose(magnitudes, magnitudes[:1], rtol=1e-5, atol=0))


def _why_not_binary(leaf: _Leaf) -> str:
    layer, kind = leaf.layer, type(leaf.layer).__name__
    if isinstance(layer, lq.layers.QuantDense):
        return "dense layers have no binary kernel in LCE: use a 1×1 convolution"
    if not isinstance(layer, lq.layers.QuantConv2D):
        return f"{kind} has no binary kernel in LCE, only QuantConv2D has"
    if "input_quantizer" not in leaf.quantizers:
        return "no input quantiser: real activations"
    if "kernel_quantizer" not in leaf.quantizers:
        return "no kernel quantiser: the kernel is real"
    if not np.array_equal(_levels(layer.input_quantizer), (-1, 1)):
        return f"the input quantiser {_name(layer.input_quantizer)} gives other values than -1 and +1"
    if not _has_binary_kernel(leaf):
        return f"the kernel quantiser {_name(layer.kernel_quantizer)} gives other values than a scale and its negative"
    channels = leaf.weights[0].shape[2]
    if layer.groups > 1 and channels % _WORD_BITS:
        return f"groups of {channels} channels: LCE needs a multiple of {_WORD_BITS}"
    if layer.padding == "same" and layer.pad_values not in (0.0, 1.0):
        return f"padding with {layer.pad_values}: LCE pads with 0 or 1"
    return "LCE's converter did not recognise it: is there another operator between the sign and the convolution?"


def _name(quantizer: Any) -> str:
    return getattr(quantizer, "__name__", type(quantizer).__name__)


def _owners(
    leaves: Sequence[_Leaf], operators: Sequence[_Operator], filters: Mapping[int, _Leaf], model_name: str
) -> dict[int, tuple[_Constant, _Leaf]]:
    """Buffer → its constant and the layer it belongs to. A buffer that several layers share belongs to the first."""
    with_weights = [leaf for leaf in leaves if leaf.weights]
    constants = [constant for operator in operators for constant in operator.inputs_that_are_constants]
    owners = _owners_by_numbers(constants, filters, with_weights)
    # Match other constants by name, else by the name of the operator's output. Else they belong to the layer of a
    # constant that is already matched and that the same operator reads.
    for operator in operators:
        constants = operator.inputs_that_are_constants
        beside = [owners[constant.buffer][1] for constant in constants if constant.buffer in owners]
        for constant in constants:
            if constant.buffer not in owners:
                named = _named((constant.name, operator.output), with_weights, model_name)
                if named or beside:
                    owners[constant.buffer] = constant, (named or beside)[0]
    return owners


def _owners_by_numbers(
    constants: Sequence[_Constant], filters: Mapping[int, _Leaf], leaves: Sequence[_Leaf]
) -> dict[int, tuple[_Constant, _Leaf]]:
    """Buffer → its constant and layer, only for kernels, which are recognised by their values."""
    owners: dict[int, tuple[_Constant, _Leaf]] = {}
    unclaimed = [(leaf, weight) for leaf in leaves for weight in leaf.weights]
    for constant in constants:
        if constant.buffer not in owners:
            leaf = filters.get(constant.buffer) or _claim(constant, unclaimed)
            if leaf is not None:
                owners[constant.buffer] = constant, leaf
    return owners


def _named(tensors: Sequence[str], leaves: Sequence[_Leaf], model_name: str) -> list[_Leaf]:
    """The layers that these tensors' names point to, in the order of the tensors."""
    return [leaf for tensor in tensors for leaf in leaves if _names(tensor, leaf, model_name)]


def _names(tensor: str, leaf: _Leaf, model_name: str) -> bool:
    """Whether a tensor's name starts with this layer's path; of names that the converter merged, the first counts."""
    return tensor.split(";")[0].removeprefix(f"{model_name}/").startswith(f"{leaf.path}/")


def _claim(constant: _Constant, unclaimed: list[tuple[_Leaf, np.ndarray]]) -> Optional[_Leaf]:
    """The layer whose kernel this constant is, up to a factor per filter; removes the kernel from ``unclaimed``."""
    array = constant.array() if len(constant.shape) > 1 else None
    if array is None:
        return None
    for i, (leaf, weight) in enumerate(unclaimed):
        if weight.size == array.size and weight.ndim > 1 and _same_kernel(array, weight):
            del unclaimed[i]
            return leaf
    return None


def _same_kernel(array: np.ndarray, weight: np.ndarray) -> bool:
    # TFLite puts the axis of filters first, or last in a depthwise kernel; Keras puts it last, or next to last in a
    # depthwise or transposed kernel.
    for filters in (np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1) for axis in (0, -1)):
        for rows in (np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1) for axis in (-1, -2)):
            same_shape = filters.shape == rows.shape and rows.shape[1] >= _SHORTEST_FILTER
            if same_shape and _parallel(filters[:1], rows[:1]) and _parallel(filters, rows):
                return True
    return False


def _parallel(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether each row of ``a`` is nearly a multiple of the corresponding row of ``b``."""
    dots = np.abs(np.einsum("ij,ij->i", a, b))
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return bool(np.all(dots >= _SAME_DIRECTION * lengths))
