"""The Real-to-Binary network and its strong baseline.

Martínez, Yang, Bulat, Tzimiropoulos: "Training binary neural networks with real-to-binary convolutions", ICLR 2020.
"""

from collections.abc import Callable

import tensorflow as tf

from r2b_zoo.layers import Add, ChannelGate, LearnedScale
from r2b_zoo.models import topology
from r2b_zoo.models.topology import Quantization

GATE_REDUCTION = 8
SIGN = "ste_sign"

Rescale = Callable[[tf.Tensor, tf.Tensor, str], tf.Tensor]
"""``rescale(x, y, name)``: the output y of a binary convolution, rescaled; x are the real activations it read."""


def _gate(x: tf.Tensor, y: tf.Tensor, name: str) -> tf.Tensor:
    """Data-driven channel rescaling (section 4.3)."""
    return ChannelGate(GATE_REDUCTION, name=f"{name}_gate")([x, y])


def _scale(_: tf.Tensor, y: tf.Tensor, name: str) -> tf.Tensor:
    """Learned static rescaling, as in XNOR-Net++ (section 4.1)."""
    return LearnedScale(name=f"{name}_scale")(y)


def _half_block(
    quantization: Quantization, rescale: Rescale, x: tf.Tensor, filters: int, strides: int, name: str, output: str
) -> tf.Tensor:
    """batch norm → sign → 3×3 convolution → rescale → PReLU → + shortcut (figure 1, left)."""
    skip = topology.shortcut(x, filters, strides, name)
    real = topology.batch_norm(x, f"{name}_batch_norm")
    x = quantization.conv(real, filters, strides, f"{name}_conv")
    x = rescale(real, x, name)
    x = topology.prelu(x, f"{name}_prelu")
    return Add(name=output)([x, skip])


def _block(rescale: Rescale) -> topology.Block:
    """Two half blocks take the place of one block of the real ResNet-18 and its two convolutions."""

    def block(quantization: Quantization, x: tf.Tensor, filters: int, strides: int, name: str) -> tf.Tensor:
        x = _half_block(quantization, rescale, x, filters, strides, f"{name}a", output=f"{name}a")
        return _half_block(quantization, rescale, x, filters, 1, f"{name}b", output=name)

    return block


RealToBinaryNet = topology.network(
    "RealToBinaryNet",
    _block(_gate),
    stem_activation=topology.prelu,
    sign=SIGN,
    kernel=SIGN,
    doc="""The Real-to-Binary network of Martínez et al., ICLR 2020: 65.4 % ImageNet top-1 in the paper (table 3).

    Half a block is batch norm → sign → 3×3 binary convolution → gate → PReLU → + shortcut. The gate multiplies every
    channel by a factor it computes from the real activations before the sign (section 4.3).

    ``weights="imagenet"`` loads the weights Larq Zoo publishes: 65.01 % top-1, 85.72 % top-5, Apache-2.0.
    """,
)

StrongBaselineNet = topology.network(
    "StrongBaselineNet",
    _block(_scale),
    stem_activation=topology.prelu,
    sign=SIGN,
    kernel=SIGN,
    fixed_size=True,
    doc="""The strong baseline of Martínez et al., ICLR 2020, section 4.1: 60.9 % ImageNet top-1 in the paper (table 3).

    As RealToBinaryNet with a learned static scale in the gate's place, which needs a fixed input size.
    """,
)
