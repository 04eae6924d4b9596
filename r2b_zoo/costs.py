"""What a network costs: parameters, bytes, and operations per image, layer by layer.

Counted per image, from the shapes a network was built with:

- *MACs* (multiply-accumulates): output positions × size of the kernel, so for a convolution output H × W × kernel h × w
  × C_in / groups × C_out. Taps on the padding count like any other. They are *binary* where input **and** kernel are
  quantised to one bit by the layer's own quantisers, *float* otherwise.
- *FLOPs* as Martínez et al. count them (ICLR 2020, section 5, after Rastegari et al., ECCV 2016): float MACs + binary
  MACs / 64. One MAC is one FLOP.
- *Element-wise operations*: everything else that is computed in floating point, which the paper's FLOPs leave out:

  ==========================  =============================================================================
  layer                       operations
  ==========================  =============================================================================
  batch norm, rescaling       2 per element: multiply, add (batch norm as at inference)
  PReLU, ReLU, softmax, ...   1 per element, whatever the function
  max and average pool        window h × w per output element; on the padding too
  global pool                 1 per input element
  add, multiply, ...          1 per element and input after the first; 1 more per element to average
  learned scale               1 per element: α⊗β⊗γ is a constant
  gate                        1 per element of x (pool), of the hidden layer (ReLU), of the factors (sigmoid)
                              and of y (multiplication); its two dense layers are float MACs
  convolution, dense          1 per output element for a bias, 1 for an activation; 1 per input element for an
                              input quantiser of more than one bit (tanh). Signs are packed bits: none
  reshape, concatenate, ...   none: they move data
  ==========================  =============================================================================

- *Bytes* as deployed: 1 bit per binary weight, each tensor rounded up to whole bytes, and 4 bytes per other weight. A
  batch norm counts as stored, with its four vectors; the scale of a magnitude-aware kernel follows from the weights and
  is not stored.
"""

import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Optional

import tensorflow as tf

from r2b_zoo.layers import ChannelGate, GlobalAverage, LearnedScale

keras = tf.keras.layers

BINARY_MACS_PER_FLOP = 64
BYTES_PER_REAL_WEIGHT = 4

Shape = tuple[int, ...]
"""Without the batch."""


@dataclass(frozen=True)
class LayerCost:
    """What one layer costs per image. Every number is a count; the module's documentation has the rules.

    ``kind`` says what part of the network the layer belongs to: first by place ("stem", "shortcuts", "classifier"),
    then by type ("binary convolutions", "gate", "batch norm", ...); "not counted" are the operations of layers without
    weights that no rule knows.
    """

    name: str
    type: str
    kind: str
    output_shape: Shape
    parameters: int
    bytes: int
    binary_macs: int
    float_macs: int
    elementwise: int

    @property
    def flops(self) -> float:
        return self.float_macs + self.binary_macs / BINARY_MACS_PER_FLOP


@dataclass(frozen=True)
class Cost:
    """What a network costs per image: the sum over its layers, or over those of one kind."""

    name: str
    input_shapes: tuple[Shape, ...]
    layers: tuple[LayerCost, ...]

    @property
    def parameters(self) -> int:
        """All weights, trainable or not, as ``model.count_params()`` has them."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def bytes(self) -> int:
        return sum(layer.bytes for layer in self.layers)

    @property
    def binary_macs(self) -> int:
        return sum(layer.binary_macs for layer in self.layers)

    @property
    def float_macs(self) -> int:
        return sum(layer.float_macs for layer in self.layers)

    @property
    def elementwise(self) -> int:
        return sum(layer.elementwise for layer in self.layers)

    @property
    def flops(self) -> float:
        """Float MACs + binary MACs / 64."""
        return sum(layer.flops for layer in self.layers)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of layers there are, in the order of their first layer."""
        return tuple(dict.fromkeys(layer.kind for layer in self.layers))

    def of(self, kind: str) -> "Cost":
        """The layers of one kind, see ``kinds``; all counts are 0 for a kind the network has not."""
        return Cost(self.name, self.input_shapes, tuple(layer for layer in self.layers if layer.kind == kind))

    def share(self, kind: str) -> float:
        """Share of the FLOPs that layers of this kind have, 0–1."""
        return self.of(kind).flops / self.flops if self.flops else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Plain data: the totals, and a row per layer."""
        return {
            "name": self.name,
            "input_shapes": self.input_shapes,
            **_row(self),
            "by_kind": self.by_kind(),
            "layer_costs": [{**asdict(layer), "flops": layer.flops} for layer in self.layers],
        }

    def by_kind(self) -> list[dict[str, Any]]:
        """One row of plain data per kind of layer."""
        return [{"kind": kind, **_row(self.of(kind)), "share": self.share(kind)} for kind in self.kinds]


def _row(cost: Cost) -> dict[str, Any]:
    numbers = ("parameters", "bytes", "binary_macs", "float_macs", "flops", "elementwise")
    return {"layers": len(cost.layers), **{name: getattr(cost, name) for name in numbers}}


def compare(models: Iterable[tf.keras.Model]) -> list[dict[str, Any]]:
    """One row of plain data per network, to put side by side.

    Raises:
        ValueError: as ``cost`` does.
    """
    return [
        {
            "name": counted.name,
            "input_shapes": counted.input_shapes,
            **_row(counted),
            "binary_convolutions": len(counted.of("binary convolutions").layers),
            "gate_share": counted.share("gate"),
        }
        for counted in map(cost, models)
    ]


@dataclass(frozen=True)
class GateOverhead:
    """What gates cost more than the learned scales in their place.

    At 224×224 and width 64 the gates' two dense layers have 294,400 MACs: 0.18 % of the baseline's 164 M FLOPs. The
    paper's "about 1 % more" appears once the gates' other work counts too, 1.2 %: 1,680,896 additions to pool x, and
    424 ReLUs and 3,840 sigmoids. Their 1,505,280 multiplications take the place of as many that the scales have.
    """

    macs: int
    elementwise: int
    """Of the gates, less those of the scales."""
    baseline_flops: float

    @property
    def share_of_macs(self) -> float:
        """The MACs alone, as a share of the baseline's FLOPs."""
        return self.macs / self.baseline_flops

    @property
    def share(self) -> float:
        """MACs and element-wise operations, as a share of the baseline's FLOPs."""
        return (self.macs + self.elementwise) / self.baseline_flops

    def to_dict(self) -> dict[str, float]:
        return {**asdict(self), "share_of_macs": self.share_of_macs, "share": self.share}


def gate_overhead(gated: Cost, baseline: Cost) -> GateOverhead:
    """What the gates of RealToBinaryNet cost more than the scales of StrongBaselineNet.

    Raises:
        ValueError: the two differ in more than that, for example in their input size.
    """
    rest = [[layer for layer in cost.layers if layer.kind not in ("gate", "scale")] for cost in (gated, baseline)]
    if rest[0] != rest[1]:
        raise ValueError(
            f"gate_overhead compares two networks that differ only in gates and scales; {gated.name} for "
            f"{gated.input_shapes} and {baseline.name} for {baseline.input_shapes} differ elsewhere too. "
            "Build RealToBinaryNet and StrongBaselineNet with the same arguments."
        )
    gate, scale = gated.of("gate"), baseline.of("scale")
    return GateOverhead(gate.float_macs, gate.elementwise - scale.elementwise, baseline.flops)


@dataclass(frozen=True)
class Call:
    """One use of a layer in a network: the shapes that went in and came out, without the batch."""

    inputs: tuple[Shape, ...]
    outputs: tuple[Shape, ...]

    @property
    def output(self) -> Shape:
        return self.outputs[0]


Count = Callable[[tf.keras.layers.Layer, Call], int]


@dataclass(frozen=True)
class Rule:
    """How the operations of one type of layer are counted."""

    kind: str
    elementwise: Count
    macs: Optional[Count] = None


def _per_output(operations: int) -> Count:
    return lambda _, call: operations * math.prod(call.output)


def _per_input(_: tf.keras.layers.Layer, call: Call) -> int:
    return math.prod(call.inputs[0])


def _window(layer: tf.keras.layers.Layer, call: Call) -> int:
    return math.prod(layer.pool_size) * math.prod(call.output)


def _merge(layer: tf.keras.layers.Layer, call: Call) -> int:
    operations = len(call.inputs) - 1 + isinstance(layer, keras.Average)
    return operations * math.prod(call.output)


def _around_the_kernel(layer: tf.keras.layers.Layer, call: Call) -> int:
    """Of a convolution or dense layer: bias, activation, and an input quantiser of more than one bit."""
    per_output = layer.use_bias + (layer.activation not in (None, tf.keras.activations.linear))
    quantizer = getattr(layer, "input_quantizer", None)
    quantised = 0 if quantizer is None or _is_one_bit(quantizer) else math.prod(call.inputs[0])
    return per_output * math.prod(call.output) + quantised


def _positions(layer: tf.keras.layers.Layer, shape: Shape) -> int:
    """Height × width, or what there is instead, of one feature map."""
    return math.prod(shape[1:] if getattr(layer, "data_format", None) == "channels_first" else shape[:-1])


def _kernel(layer: tf.keras.layers.Layer) -> tf.Variable:
    return layer.depthwise_kernel if hasattr(layer, "depthwise_kernel") else layer.kernel


def _forward(layer: tf.keras.layers.Layer, call: Call) -> int:
    """Every output position sees the whole kernel once."""
    return _positions(layer, call.output) * math.prod(_kernel(layer).shape)


def _transposed(layer: tf.keras.layers.Layer, call: Call) -> int:
    """Every input position meets the whole kernel once."""
    return _positions(layer, call.inputs[0]) * math.prod(_kernel(layer).shape)


def _gate_macs(layer: tf.keras.layers.Layer, _: Call) -> int:
    return math.prod(layer.reduce_kernel.shape) + math.prod(layer.expand_kernel.shape)


def _gate_elementwise(layer: tf.keras.layers.Layer, call: Call) -> int:
    hidden, factors = layer.expand_kernel.shape
    return math.prod(call.inputs[0]) + hidden + factors + math.prod(call.output)


RULES: dict[type, Rule] = {
    keras.Conv2DTranspose: Rule("convolutions", _around_the_kernel, _transposed),
    keras.Dense: Rule("dense layers", _around_the_kernel, _forward),
    ChannelGate: Rule("gate", _gate_elementwise, _gate_macs),
    LearnedScale: Rule("scale", _per_output(1)),
    **dict.fromkeys(
        (keras.Conv1D, keras.Conv2D, keras.Conv3D, keras.DepthwiseConv1D, keras.DepthwiseConv2D),
        Rule("convolutions", _around_the_kernel, _forward),
    ),
    **dict.fromkeys(
        (keras.BatchNormalization, keras.Rescaling, keras.Normalization), Rule("batch norm", _per_output(2))
    ),
    **dict.fromkeys(
        (keras.Activation, keras.ReLU, keras.LeakyReLU, keras.PReLU, keras.ELU, keras.Softmax),
        Rule("activation", _per_output(1)),
    ),
    **dict.fromkeys((keras.MaxPooling2D, keras.AveragePooling2D), Rule("pooling", _window)),
    **dict.fromkeys(
        (GlobalAverage, keras.GlobalAveragePooling2D, keras.GlobalMaxPooling2D), Rule("pooling", _per_input)
    ),
    **dict.fromkeys(
        (keras.Add, keras.Subtract, keras.Multiply, keras.Average, keras.Maximum, keras.Minimum),
        Rule("shortcuts", _merge),
    ),
    **dict.fromkeys(
        (
            *(keras.InputLayer, keras.Flatten, keras.Reshape, keras.Permute, keras.Concatenate),
            *(keras.Dropout, keras.SpatialDropout2D, keras.GaussianNoise, keras.ActivityRegularization),
            *(keras.ZeroPadding2D, keras.Cropping2D, keras.UpSampling2D),
        ),
        Rule("no arithmetic", lambda *_: 0),
    ),
}
"""The rule of each type of layer and of what derives from it. Add your own types here."""

_UNKNOWN = Rule("not counted", lambda *_: 0)

# Layer names of the shared topology whose place says more than their type.
_PLACES = {
    re.compile(r"stem_"): "stem",
    re.compile(r"block\d+[ab]?_shortcut_"): "shortcuts",
    re.compile(r"(global_pool|logits|probabilities)$"): "classifier",
}


def cost(model: tf.keras.Model) -> Cost:
    """Counts what a network costs per image, see the rules above.

    Args:
        model: a functional or Sequential network with a known input size; networks inside it are counted layer by
            layer, as "outer/inner". A layer used twice costs its operations twice and its weights once.

    Raises:
        ValueError: the input size is unknown, or a layer with weights is of a type that no rule knows.
    """
    layers = tuple(_layer_costs(model, prefix="", seen=set()))
    return Cost(model.name, tuple(_shape(tensor, model.name) for tensor in model.inputs), layers)


def _layer_costs(model: tf.keras.Model, prefix: str, seen: set[int]) -> Iterator[LayerCost]:
    calls = _calls(model)
    for layer in model.layers:
        if isinstance(layer, tf.keras.Model):
            for call in calls[id(layer)]:
                expected = tuple(_shape(tensor, layer.name) for tensor in layer.inputs)
                if expected != call.inputs:
                    raise ValueError(
                        f"cost() needs a known input size: {layer.name} was built for {expected} and is used on "
                        f"{call.inputs} in {model.name}. Pass input_shape=(height, width, channels) to {layer.name}."
                    )
                yield from _layer_costs(layer, f"{prefix}{layer.name}/", seen)
        else:
            yield _layer_cost(layer, calls[id(layer)], prefix, seen)


def _layer_cost(layer: tf.keras.layers.Layer, calls: list[Call], prefix: str, seen: set[int]) -> LayerCost:
    rule = _rule(layer)
    weights = [weight for weight in layer.weights if id(weight) not in seen]
    seen.update(map(id, weights))
    macs = sum(rule.macs(layer, call) for call in calls) if rule.macs else 0
    binary = _is_binary(layer)
    kind = next((place for pattern, place in _PLACES.items() if pattern.match(layer.name)), rule.kind)
    if kind in ("convolutions", "dense layers"):
        kind = f"{'binary' if binary else 'real'} {kind}"
    return LayerCost(
        name=prefix + layer.name,
        type=type(layer).__name__,
        kind=kind,
        output_shape=calls[0].output,
        parameters=sum(math.prod(weight.shape) for weight in weights),
        bytes=sum(map(_bytes, weights)),
        binary_macs=macs if binary else 0,
        float_macs=0 if binary else macs,
        elementwise=sum(rule.elementwise(layer, call) for call in calls),
    )


def _rule(layer: tf.keras.layers.Layer) -> Rule:
    rule = next((RULES[base] for base in type(layer).__mro__ if base in RULES), _UNKNOWN)
    if rule is _UNKNOWN and layer.weights:
        raise ValueError(
            f"cost() has no rule for layers of type {type(layer).__name__}, and {layer.name!r} has "
            f"{layer.count_params()} weights: add one to r2b_zoo.cost.RULES."
        )
    return rule


def _calls(model: tf.keras.Model) -> dict[int, list[Call]]:
    """Every use of a layer inside a network, by the layer's identity."""
    if not getattr(model, "outputs", None):
        raise ValueError(
            "cost() needs a known input size, so a functional or Sequential network that was built on an input; "
            f"received {model!r}. Pass input_shape=(height, width, channels) to its first layer."
        )
    for tensor in model.inputs:
        _shape(tensor, f"the input of {model.name}")
    calls: dict[int, list[Call]] = {}
    waiting, seen = [tensor.node for tensor in model.outputs], set()
    while waiting:
        node = waiting.pop()
        if id(node) not in seen:
            seen.add(id(node))
            waiting.extend(node.parent_nodes)
            calls.setdefault(id(node.layer), []).append(
                Call(
                    inputs=tuple(_shape(tensor, node.layer.name) for tensor in node.keras_inputs),
                    outputs=tuple(_shape(tensor, node.layer.name) for tensor in tf.nest.flatten(node.outputs)),
                )
            )
    return calls


def _shape(tensor: tf.Tensor, name: str) -> Shape:
    shape = tuple(tensor.shape[1:])
    if None in shape:
        raise ValueError(
            f"cost() needs a known input size: {name} has the shape {shape}. "
            "Build the network with input_shape=(height, width, channels)."
        )
    return shape


def _is_one_bit(quantised: Any) -> bool:
    """Of a Larq quantiser, or of a variable behind one."""
    return getattr(quantised, "precision", None) == 1


def _is_binary(layer: tf.keras.layers.Layer) -> bool:
    quantizer = getattr(layer, "input_quantizer", None)
    return quantizer is not None and _is_one_bit(quantizer) and _is_one_bit(_kernel(layer))


def _bytes(weight: tf.Variable) -> int:
    count = math.prod(weight.shape)
    return math.ceil(count / 8) if _is_one_bit(weight) else BYTES_PER_REAL_WEIGHT * count
