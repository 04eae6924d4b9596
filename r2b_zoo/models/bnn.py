"""BNN: the first networks with both weights and activations at ±1.

Courbariaux, Hubara, Soudry, El-Yaniv, Bengio: "Binarized Neural Networks", NeurIPS 2016.
"""

import tensorflow as tf

from r2b_zoo.models import topology
from r2b_zoo.models.parts import Parts


def _block(parts: Parts, x: tf.Tensor, filters: int, strides: int, name: str) -> tf.Tensor:
    """Twice sign → 3×3 convolution → batch norm (algorithm 1), then + shortcut."""
    skip = parts.shortcut(x, filters, strides, name)
    x = parts.conv(x, filters, strides, f"{name}a_conv")
    x = parts.batch_norm(x, f"{name}a_batch_norm")
    x = parts.conv(x, filters, 1, f"{name}b_conv")
    x = parts.batch_norm(x, f"{name}b_batch_norm")
    return tf.keras.layers.Add(name=name)([x, skip])


BNN18 = topology.network(
    "BNN18",
    _block,
    # After a ReLU, the first sign would give only +1.
    stem_activation=Parts.no_activation,
    sign="ste_sign",
    kernel="ste_sign",
    doc="""BNN in the ResNet-18 topology, Courbariaux et al., NeurIPS 2016: 42.2 % ImageNet top-1.

    Half a block is sign → 3×3 binary convolution → batch norm, without any scale of the weights. The sign's gradient
    is that of clip(x, -1, 1). As in every network of the zoo, the stem and the classifier stay real. No ReLU follows
    the first convolution, because the first sign would then give only +1.
    """,
)
