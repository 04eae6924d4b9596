"""Bi-Real Net: a shortcut around every binary convolution.

Liu, Wu, Luo, Yang, Liu, Cheng: "Bi-Real Net: Enhancing the Performance of 1-bit CNNs with Improved Representational
Capability and Advanced Training Algorithm", ECCV 2018.
"""

import tensorflow as tf

from r2b_zoo.models import topology
from r2b_zoo.models.parts import Parts


def _half_block(parts: Parts, x: tf.Tensor, filters: int, strides: int, name: str, output: str) -> tf.Tensor:
    """sign → 3×3 convolution → batch norm → + shortcut (figure 3b)."""
    skip = parts.shortcut(x, filters, strides, name)
    x = parts.conv(x, filters, strides, f"{name}_conv")
    x = parts.batch_norm(x, f"{name}_batch_norm")
    return tf.keras.layers.Add(name=output)([x, skip])


def _block(parts: Parts, x: tf.Tensor, filters: int, strides: int, name: str) -> tf.Tensor:
    x = _half_block(parts, x, filters, strides, f"{name}a", output=f"{name}a")
    return _half_block(parts, x, filters, 1, f"{name}b", output=name)


BiRealNet18 = topology.network(
    "BiRealNet18",
    _block,
    # As in the authors' code, no ReLU follows the first convolution: after a ReLU, the first sign would give only +1.
    stem_activation=Parts.no_activation,
    # The gradient of approx_sign is the derivative of a piecewise quadratic function (section 3.3);
    # magnitude_aware_sign has the magnitude-aware gradient (section 3.4).
    sign="approx_sign",
    kernel="magnitude_aware_sign",
    doc="""Bi-Real Net with 18 layers, Liu et al., ECCV 2018: 56.4 % ImageNet top-1.

    Half a block is sign → 3×3 binary convolution → batch norm → + shortcut. The gradient of the activations' sign is
    the derivative of a piecewise quadratic function; the gradient of the weights includes their scale. No ReLU follows
    the first convolution.

    ``weights="imagenet"`` loads the weights that Larq Zoo publishes: 57.47 % top-1, 79.84 % top-5, Apache-2.0.
    """,
)
