"""ResNet-18, the real-valued network with which the others are compared, and the first teacher.

He, Zhang, Ren, Sun: "Deep Residual Learning for Image Recognition", CVPR 2016.
"""

import tensorflow as tf

from r2b_zoo.models import topology
from r2b_zoo.models.parts import Parts


def _block(parts: Parts, x: tf.Tensor, filters: int, strides: int, name: str) -> tf.Tensor:
    """conv → batch norm → ReLU → conv → batch norm → + shortcut → ReLU (figure 2 of He et al.)."""
    skip = parts.shortcut(x, filters, strides, name)
    x = parts.real_conv(x, filters, strides, f"{name}a_conv")
    x = parts.relu(parts.batch_norm(x, f"{name}a_batch_norm"), f"{name}a_relu")
    x = parts.real_conv(x, filters, 1, f"{name}b_conv")
    x = parts.batch_norm(x, f"{name}b_batch_norm")
    x = tf.keras.layers.Add(name=f"{name}_add")([x, skip])
    return parts.relu(x, name)


ResNet18 = topology.network(
    "ResNet18",
    _block,
    stem_activation=Parts.relu,
    precisions=("real",),
    doc="""The real-valued ResNet-18 of He et al., CVPR 2016.

    Where the shape changes, it has the shortcuts of the zoo's binary networks (average pool, then 1×1 convolution,
    instead of a strided 1×1 convolution), so that differences in accuracy come from the blocks. Parameters and MACs are
    the same either way. Its only precision is "real", with ReLU.
    """,
)
