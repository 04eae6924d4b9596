"""Rules that count the operations of each type of layer.

``costs`` defines MACs. The elementwise operations per image are:

==========================  =============================================================================
layer                       operations
==========================  =============================================================================
batch norm, rescaling       2 per element: multiply, add (batch norm as in inference). Table 1 of Martínez
                            et al. counts 4: subtract, divide, multiply, add
PReLU, ReLU, softmax, ...   1 per element, whatever the function
max and average pool        window h × w per output element, including taps on the padding
global pool                 1 per input element
add, multiply, ...          1 per output element for each input after the first; 1 more for an average
learned scale               1 per element, because α⊗β⊗γ is a constant
gate                        1 per element of x (pool), of the hidden layer (ReLU), of the factors (sigmoid)
                            and of y (multiplication), see ``ChannelGate``; its two dense layers are float MACs
convolution, dense          1 per output element for a bias, 1 for an activation, 1 for a scale of binary filters;
                            1 per input element for an input quantiser of more than one bit (tanh); 0 for a
                            sign, whose output is packed bits
reshape, concatenate, ...   none: they move data
==========================  =============================================================================
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Optional

import larq as lq
import tensorflow as tf

from r2b_zoo.models.layers import ChannelGate, ChannelScale, GlobalAverage, LearnedScale

keras = tf.keras.layers

Shape = tuple[int, ...]
"""A shape without the batch dimension."""


@dataclass(frozen=True)
class Call:
    """One call of a layer in a network: the shapes of its inputs and outputs, without the batch dimension."""

    inputs: tuple[Shape, ...]
    outputs: tuple[Shape, ...]

    @property
    def output(self) -> Shape:
        return self.outputs[0]


Count = Callable[[tf.keras.layers.Layer, Call], int]


@dataclass(frozen=True)
class Rule:
    """The rule that counts the operations of one type of layer.

    Attributes:
        kind: the part of a network to which such layers belong, see ``costs.LayerCost``.
        elementwise: counts the elementwise operations of one call.
        macs: counts the MACs of one call; None: there are none.
        published: counts the elementwise operations as table 1 of Martínez et al. does; None: as ``elementwise`` does.
    """

    kind: str
    elementwise: Count
    macs: Optional[Count] = None
    published: Optional[Count] = None


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
    """Operations of a layer besides its MACs: bias, activation, scale, and an input quantiser of more than one bit."""
    is_scaled = isinstance(getattr(layer, "kernel_quantizer", None), lq.quantizers.MagnitudeAwareSign)
    per_output = layer.use_bias + (layer.activation not in (None, tf.keras.activations.linear)) + is_scaled
    quantizer = getattr(layer, "input_quantizer", None)
    quantised = 0 if quantizer is None or is_one_bit(quantizer) else math.prod(call.inputs[0])
    return per_output * math.prod(call.output) + quantised


def _positions(layer: tf.keras.layers.Layer, shape: Shape) -> int:
    """Number of positions in one feature map: height × width, or the equivalent for other ranks."""
    return math.prod(shape[1:] if getattr(layer, "data_format", None) == "channels_first" else shape[:-1])


def _kernel(layer: tf.keras.layers.Layer) -> tf.Variable:
    return layer.depthwise_kernel if hasattr(layer, "depthwise_kernel") else layer.kernel


def _forward(layer: tf.keras.layers.Layer, call: Call) -> int:
    """MACs of a convolution or dense layer: every output position uses the whole kernel once."""
    return _positions(layer, call.output) * math.prod(_kernel(layer).shape)


def _transposed(layer: tf.keras.layers.Layer, call: Call) -> int:
    """MACs of a transposed convolution: every input position uses the whole kernel once."""
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
    **dict.fromkeys((ChannelScale, LearnedScale), Rule("scale", _per_output(1))),
    **dict.fromkeys(
        (keras.Conv1D, keras.Conv2D, keras.Conv3D, keras.DepthwiseConv1D, keras.DepthwiseConv2D),
        Rule("convolutions", _around_the_kernel, _forward),
    ),
    **dict.fromkeys(
        (keras.BatchNormalization, keras.Rescaling, keras.Normalization),
        Rule("batch norm", _per_output(2), published=_per_output(4)),
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
"""The rule of each type of layer and of its subclasses. Add your own types here."""

UNKNOWN = Rule("not counted", lambda *_: 0)


def rule_of(layer: tf.keras.layers.Layer) -> Rule:
    """The rule of a layer's type, or ``UNKNOWN``.

    Raises:
        ValueError: the layer has weights, and there is no rule for its type.
    """
    rule = next((RULES[base] for base in type(layer).__mro__ if base in RULES), UNKNOWN)
    if rule is UNKNOWN and layer.weights:
        raise ValueError(
            f"cost() has no rule for layers of type {type(layer).__name__}, and {layer.name!r} has "
            f"{layer.count_params()} weights: add one to r2b_zoo.evaluation.cost_rules.RULES."
        )
    return rule


def is_one_bit(quantised: Any) -> bool:
    """Whether a Larq quantiser, or a variable that is read through one, has one bit."""
    return getattr(quantised, "precision", None) == 1


def is_binary(layer: tf.keras.layers.Layer) -> bool:
    """Whether input and kernel are both quantised to one bit."""
    quantizer = getattr(layer, "input_quantizer", None)
    return quantizer is not None and is_one_bit(quantizer) and is_one_bit(_kernel(layer))
