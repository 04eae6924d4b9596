"""The Real-to-Binary network and its strong baseline.

Martínez, Yang, Bulat, Tzimiropoulos: "Training binary neural networks with real-to-binary convolutions", ICLR 2020.
"""

from collections.abc import Callable

import tensorflow as tf

from r2b_zoo.models import topology
from r2b_zoo.models.layers import Add, ChannelGate, ChannelScale, LearnedScale
from r2b_zoo.models.parts import GATE_REDUCTION_OPTION, PRELU_SLOPE_OPTION, Parts, weight_scale_option

SIGN = "ste_sign"

Rescale = Callable[[Parts, tf.Tensor, tf.Tensor, str], tf.Tensor]
"""``rescale(parts, x, y, name)`` rescales the output y of a binary convolution; x is its input before the sign."""


def _gate(parts: Parts, x: tf.Tensor, y: tf.Tensor, name: str) -> tf.Tensor:
    """Data-driven channel rescaling: multiplies y by the gate G(x) (section 4.3, equation 3).

    With ``weight_scale="mean"``, α is already in the convolution's kernel, and so in y. With ``"learned"``, α also has
    a learned factor per filter, which is applied here.
    """
    if parts.options["weight_scale"] == "learned":
        y = ChannelScale(name=f"{name}_weight_scale")(y)
    return ChannelGate(parts.options["gate_reduction"], name=f"{name}_gate")([x, y])


def _scale(_: Parts, __: tf.Tensor, y: tf.Tensor, name: str) -> tf.Tensor:
    """Learned static rescaling, as in XNOR-Net++ (section 4.1)."""
    return LearnedScale(name=f"{name}_scale")(y)


def _half_block(
    parts: Parts, rescale: Rescale, x: tf.Tensor, filters: int, strides: int, name: str, output: str
) -> tf.Tensor:
    """batch norm → sign → 3×3 convolution → rescale → PReLU → + shortcut (figure 1, left)."""
    skip = parts.shortcut(x, filters, strides, name, batch_norm_before_sign=True)
    real = parts.batch_norm(x, f"{name}_batch_norm")
    x = parts.conv(real, filters, strides, f"{name}_conv")
    x = rescale(parts, real, x, name)
    x = parts.prelu(x, f"{name}_prelu")
    return Add(name=output)([x, skip])


def _block(rescale: Rescale) -> topology.Block:
    """Makes a block of two half blocks with one convolution each, in place of a ResNet-18 block of two convolutions."""

    def block(parts: Parts, x: tf.Tensor, filters: int, strides: int, name: str) -> tf.Tensor:
        x = _half_block(parts, rescale, x, filters, strides, f"{name}a", output=f"{name}a")
        return _half_block(parts, rescale, x, filters, 1, f"{name}b", output=name)

    return block


RealToBinaryNet = topology.network(
    "RealToBinaryNet",
    _block(_gate),
    stem_activation=Parts.prelu,
    sign=SIGN,
    kernel=SIGN,
    options={
        "weight_scale": weight_scale_option(),
        "gate_reduction": GATE_REDUCTION_OPTION,
        "prelu_slope": PRELU_SLOPE_OPTION,
    },
    doc="""The Real-to-Binary network of Martínez et al., ICLR 2020: 65.4 % ImageNet top-1 in the paper (table 2).

    Half a block is batch norm → sign → 3×3 binary convolution → gate → PReLU → + shortcut. The gate multiplies every
    channel by a factor it computes from the real activations before the sign (section 4.3). The paper's network also
    has the scale α of the weights (equation 3), which this one has with ``weight_scale="mean"`` or ``"learned"``.

    ``weights="imagenet"`` loads the weights that Larq Zoo publishes: 65.01 % top-1, 85.72 % top-5, Apache-2.0. They
    belong to a network without α. ``weights="cifar10"`` loads small weights that come with this package, for CIFAR-10's
    classes; ``r2b list cifar10`` shows their network and their accuracy.
    """,
)

StrongBaselineNet = topology.network(
    "StrongBaselineNet",
    _block(_scale),
    stem_activation=Parts.prelu,
    sign=SIGN,
    kernel=SIGN,
    fixed_size=True,
    options={
        # There is no "learned", because LearnedScale includes a learned factor per filter.
        "weight_scale": weight_scale_option(("none", "mean")),
        "prelu_slope": PRELU_SLOPE_OPTION,
    },
    doc="""The strong baseline of Martínez et al., ICLR 2020, section 4.1: 60.9 % ImageNet top-1 in the paper (table 2).

    It is RealToBinaryNet with a learned static scale instead of the gate; the scale needs a fixed input size. With
    ``weight_scale="mean"``, each binary filter is also multiplied by the mean magnitude of its latent weights. The
    binary filters then have about the magnitude of the real ones, so the scales that were learned with real weights
    still fit.
    """,
)
