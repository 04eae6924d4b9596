"""Converts the real convolutions and the classifier of a file of LCE's converter to int8.

They become TFLite's own operators. Their weights are symmetric int8 with a scale per filter, their biases have 32 bits,
and their activations have a scale and a zero point per tensor (Jacob et al., CVPR 2018;
tensorflow.org/lite/performance/quantization_spec). QUANTIZE and DEQUANTIZE convert the activations between int8 and
float operators. Batch norms, gates and PReLU, which rescale the activations of binary convolutions, stay float.

If the file takes an image of bytes, the first convolution reads the bytes and normalises them itself. Normalisation,
(value - mean) / std, is folded into its weights, which become w / std, and into its bias. The float network pads the
normalised image with 0, which stands for each channel's mean. An int8 convolution with SAME padding pads with its
input's zero point, which is one value for all channels. The zero point is therefore the middle between the smallest and
the largest mean. The padding of a channel is wrong by the distance of its mean from the middle: at most 10.5 of 256
levels for ImageNet's statistics, 6.1 for CIFAR-10's.

On CIFAR-10's test images, no difference in accuracy from the exact form below was found.

The exact form is for means further than ``MOST_AWAY`` from the middle. A 1×1 int8 convolution copies the image and adds
a constant channel. In that channel, padding has the value 0, so the channel's weights contribute only where the filter
lies within the image. There they subtract each mean's distance from the middle; a bias would also subtract it where the
filter reads padding. This is exact up to the rounding of weights. Two alternatives are worse: a depthwise convolution
that normalises would take as long and round every pixel again, and padding each channel with its own mean would take a
copy of the image for each direction.

A scale for each channel of a convolution's output, by a float multiplication after DEQUANTIZE, was tried and left out.
It halves the rounding errors of channels with small values. But on CIFAR-10 as many predicted classes change as without
it, and it costs another operator.
"""

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Optional

import numpy as np
from tensorflow.lite.python import schema_py_generated as schema
from tensorflow.lite.tools import flatbuffer_utils

from r2b_zoo.conversion import calibration, metadata
from r2b_zoo.conversion.calibration import INT8, Histogram, Quantisation
from r2b_zoo.conversion.graph_editor import EditedGraph, parameters
from r2b_zoo.data.preprocessing import Preprocessing

_Op = schema.BuiltinOperator
_Type = schema.TensorType
_Activation = schema.ActivationFunctionType

# Operators that pass int8 values on unchanged, so that their outputs have the scale of their input.
_MOVES = (_Op.MAX_POOL_2D, _Op.PAD, _Op.RESHAPE)
# A dense layer is the classifier if only these operators lie between it and the network's output. A gate's dense layers
# do not qualify, because a multiplication follows them.
_AFTER_CLASSIFIER = (_Op.FULLY_CONNECTED, _Op.SOFTMAX, _Op.LOGISTIC, _Op.RELU, _Op.RELU6, _Op.RESHAPE)
_ACTIVATIONS = (_Activation.NONE, _Activation.RELU, _Activation.RELU6, _Activation.RELU_N1_TO_1)
_MOST_OF_INT32 = 1 << 30
_SYMMETRIC = int(INT8.max)
MOST_AWAY = 16.0
"""If a channel's mean is further than this from the padding, in levels of 0–255, padding needs the exact form."""


class Int8Error(ValueError):
    """The file has nothing that could be int8, or cannot take its image as bytes.

    The message says why, as a sentence without its subject, the model.
    """


@dataclass(frozen=True)
class Rewritten:
    """A file with int8 operators.

    Attributes:
        source: contents of the float file.
        tflite: contents of the file with int8 operators, without metadata.
        origins: number of a buffer → number of the same buffer, or of the buffer that it replaces, in the float file.
        replaced: numbers of the buffers that hold int8 weights or their biases.
        preprocessing: how an image becomes this file's input; None if that is not known.
    """

    source: bytes
    tflite: bytes
    origins: Mapping[int, int]
    replaced: frozenset[int]
    preprocessing: Optional[Preprocessing]


class _Layer(NamedTuple):
    """A float operator with constant weights that has an int8 form.

    Attributes:
        code: the kind of operator, a ``BuiltinOperator``.
        activations: number of the tensor that it reads.
        weights: float32, as TFLite orders them.
        bias: float32 (filters,).
        result: number of the tensor that it writes.
    """

    code: int
    activations: int
    weights: np.ndarray
    bias: np.ndarray
    result: int

    @property
    def filters(self) -> int:
        """The axis of the weights along which the filters lie."""
        return 3 if self.code == _Op.DEPTHWISE_CONV_2D else 0


def quantise(
    tflite: bytes,
    images: Sequence[np.ndarray],
    *,
    preprocessing: Optional[Preprocessing] = None,
    takes_bytes: bool = False,
) -> Rewritten:
    """Rewrites a file's real layers in int8.

    Args:
        tflite: a file of LCE's converter with one input, without metadata.
        images: batches of prepared images, float32 (n, height, width, channels), on which the ranges of all
            activations are measured.
        preprocessing: how an image becomes the float file's input.
        takes_bytes: the new file takes an image as uint8, resized and not normalised; needs ``preprocessing``.

    Raises:
        Int8Error: no layer has an int8 form; or ``takes_bytes`` is set, and an operator other than a plain convolution
            reads the image.
    """
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(tflite))
    graph = model.subgraphs[0]
    layers = {place: layer for place in range(len(graph.operators)) if (layer := _layer(model, place)) is not None}
    if not layers:
        raise Int8Error(
            "has no real part that could be int8: no convolution with real weights, and no dense layer at its end; "
            "convert it with real_part='float'"
        )
    seen = _histograms(model, layers.values(), images)
    rewriter = _Rewriter(model, layers, seen, preprocessing if takes_bytes else None)
    origins, replaced = rewriter.run()
    return Rewritten(
        tflite,
        metadata.pack(model, len(tflite)),
        origins,
        replaced,
        rewriter.bytes_in(preprocessing) if takes_bytes and preprocessing is not None else preprocessing,
    )


def is_int8(tflite: bytes) -> bool:
    """Whether a file has a convolution or a dense layer in int8."""
    graph = schema.Model.GetRootAs(tflite).Subgraphs(0)
    operators = (graph.Operators(i) for i in range(graph.OperatorsLength()))
    kernels = (operator.Inputs(1) for operator in operators if operator.InputsLength() > 2)
    return any(kernel >= 0 and graph.Tensors(kernel).Type() == _Type.INT8 for kernel in kernels)


def _histograms(model: Any, layers: Iterable[_Layer], images: Sequence[np.ndarray]) -> dict[int, Histogram]:
    """Number of a tensor → histogram of its values, for the image and every tensor that a layer reads or writes."""
    graph = model.subgraphs[0]
    own = int(graph.inputs[0])
    asked = {tensor for layer in layers for tensor in (layer.activations, layer.result)}
    inner = sorted(asked - {own})
    probe = copy.copy(model)
    probed = copy.copy(graph)
    probed.outputs = np.array(inner, np.int32)
    probe.subgraphs, probe.signatureDefs = [probed], None
    found = dict(calibration.histograms(metadata.pack(probe, 1 << 16), inner, images))
    found[own] = Histogram()
    for batch in images:
        found[own].add(batch)
    return found


def _code(model: Any, operator: Any) -> int:
    code = model.operatorCodes[operator.opcodeIndex]
    return max(code.builtinCode, code.deprecatedBuiltinCode)


def _constant(model: Any, number: int) -> Optional[np.ndarray]:
    """A tensor's constant float32 values; None if the tensor has none."""
    tensor = model.subgraphs[0].tensors[number]
    data = model.buffers[tensor.buffer].data
    if tensor.type != _Type.FLOAT32 or data is None or not len(data):
        return None
    return np.asarray(data, np.uint8).view(np.float32).reshape(tensor.shape)


def _layer(model: Any, place: int) -> Optional[_Layer]:
    """The operator at that place of the graph as a ``_Layer``; None if it has no int8 form."""
    graph = model.subgraphs[0]
    operator = graph.operators[place]
    code = _code(model, operator)
    if code not in (_Op.CONV_2D, _Op.DEPTHWISE_CONV_2D, _Op.FULLY_CONNECTED):
        return None
    activations, kernel, *rest = (int(number) for number in operator.inputs)
    weights = _constant(model, kernel)
    if weights is None or operator.builtinOptions.fusedActivationFunction not in _ACTIVATIONS:
        return None
    if code == _Op.CONV_2D and weights.shape[3] != graph.tensors[activations].shape[3]:
        return None  # grouped, which interpreters run in int8 by their slowest kernels, if at all
    if code == _Op.FULLY_CONNECTED and not _ends_in_output(model, int(operator.outputs[0])):
        return None
    filters = weights.shape[3 if code == _Op.DEPTHWISE_CONV_2D else 0]
    bias: Optional[np.ndarray] = np.zeros(filters, np.float32)
    if rest and rest[0] >= 0:
        bias = _constant(model, rest[0])
    return None if bias is None else _Layer(code, activations, weights, bias, int(operator.outputs[0]))


def _ends_in_output(model: Any, tensor: int) -> bool:
    """Whether only operators of ``_AFTER_CLASSIFIER`` lie between a tensor and the network's outputs."""
    graph = model.subgraphs[0]
    readers = [operator for operator in graph.operators if tensor in operator.inputs]
    return all(
        _code(model, reader) in _AFTER_CLASSIFIER and _ends_in_output(model, int(reader.outputs[0]))
        for reader in readers
    )


class _Rewriter:
    """Replaces the operators of a model, in place."""

    def __init__(
        self, model: Any, layers: Mapping[int, _Layer], seen: Mapping[int, Histogram], image: Optional[Preprocessing]
    ) -> None:
        self._model, self._graph = model, model.subgraphs[0]
        self._layers, self._seen, self._image = layers, dict(seen), image
        self._file = EditedGraph(model)
        # Float tensor → the int8 tensor of the same values. The float tensors in `_restored` exist in the new file too.
        self._twins: dict[int, int] = {}
        self._restored: set[int] = set()
        self._quantisations: dict[int, Quantisation] = {}
        # Float tensors whose int8 twins hold pixels before normalisation.
        self._raw: set[int] = set()
        # Value of the channel that is added to the twins of `_raw`, in levels above the zero point; 0 if none is added.
        self._plane = 0

    def run(self) -> tuple[dict[int, int], frozenset[int]]:
        """Rewrites the model; returns what ``EditedGraph.finish`` returns."""
        if self._image is not None:
            self._take_bytes(int(self._graph.inputs[0]))
        for place, operator in enumerate(self._graph.operators):
            if place in self._layers:
                self._quantised(operator, self._layers[place])
            elif len(operator.inputs) and self._moves(operator):
                self._moved(operator)
            else:
                for tensor in operator.inputs:
                    self._restore(int(tensor))
                self._file.keep(operator)
        for tensor in self._graph.outputs:
            self._restore(int(tensor))
        return self._file.finish()

    # The input

    def _take_bytes(self, image: int) -> None:
        """Makes the graph's input uint8, and adds a QUANTIZE that turns it into int8 without changing any value."""
        tensor, zero = self._graph.tensors[image], self._middle()
        tensor.type = _Type.UINT8
        tensor.quantization = parameters([1.0], [zero])
        self._quantisations[image] = Quantisation(1.0, zero + int(INT8.min))
        self._twins[image] = self._file.add_like(image, self._quantisations[image])
        self._raw.add(image)
        self._file.emit(_Op.QUANTIZE, [image], [self._twins[image]])
        self._plane = self._height_of_plane(image)
        if self._plane:
            self._add_plane(image)

    def _middle(self) -> int:
        """The input's zero point, 0–255: the middle of the channels' means, so that padding is close to each mean."""
        assert self._image is not None, "only for bytes"
        return min(max(round((min(self._image.mean) + max(self._image.mean)) / 2), 0), 255)

    def _away(self) -> np.ndarray:
        """Each channel's mean minus ``_middle()``, in levels, float64 (channels,)."""
        assert self._image is not None, "only for bytes"
        return np.array(self._image.mean, np.float64) - self._middle()

    def _height_of_plane(self, image: int) -> int:
        """The value of the added channel, in levels; 0 if padding needs no such channel.

        It is the smallest value with which no weight of that channel exceeds its filter's largest other weight, but at
        most the largest that int8 can hold. A larger value would multiply the rounding error of that channel's weights.
        """
        if np.abs(self._away()).max() <= MOST_AWAY or not self._is_padded(image):
            return 0
        needed = 1.0
        for layer in self._layers.values():
            if layer.code == _Op.CONV_2D and layer.weights.shape[3] == len(self._away()):
                weights = self._without_std(layer)
                largest = np.abs(weights).max(axis=(1, 2, 3))
                of_plane = np.abs(weights @ self._away()).max(axis=(1, 2))
                needed = max(needed, float(np.max(of_plane[largest > 0] / largest[largest > 0], initial=0)))
        return min(math.ceil(needed), int(INT8.max) - self._quantisations[image].zero_point)

    def _is_padded(self, image: int) -> bool:
        """Whether an operator that reads the image reads beyond its border."""
        readers = [operator for operator in self._graph.operators if image in operator.inputs]
        for reader in readers:
            if _code(self._model, reader) == _Op.PAD:
                return True
            same = getattr(reader.builtinOptions, "padding", schema.Padding.VALID) == schema.Padding.SAME
            if same and self._graph.tensors[reader.inputs[1]].shape[1:3].max() > 1:
                return True
        return False

    def _add_plane(self, image: int) -> None:
        """Adds a 1×1 convolution: its weights of 1 copy the image, and its bias is the value of the added channel."""
        given, channels = self._quantisations[image], len(self._away())
        copied = np.eye(channels + 1, channels, dtype=np.int8).reshape(-1, 1, 1, channels)
        plane = np.append(np.zeros(channels), self._plane).astype(np.int32)
        ones = np.ones(channels + 1)
        constants = [
            self._file.add_constant(copied, _Type.INT8, b"image_and_plane/kernel", parameters(ones)),
            self._file.add_constant(plane, _Type.INT32, b"image_and_plane/bias", parameters(ones)),
        ]
        plain, self._twins[image] = self._twins[image], self._file.add_like(image, given, channels=1)
        self._file.emit(_Op.CONV_2D, [plain, *constants], [self._twins[image]])

    def bytes_in(self, preprocessing: Preprocessing) -> Preprocessing:
        """The preprocessing for the new file: it subtracts the zero point, which quantising the input adds again."""
        channels = preprocessing.channels
        return replace(preprocessing, mean=(float(self._middle()),) * channels, std=(1.0,) * channels)

    # Operators

    def _quantised(self, operator: Any, layer: _Layer) -> None:
        taken = self._as_int8(layer.activations)
        given = self._quantisation(layer.result)
        weights, bias = layer.weights.astype(np.float64), layer.bias.astype(np.float64)
        means = self._seen[layer.activations].means
        if layer.activations in self._raw:
            weights, bias, means = self._normalising(layer, means)
        of_input = self._file.scale_of(taken)
        scales = _scales(weights, bias, layer.filters, of_input, given.scale)
        along = np.expand_dims(scales, [axis for axis in range(weights.ndim) if axis != layer.filters])
        numbers = np.clip(np.rint(weights / along), -_SYMMETRIC, _SYMMETRIC)
        bias = bias - _moved_by_rounding(numbers * along - weights, means, layer.filters)
        kernel, offset = (int(number) for number in (*operator.inputs, -1)[1:3])
        constants = [
            self._file.add_constant(
                numbers.astype(np.int8), _Type.INT8, kernel, parameters(scales, axis=layer.filters)
            ),
            self._file.add_constant(
                np.rint(bias / (scales * of_input)).astype(np.int32),
                _Type.INT32,
                offset if offset >= 0 else kernel,
                parameters(scales * of_input),
            ),
        ]
        self._twins[layer.result] = self._file.add_like(layer.result, given)
        self._file.emit(layer.code, [taken, *constants], [self._twins[layer.result]], operator)

    def _without_std(self, layer: _Layer) -> np.ndarray:
        assert self._image is not None, "only for bytes"
        return layer.weights / np.array(self._image.std, np.float64)

    def _normalising(self, layer: _Layer, means: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Weights and bias of a convolution that normalises pixels itself, and the mean of each channel of its input.

            Σ w · (pixel - mean) / std = Σ (w / std) · (pixel - middle) - Σ (w / std) · (mean - middle)

        The sums are over those positions of the filter that lie within the image. The added channel, the plane, gives
        the second sum. Without a plane, the bias contains that sum, but over all positions of the filter.
        """
        if layer.code != _Op.CONV_2D:
            raise Int8Error(
                "cannot take its image as bytes: normalising can only be folded into a plain convolution, which its "
                "first layer is not; convert it with input='float32'"
            )
        assert self._image is not None, "only for bytes"
        weights, bias = self._without_std(layer), layer.bias.astype(np.float64)
        shift = weights @ self._away()
        means = means * self._image.std + self._away()
        if not self._plane:
            return weights, bias - shift.sum(axis=(1, 2)), means
        return (
            np.concatenate([weights, -shift[..., np.newaxis] / self._plane], axis=3),
            bias,
            np.append(means, self._plane),
        )

    def _moved(self, operator: Any) -> None:
        given, result = int(operator.inputs[0]), int(operator.outputs[0])
        self._quantisations[result] = self._quantisation(given)
        is_raw = given in self._raw
        self._twins[result] = self._file.add_like(result, self._quantisations[result], int(is_raw and self._plane > 0))
        if is_raw:
            self._raw.add(result)
            self._seen[result] = self._seen[given]
        inputs = [self._twins[given], *map(int, operator.inputs[1:])]
        self._file.emit(_code(self._model, operator), inputs, [self._twins[result]], operator)

    def _moves(self, operator: Any) -> bool:
        """Whether an operator passes int8 values on unchanged, and its input exists only in int8."""
        given, code = int(operator.inputs[0]), _code(self._model, operator)
        return self._is_only_int8(given) and code in (_MOVES if given not in self._raw else (_Op.PAD,))

    def _is_only_int8(self, tensor: int) -> bool:
        return tensor in self._twins and tensor not in self._restored

    def _as_int8(self, tensor: int) -> int:
        if tensor not in self._twins:
            self._twins[tensor] = self._file.add_like(tensor, self._quantisation(tensor))
            self._restored.add(tensor)
            self._file.emit(_Op.QUANTIZE, [tensor], [self._twins[tensor]])
        return self._twins[tensor]

    def _restore(self, tensor: int) -> None:
        """Emits a DEQUANTIZE for a tensor that exists only in int8."""
        if not self._is_only_int8(tensor):
            return
        if tensor in self._raw:
            raise Int8Error(
                "cannot take its image as bytes: an operator other than a convolution with real weights reads the "
                "image; convert it with input='float32'"
            )
        self._restored.add(tensor)
        self._file.emit(_Op.DEQUANTIZE, [self._twins[tensor]], [tensor])

    def _quantisation(self, tensor: int) -> Quantisation:
        """The quantisation of a tensor.

        If only ``_AFTER_CLASSIFIER`` follows the tensor, its quantisation clips no value, because the largest value
        decides the predicted class.
        """
        if tensor not in self._quantisations:
            seen = self._seen[tensor]
            ends = _ends_in_output(self._model, tensor)
            self._quantisations[tensor] = seen.whole_range() if ends else seen.least_error()
        return self._quantisations[tensor]


def _moved_by_rounding(errors: np.ndarray, means: np.ndarray, filters: int) -> np.ndarray:
    """The change of each filter's mean output that rounding the weights causes, and that the bias compensates.

    Args:
        errors: rounded weights minus exact weights.
        means: mean of each channel of the input.
        filters: the axis of the filters.
    """
    if filters:  # depthwise: a filter reads one channel
        return errors.sum(axis=(0, 1, 2)) * np.repeat(means, errors.shape[3] // len(means))
    return (errors @ means).reshape(len(errors), -1).sum(axis=1)


def _scales(weights: np.ndarray, bias: np.ndarray, filters: int, of_input: float, of_output: float) -> np.ndarray:
    """The scale of each filter: its largest weight is 127 steps, unless its bias would then not fit into 32 bits."""
    others = tuple(axis for axis in range(weights.ndim) if axis != filters)
    largest = np.abs(weights).max(axis=others)
    fitting = np.abs(bias) / (of_input * _MOST_OF_INT32)
    # Any scale suits a filter of zeros; this one stores its bias in 256ths of an output's step.
    for_none = np.where(largest == 0, of_output / of_input / 256, 0)
    return np.maximum.reduce([largest / _SYMMETRIC, fitting, for_none]).astype(np.float32).astype(np.float64)
