"""XNOR-Net: binary weights scaled by their mean magnitude.

Rastegari, Ordonez, Redmon, Farhadi: "XNOR-Net: ImageNet Classification Using Binary Convolutional Neural Networks",
ECCV 2016.
"""

import tensorflow as tf

from r2b_zoo.models import topology
from r2b_zoo.models.parts import Parts


def _block(parts: Parts, x: tf.Tensor, filters: int, strides: int, name: str) -> tf.Tensor:
    """Twice batch norm → sign → 3×3 convolution (figure 3, right), then + shortcut."""
    skip = parts.shortcut(x, filters, strides, name, batch_norm_before_sign=True)
    x = parts.batch_norm(x, f"{name}a_batch_norm")
    x = parts.conv(x, filters, strides, f"{name}a_conv")
    x = parts.batch_norm(x, f"{name}b_batch_norm")
    x = parts.conv(x, filters, 1, f"{name}b_conv")
    return tf.keras.layers.Add(name=name)([x, skip])


XNORNet18 = topology.network(
    "XNORNet18",
    _block,
    stem_activation=Parts.relu,
    sign="ste_sign",
    kernel="magnitude_aware_sign",
    doc="""XNOR-Net in the ResNet-18 topology, Rastegari et al., ECCV 2016: 51.2 % ImageNet top-1.

    Half a block is batch norm → sign → 3×3 convolution with weights α · sign(W), where α is the mean of |W| over a
    filter (equation 6). The scale K of the activations (section 3.2) is left out, as is common in re-implementations:
    it would need a real-valued box filter over every input at run time.
    """,
)
