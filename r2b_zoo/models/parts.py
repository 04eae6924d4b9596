"""Makes the layers of the zoo's networks, according to options and precision.

The papers' modules define the order of layers in a block; the layers themselves are made here, so that an option means
the same in every network.

Under a mixed-precision policy of Keras, the convolutions of the blocks compute in half precision, unless their feature
maps are tiny, and everything else computes in float32. The convolutions have most of the operations, and half precision
holds their sums of ±1 exactly: up to 256 in bfloat16 and 2,048 in float16, and twice that for an even number of
addends. The sums that the shortcuts pass from block to block are called the residual stream. If it were in half
precision, rounding would flip a few signs. Each would flip others in the next block, and after a few blocks the
activations would be quite different.
"""

import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf

from r2b_zoo.models.layers import Conv2D, FusedSteSign, FusedWeightClip, PReLU, QuantConv2D, tanh

DOWNSAMPLES = ("real", "binary")
WEIGHT_SCALES = ("none", "mean", "learned")
KERNEL_INITIALIZER = "glorot_normal"
# Keras' default, and Larq Zoo's value for the Real-to-Binary network; the paper gives none.
BATCH_NORM_MOMENTUM = 0.99
# He et al., ICCV 2015, section 2.1.
PRELU_SLOPE = 0.25
# Martínez et al., section 4.3.
GATE_REDUCTION = 8
# For outputs of fewer pixels than this, half precision is not worthwhile: a step would convert and reorder more values
# of kernels than of activations.
SMALLEST_HALF = 16


@dataclass(frozen=True)
class Option:
    """An argument that only some networks have.

    Attributes:
        default: its default value.
        check: ``check(argument, value)`` raises ValueError for a value that is not allowed.
        doc: its description in the constructor's documentation.
    """

    default: Any
    check: Callable[[str, Any], None]
    doc: str


def require_one_of(argument: str, value: Any, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ValueError(f"{argument} must be one of {', '.join(map(repr, allowed))}; received {value!r}.")


def require_positive(argument: str, value: Any) -> None:
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or int(value) < 1:
        raise ValueError(f"{argument} must be a positive integer; received {value!r}.")


def require_momentum(argument: str, value: Any) -> None:
    if not _is_number(value) or not 0 <= value < 1:
        raise ValueError(f"{argument} must be a number of at least 0 and below 1; received {value!r}.")


def _require_slope(argument: str, value: Any) -> None:
    if not _is_number(value) or not math.isfinite(value):
        raise ValueError(f"{argument} must be a finite number, for example {PRELU_SLOPE}; received {value!r}.")


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


PRELU_SLOPE_OPTION = Option(PRELU_SLOPE, _require_slope, "the slope below 0 that every PReLU starts with.")
GATE_REDUCTION_OPTION = Option(
    GATE_REDUCTION, require_positive, "the gate's hidden layer has 1 / gate_reduction of the channels it reads."
)


def weight_scale_option(allowed: Sequence[str] = WEIGHT_SCALES) -> Option:
    """The option for α of equation 3 of Martínez et al., for networks that offer a choice."""
    meanings = {
        "none": "binary kernels are ±1",
        "mean": "each filter is multiplied by the mean magnitude of its latent weights, a factor that the gradient "
        "treats as a constant",
        "learned": 'as "mean", times a learned factor per filter, which starts at 1',
    }
    return Option(
        "none",
        lambda argument, value: require_one_of(argument, value, allowed),
        "; ".join(f'"{value}": {meanings[value]}' for value in allowed) + ". Real kernels include their scale.",
    )


@dataclass(frozen=True)
class Parts:
    """Makes the layers of one network.

    Attributes:
        precision: "binary", "binary_activations" or "real".
        sign: the paper's quantiser of activations: the name of a Larq quantiser, or a quantiser object.
        kernel: the paper's quantiser of weights, given in the same way.
        policy: Keras' dtype policy for the convolutions of the blocks.
        downsample: whether the convolutions of the shortcuts are "real" or "binary" like those of the blocks.
        batch_norm_momentum: momentum of the running statistics.
        options: values of the options that only some networks have.
    """

    precision: str
    sign: Any
    kernel: Any
    policy: Any = "float32"
    downsample: str = "real"
    batch_norm_momentum: float = BATCH_NORM_MOMENTUM
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def input_quantizer(self) -> Any:
        """The paper's sign, or tanh in a real network: both saturate at ±1 (Martínez et al., section 4.2)."""
        return tanh if self.precision == "real" else _quantizer(self.sign)

    @property
    def kernel_quantizer(self) -> Any:
        if self.precision != "binary":
            return None
        # Larq's magnitude_aware_sign has the scale per filter (Martínez et al., equation 3), and the gradient of
        # section 3.4 of Bi-Real Net.
        has_scale = self.options.get("weight_scale", "none") != "none"
        return "magnitude_aware_sign" if has_scale else _quantizer(self.kernel)

    @property
    def kernel_constraint(self) -> Any:
        """A clip to ±1, because latent weights outside ±1 get no gradient through the clipped sign."""
        return FusedWeightClip() if self.precision == "binary" else None

    def conv(self, x: tf.Tensor, filters: int, strides: int, name: str, kernel_size: int = 3) -> tf.Tensor:
        """``input_quantizer`` → convolution without bias, with zero padding, as in every paper of the zoo."""
        return QuantConv2D(
            filters,
            kernel_size=kernel_size,
            strides=strides,
            padding="same",
            input_quantizer=self.input_quantizer,
            kernel_quantizer=self.kernel_quantizer,
            kernel_constraint=self.kernel_constraint,
            kernel_initializer=KERNEL_INITIALIZER,
            use_bias=False,
            dtype=self._policy_for(x, strides),
            name=name,
        )(x)

    def real_conv(self, x: tf.Tensor, filters: int, strides: int, name: str) -> tf.Tensor:
        """3×3 convolution without bias, with zero padding, of real inputs with real kernels."""
        return Conv2D(
            filters,
            kernel_size=3,
            strides=strides,
            padding="same",
            kernel_initializer=KERNEL_INITIALIZER,
            use_bias=False,
            dtype=self._policy_for(x, strides),
            name=name,
        )(x)

    def _policy_for(self, x: tf.Tensor, strides: int) -> Any:
        """The dtype policy of a convolution of ``x``; for a tiny output, the type of its variables."""
        height, width = x.shape[1:3]
        is_tiny = None not in (height, width) and -(-height // strides) * -(-width // strides) < SMALLEST_HALF
        return getattr(self.policy, "variable_dtype", self.policy) if is_tiny else self.policy

    def batch_norm(self, x: tf.Tensor, name: str) -> tf.Tensor:
        return tf.keras.layers.BatchNormalization(momentum=self.batch_norm_momentum, name=name)(x)

    def prelu(self, x: tf.Tensor, name: str) -> tf.Tensor:
        """PReLU with one slope per channel (He et al., ICCV 2015)."""
        slope = tf.keras.initializers.Constant(self.options["prelu_slope"])
        return PReLU(alpha_initializer=slope, shared_axes=[1, 2], name=name)(x)

    def relu(self, x: tf.Tensor, name: str) -> tf.Tensor:
        return tf.keras.layers.ReLU(name=name)(x)

    def no_activation(self, x: tf.Tensor, _: str) -> tf.Tensor:
        """The identity, for a stem before a sign: after a ReLU, no input of the sign would be negative."""
        return x

    def shortcut(
        self, x: tf.Tensor, filters: int, strides: int, name: str, *, batch_norm_before_sign: bool = False
    ) -> tf.Tensor:
        """The identity, or average pool, 1×1 convolution and batch norm if the block changes the shape.

        The pool's window and strides equal the block's strides: 2×2 for stride 2, no pool for stride 1.

        Args:
            x: input of the block, or of the half block, that the shortcut bypasses.
            filters: number of output channels of this block or half block.
            strides: strides of its first convolution.
            name: its name, with which the names of the shortcut's layers start.
            batch_norm_before_sign: whether the paper has a batch norm before each sign. A binary convolution of the
                shortcut then has one before its sign too, because nothing else centres the sums in the residual stream.
        """
        if strides == 1 and x.shape[-1] == filters:
            return x
        if strides > 1:
            x = tf.keras.layers.AveragePooling2D(strides, padding="same", name=f"{name}_shortcut_pool")(x)
        if self.downsample == "real":
            x = plain_conv(x, filters, 1, 1, f"{name}_shortcut_conv")
        else:
            if batch_norm_before_sign:
                x = self.batch_norm(x, f"{name}_shortcut_sign_batch_norm")
            x = self.conv(x, filters, 1, f"{name}_shortcut_conv", kernel_size=1)
        return self.batch_norm(x, f"{name}_shortcut_batch_norm")


def plain_conv(x: tf.Tensor, filters: int, kernel_size: int, strides: int, name: str) -> tf.Tensor:
    """A real convolution in float32 under every policy, for stem and shortcuts."""
    return tf.keras.layers.Conv2D(
        filters,
        kernel_size,
        strides=strides,
        padding="same",
        kernel_initializer=KERNEL_INITIALIZER,
        use_bias=False,
        name=name,
    )(x)


def _quantizer(identifier: Any) -> Any:
    """The quantiser, or the zoo's faster replacement with the same values if there is one."""
    return FusedSteSign() if identifier == "ste_sign" else identifier
