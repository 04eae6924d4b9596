"""The two ways to rescale the output of a binary convolution, and pooling.

Everything else the networks are built of comes from Keras or Larq.
"""

from typing import Any

import tensorflow as tf

PACKAGE = "r2b_zoo"


def global_average(x: tf.Tensor) -> tf.Tensor:
    """Mean over height and width, (N, H, W, C) → (N, C).

    One average pool where the size is known: LCE's and TFLite's fastest form, and the order of summation that the
    published weights were made with, which keeps every sign after it the same.
    """
    _, height, width, channels = x.shape
    if None in (height, width):
        return tf.reduce_mean(x, axis=[1, 2])
    return tf.reshape(tf.nn.avg_pool2d(x, [height, width], 1, "VALID"), [-1, channels])


@tf.keras.utils.register_keras_serializable(PACKAGE)
class GlobalAverage(tf.keras.layers.Layer):
    """``global_average`` as a layer."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return global_average(inputs)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape[0], input_shape[3]


@tf.keras.utils.register_keras_serializable(PACKAGE)
class ChannelGate(tf.keras.layers.Layer):
    """Data-driven channel rescaling: multiplies each channel by a factor computed from the real activations.

    With the real activations ``x`` (before the sign) and the output ``y`` of the binary convolution:

        G(x) = sigmoid(W2 · relu(W1 · mean over height and width of x)),   output = y ⊙ G(x)

    where W1 is (C_in, C_in / reduction), W2 is (C_in / reduction, C_out), neither with a bias.

    Called on a pair ``(x, y)`` of shapes (N, H, W, C_in) and (N, H', W', C_out); returns (N, H', W', C_out).
    The factors are in (0, 1).

    Source: Martínez et al., ICLR 2020, section 4.3.

    Raises:
        ValueError: ``reduction`` is less than 1 or larger than the channels of ``x``.
    """

    def __init__(self, reduction: int = 8, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if reduction < 1:
            raise ValueError(f"The gate's reduction must be at least 1, received {reduction}.")
        self.reduction = reduction

    def build(self, input_shape: Any) -> None:
        in_channels, out_channels = input_shape[0][-1], input_shape[1][-1]
        hidden = in_channels // self.reduction
        if hidden < 1:
            raise ValueError(
                f"The gate reduces {in_channels} channels by {self.reduction}, which leaves none: "
                "use a wider network or a smaller reduction."
            )
        self.reduce_kernel = self.add_weight("reduce_kernel", (in_channels, hidden), initializer="he_normal")
        self.expand_kernel = self.add_weight("expand_kernel", (hidden, out_channels), initializer="he_normal")
        super().build(input_shape)

    def call(self, inputs: Any) -> tf.Tensor:
        activations, convolved = inputs
        hidden = tf.nn.relu(tf.matmul(global_average(activations), self.reduce_kernel))
        factors = tf.sigmoid(tf.matmul(hidden, self.expand_kernel))
        return convolved * factors[:, tf.newaxis, tf.newaxis, :]

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape[1]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "reduction": self.reduction}


@tf.keras.utils.register_keras_serializable(PACKAGE)
class LearnedScale(tf.keras.layers.Layer):
    """Learned static rescaling by a rank-one tensor over height, width and channels.

        output[n, i, j, c] = x[n, i, j, c] · α[i] · β[j] · γ[c]

    Input and output are (N, H, W, C); H and W must be known when the layer is built, because α and β have their
    lengths. All three start at one.

    Source: Bulat & Tzimiropoulos, "XNOR-Net++", BMVC 2019, section 3.2, case 4; Martínez et al., section 4.1.

    Raises:
        ValueError: height, width or channels are unknown.
    """

    def build(self, input_shape: Any) -> None:
        _, height, width, channels = input_shape
        if None in (height, width, channels):
            raise ValueError(
                "LearnedScale has one factor per row, column and channel, so it needs a fixed input size; "
                f"received {tuple(input_shape)}. Pass input_shape=(height, width, channels) to the network."
            )
        self.height_scale = self.add_weight(name="height_scale", shape=(height, 1, 1), initializer="ones")
        self.width_scale = self.add_weight(name="width_scale", shape=(width, 1), initializer="ones")
        self.channel_scale = self.add_weight(name="channel_scale", shape=(channels,), initializer="ones")
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        # The channel factor first and by itself: a converter folds it into the binary convolution, and what is left
        # is one H×W plane instead of a full H×W×C tensor of constants in the file.
        return (inputs * self.channel_scale) * (self.height_scale * self.width_scale)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape
