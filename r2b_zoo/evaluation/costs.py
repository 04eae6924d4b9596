"""Counts the cost of a network, layer by layer: parameters, bytes, and operations per image.

Operations are counted per image, from the shapes that a network was built with, by the rules of ``cost_rules``:

- *MACs* (multiply-accumulates): output positions × size of the kernel. For a convolution, this is output H × W × kernel
  h × w × C_in / groups × C_out; for a transposed convolution, input H × W replaces output H × W. Taps on the padding
  count like all others. MACs are *binary* where the layer's own quantisers quantise input **and** kernel to one bit,
  *float* otherwise. One MAC is one operation.
- *Elementwise operations*: everything else that an inference engine computes in floating point.
- *Float operations*: float MACs plus elementwise operations, including skip connections and pools, as in table 1 of
  Martínez et al. (ICLR 2020, section 4.4), which lists binary and float operations separately. Elementwise operations
  are counted as above, except that a batch norm counts as the four operations of its formula, (x − μ) / σ · γ + β,
  where an engine needs one multiplication and one addition. ``published_costs`` compares these counts with the table.
- *FLOPs* as Bi-Real Net counts them (Liu et al., ECCV 2018, section 4.4): float MACs + binary MACs / 64.
- *Bytes* as deployed: 1 bit per binary weight, each tensor rounded up to whole bytes, and 4 bytes per other weight. A
  batch norm counts with all of its four vectors. The scale of a magnitude-aware kernel is not a weight of the layer, so
  it does not count.
"""

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from r2b_zoo.evaluation.cost_rules import Call, Shape, is_binary, is_one_bit, rule_of
from r2b_zoo.system.short_repr import short_repr

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BINARY_MACS_PER_FLOP = 64
BYTES_PER_REAL_WEIGHT = 4


@dataclass(frozen=True)
class LayerCost:
    """The parameters and bytes of one layer, and its operations per image, by the rules in the module's docstring.

    ``kind`` is the part of the network to which the layer belongs. It follows from the layer's place ("stem",
    "shortcuts", "classifier") or, in other places, from its type ("binary convolutions", "gate", "batch norm", ...).
    Layers without weights for which there is no rule are "not counted".
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
    float_operations: int

    @property
    def flops(self) -> float:
        """FLOPs as Bi-Real Net counts them."""
        return self.float_macs + self.binary_macs / BINARY_MACS_PER_FLOP


@dataclass(frozen=True)
class Cost:
    """The cost of a network, or of its layers of one kind: the sum over the layers in ``layers``."""

    name: str
    input_shapes: tuple[Shape, ...]
    layers: tuple[LayerCost, ...]

    __repr__ = short_repr

    def _repr_html_(self) -> str:
        from r2b_zoo.report import html, tables

        return html.together(html.table(one) for one in tables.cost_tables([self], layers=False))

    def figure(self) -> "Figure":
        """A matplotlib figure of multiplications, FLOPs and bytes by part of the network."""
        from r2b_zoo.report import figures

        return figures.cost(self.name, self.by_kind())

    @property
    def parameters(self) -> int:
        """Number of weights, trainable or not, as in ``model.count_params()``."""
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
    def float_operations(self) -> int:
        """Float operations as in table 1 of Martínez et al., whose binary operations are ``binary_macs``."""
        return sum(layer.float_operations for layer in self.layers)

    @property
    def flops(self) -> float:
        """Float MACs + binary MACs / 64, as Bi-Real Net counts them."""
        return sum(layer.flops for layer in self.layers)

    @property
    def binary_convolutions(self) -> int:
        """Number of layers with binary operations, including those of shortcuts."""
        return sum(layer.binary_macs > 0 for layer in self.layers)

    @property
    def downsample(self) -> str:
        """Whether the convolutions of the shortcuts are "binary" or "real"; "real" if there are none."""
        return "binary" if any(layer.binary_macs for layer in self.of("shortcuts").layers) else "real"

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of layers in the network, in the order of their first layers."""
        return tuple(dict.fromkeys(layer.kind for layer in self.layers))

    def of(self, kind: str) -> "Cost":
        """The cost of the layers of one kind, see ``kinds``; all counts are 0 for a kind that is absent."""
        return Cost(self.name, self.input_shapes, tuple(layer for layer in self.layers if layer.kind == kind))

    def share(self, kind: str) -> float:
        """Share of the FLOPs in layers of this kind, 0–1."""
        return self.of(kind).flops / self.flops if self.flops else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Plain data: the totals, and a row per layer."""
        return {
            "name": self.name,
            "input_shapes": self.input_shapes,
            "downsample": self.downsample,
            **_row(self),
            "by_kind": self.by_kind(),
            "layer_costs": [{**asdict(layer), "flops": layer.flops} for layer in self.layers],
        }

    def by_kind(self) -> list[dict[str, Any]]:
        """One row of plain data per kind of layer."""
        return [{"kind": kind, **_row(self.of(kind)), "share": self.share(kind)} for kind in self.kinds]


def _row(cost: Cost) -> dict[str, Any]:
    numbers = ("parameters", "bytes", "binary_macs", "float_macs", "flops", "elementwise", "float_operations")
    return {"layers": len(cost.layers), **{name: getattr(cost, name) for name in numbers}}


def compare(models: Iterable[tf.keras.Model]) -> list[dict[str, Any]]:
    """One row of plain data per network, for a side-by-side comparison.

    Raises:
        ValueError: as ``cost`` does.
    """
    return [
        {
            "name": counted.name,
            "input_shapes": counted.input_shapes,
            **_row(counted),
            "binary_convolutions": counted.binary_convolutions,
            "gate_share": counted.share("gate"),
        }
        for counted in map(cost, models)
    ]


# In the shared topology, layers with these names are better described by their place than by their type.
_PLACES = {
    re.compile(r"stem_"): "stem",
    re.compile(r"block\d+[ab]?_shortcut_"): "shortcuts",
    re.compile(r"(global_pool|logits|probabilities)$"): "classifier",
}


def cost(model: tf.keras.Model) -> Cost:
    """Counts the cost of a network by the rules in this module's docstring.

    Args:
        model: a functional or Sequential network with a known input size; networks inside it are counted layer by
            layer, under names "network/layer". A layer used twice costs its operations twice and its weights once.

    Raises:
        ValueError: the input size is unknown, or there is no rule for a layer with weights.
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
    rule = rule_of(layer)
    weights = [weight for weight in layer.weights if id(weight) not in seen]
    seen.update(map(id, weights))
    macs = sum(rule.macs(layer, call) for call in calls) if rule.macs else 0
    as_published = rule.published or rule.elementwise
    binary = is_binary(layer)
    return LayerCost(
        name=prefix + layer.name,
        type=type(layer).__name__,
        kind=_kind(layer.name, rule.kind, binary),
        output_shape=calls[0].output,
        parameters=sum(math.prod(weight.shape) for weight in weights),
        bytes=sum(map(_bytes, weights)),
        binary_macs=macs if binary else 0,
        float_macs=0 if binary else macs,
        elementwise=sum(rule.elementwise(layer, call) for call in calls),
        float_operations=(0 if binary else macs) + sum(as_published(layer, call) for call in calls),
    )


def _kind(name: str, of_rule: str, binary: bool) -> str:
    kind = next((place for pattern, place in _PLACES.items() if pattern.match(name)), of_rule)
    if kind in ("convolutions", "dense layers"):
        return f"{'binary' if binary else 'real'} {kind}"
    return kind


def _calls(model: tf.keras.Model) -> dict[int, list[Call]]:
    """Every call of a layer inside a network, by the layer's ``id``."""
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


def _bytes(weight: tf.Variable) -> int:
    count = math.prod(weight.shape)
    return math.ceil(count / 8) if is_one_bit(weight) else BYTES_PER_REAL_WEIGHT * count
