"""The zoo's own layers: convolutions for mixed precision, rescaling of their outputs, pooling, and fused layers.

All other layers of the networks come from Keras or Larq.
"""

import contextlib
import functools
import math
from collections.abc import Sequence
from typing import Any, Optional

import larq as lq
import tensorflow as tf

from r2b_zoo.identity import PACKAGE
from r2b_zoo.ops import bit_counting, convolution, fused
from r2b_zoo.ops.switch import Switch

# For outputs of fewer pixels than this, a CPU computes a kernel's gradient faster in float32, because reordering the
# operands for half precision takes longer than it saves.
FEW_PIXELS = 64

_in_float32 = Switch()
_compiled_whole = Switch()
_resizable = Switch()


def resizable_files() -> contextlib.AbstractContextManager[None]:
    """Networks traced within the ``with`` statement are converted to files whose input can be resized to a batch.

    The values are the same, but training such a network would be slower.
    """
    return _resizable.set_to(True)


def convolutions_in_float32() -> contextlib.AbstractContextManager[None]:
    """Networks called within the ``with`` statement compute in float32 with the same weights, whatever their policy."""
    return _in_float32.set_to(True)


def compiled_whole(wanted: bool = True) -> contextlib.AbstractContextManager[None]:
    """Networks called within the ``with`` statement use only operations that XLA can compile into one program.

    The compiled operations are deterministic.
    """
    return _compiled_whole.set_to(wanted)


class _CastsLast:
    """A convolution that casts to its policy's compute type after quantisation, and casts its output back.

    Keras casts inputs and weights first. In float16 a latent weight near 0 would lose its sign, and in every
    half-precision type the scale that a quantiser computes from a filter would lose digits. Here quantisers and their
    gradients work in float32; only the products and sums of the convolution are in half precision, which holds ±1
    exactly.
    Inputs of another type, for example from a Keras layer in half precision, are first cast to the weights' type.
    """

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        initialise: Any = cls.__init__
        shown: Any = super().__init__  # Keras' or Larq's constructor; help() shows its signature

        @functools.wraps(shown)
        def without_autocast(self: Any, *args: Any, **kwargs: Any) -> None:
            initialise(self, *args, **{"autocast": False, **kwargs})

        cls.__init__ = without_autocast  # type: ignore[method-assign]

    def add_weight(self, *args: Any, **kwargs: Any) -> tf.Variable:
        return super().add_weight(*args, experimental_autocast=False, **kwargs)  # type: ignore[misc]

    def convolution_op(self, inputs: tf.Tensor, kernel: tf.Variable) -> tf.Tensor:
        convolve = super().convolution_op  # type: ignore[misc]
        weights, compute = self.variable_dtype, self.compute_dtype  # type: ignore[attr-defined]
        inputs = tf.cast(inputs, weights)
        if _in_float32.on or weights == compute:
            counted = bit_counting.convolve(self, inputs, kernel) if isinstance(self, lq.layers.QuantConv2D) else None
            return convolve(inputs, kernel) if counted is None else counted
        kernel, scale = self._without_scale(tf.convert_to_tensor(kernel))

        def in_half(inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
            return tf.cast(convolve(tf.cast(inputs, compute), tf.cast(kernel, compute)), weights)

        # Read these now: Larq may change the padding during this call, and the gradient is computed after it.
        strides, padding = self.strides, self.padding  # type: ignore[attr-defined]

        @tf.custom_gradient
        def with_kernel_gradient_in_float32(inputs: tf.Tensor, kernel: tf.Tensor) -> Any:
            def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
                return convolution.gradients(inputs, kernel, upstream, strides, padding, tf.as_dtype(compute))

            return in_half(inputs, kernel), gradient

        function = with_kernel_gradient_in_float32 if self._has_few_pixels(inputs) else in_half
        output = function(inputs, kernel)
        return output if scale is None else scale * output

    def _has_few_pixels(self, inputs: tf.Tensor) -> bool:
        """Whether a CPU computes the kernel's gradient faster in float32."""
        sizes = self.compute_output_shape(inputs.shape)[1:3]  # type: ignore[attr-defined]
        known = None not in sizes and convolution.is_plain(self) and not tf.config.get_visible_devices("GPU")
        return known and math.prod(sizes) < FEW_PIXELS

    def _without_scale(self, kernel: tf.Tensor) -> tuple[tf.Tensor, Optional[tf.Tensor]]:
        """The kernel divided by its filters' scales, and these scales, (O,); kernel and None if it has no scales."""
        if not isinstance(getattr(self, "kernel_quantizer", None), lq.quantizers.MagnitudeAwareSign):
            return kernel, None
        # The gradient treats the scale as a constant. This division also divides the kernel's gradient by the scale,
        # which the multiplication after the convolution compensates.
        scale = tf.stop_gradient(convolution.factors(kernel))
        return tf.math.divide_no_nan(kernel, scale), scale


@tf.keras.utils.register_keras_serializable(PACKAGE)
class Conv2D(_CastsLast, tf.keras.layers.Conv2D):
    """Keras' ``Conv2D``; in mixed precision it computes in half precision, from float32 inputs to float32 outputs."""


_QUANTIZERS = ("input_quantizer", "kernel_quantizer")


def _of_type(quantizer: Any, dtype: str) -> Any:
    """The quantiser, or a copy of it that reads values of type ``dtype`` without a cast.

    Larq's quantisers are layers, which cast their input to the policy's type: in float16, −1e-9 would become −0, whose
    sign is +1.
    """
    if not isinstance(quantizer, tf.keras.layers.Layer) or quantizer.compute_dtype == dtype:
        return quantizer
    config = {**quantizer.get_config(), "dtype": dtype}
    twin = type(quantizer).from_config(config)
    twin._custom_metrics = getattr(quantizer, "_custom_metrics", None)
    return twin


def _known(quantizer: Any) -> Any:
    """The quantiser of a configuration; Keras restores classes from HDF5 files by itself, but not functions."""
    if isinstance(quantizer, dict) and quantizer.get("class_name") == "function":
        return tf.keras.utils.get_registered_object(quantizer["config"]) or quantizer
    return quantizer


@tf.keras.utils.register_keras_serializable(PACKAGE)
class QuantConv2D(_CastsLast, lq.layers.QuantConv2D):
    """Larq's ``QuantConv2D``; in mixed precision its quantisers, its input and its output are float32."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in _QUANTIZERS:
            setattr(self, name, _of_type(getattr(self, name), self.variable_dtype))

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "QuantConv2D":
        return super().from_config(
            {key: _known(value) if key in _QUANTIZERS else value for key, value in config.items()}
        )

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        fused.announce_sign(inputs)
        return super().call(inputs)


@tf.keras.utils.register_keras_serializable(PACKAGE)
class PReLU(tf.keras.layers.PReLU):
    """Keras' ``PReLU``: max(x, 0) + α · min(x, 0), (N, H, W, C) → (N, H, W, C).

    Within ``fused_for_training`` it passes over the activations' memory once in the forward pass and twice in the
    backward pass, instead of five and ten times. If x is the product of a channel gate, the same passes compute that
    product. The values are the same; the gradient of α is summed in another order.
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        output = fused.prelu(inputs, self.alpha) if fused.is_on() else None
        return super().call(inputs) if output is None else output


@tf.keras.utils.register_keras_serializable(PACKAGE)
class Add(tf.keras.layers.Add):
    """Keras' ``Add``; within ``fused_for_training`` one pass computes the PReLU before it and the sum."""

    def call(self, inputs: Sequence[tf.Tensor]) -> tf.Tensor:
        output = fused.add(inputs) if fused.is_on() else None
        return super().call(inputs) if output is None else output


@tf.keras.utils.register_keras_serializable(PACKAGE)
class MaxPooling2D(tf.keras.layers.MaxPooling2D):
    """Keras' ``MaxPooling2D``; within ``compiled_whole`` it uses operators whose gradient in XLA is deterministic.

    Images (N, H, W, C) must then have a known size. Value and gradient are those of Keras' layer; the first of equal
    maxima gets the gradient.
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        if not _compiled_whole.on:
            return super().call(inputs)
        outputs = self.compute_output_shape(inputs.shape)[1:3]
        padding, starts = [[0, 0]], []
        for size, output, window, stride in zip(inputs.shape[1:3], outputs, self.pool_size, self.strides, strict=True):
            missing = max((output - 1) * stride + window - size, 0)
            padding.append([missing // 2, missing - missing // 2])
            starts.append([slice(at, at + (output - 1) * stride + 1, stride) for at in range(window)])
        padded = tf.pad(inputs, [*padding, [0, 0]], constant_values=inputs.dtype.min)
        return functools.reduce(tf.maximum, [padded[:, rows, columns] for rows in starts[0] for columns in starts[1]])


@lq.utils.register_keras_custom_object
class FusedSteSign(lq.quantizers.SteSign):
    """Larq's ``SteSign``: -1 below 0, else +1; the gradient is that of the identity where |x| ≤ 1, else 0.

    The limit 1 is the default of ``clip_value``. Within ``fused_for_training`` value and gradient take one pass over
    memory each instead of three and four, and are bit for bit the same. The class is not called ``SteSign``, because
    Larq and HDF5 files find quantisers by the name of the class alone. The input is never cast, whatever the policy: in
    float16, −1e-9 would become −0, whose sign is +1.
    """

    def __init__(self, clip_value: Optional[float] = 1.0, **kwargs: Any) -> None:
        super().__init__(clip_value, **{"autocast": False, **kwargs})

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        if not fused.is_on() or self.clip_value is None:
            return super().call(inputs)
        return fused.sign(inputs, self.clip_value)


@lq.utils.register_keras_custom_object
class FusedWeightClip(lq.constraints.WeightClip):
    """Larq's ``WeightClip``, with the same bits: clips weights to ± ``clip_value`` by one operator instead of two."""

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        x = tf.convert_to_tensor(x)
        limit = tf.cast(self.clip_value, x.dtype)
        return tf.raw_ops.ClipByValue(t=x, clip_value_min=-limit, clip_value_max=limit)


def global_average(x: tf.Tensor, *, fixed_size: bool) -> tf.Tensor:
    """Mean over height and width, (N, H, W, C) → (N, C).

    A network that was built for a fixed size uses one average pool, which is fastest in Larq Compute Engine (LCE) and
    TFLite; others use a mean. The two sum in different orders, and one rounding error can flip a sign in a later layer.
    The choice must therefore be the same in every call. So it depends on how the network was built, and not on the size
    in a call, which is always known in eager execution. Larq Zoo chooses in the same way, so equal weights give equal
    signs.
    """
    _, height, width, channels = x.shape
    if fixed_size and None not in (height, width):
        pool = fused.average if fused.is_on() else fused.average_pool
        return tf.reshape(pool(x), [-1, channels])
    return tf.reduce_mean(x, axis=[1, 2])


def _has_fixed_size(shape: Any) -> bool:
    return None not in tuple(shape)[1:3]


@tf.keras.utils.register_keras_serializable(PACKAGE)
def tanh(x: tf.Tensor) -> tf.Tensor:
    """tanh that TensorFlow does not fuse with a convolution and a batch norm, for which it has no fused operator."""
    return tf.tanh(tf.ensure_shape(x, x.shape))


@tf.keras.utils.register_keras_serializable(PACKAGE)
class GlobalAverage(tf.keras.layers.Layer):
    """``global_average`` as a layer."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)

    def build(self, input_shape: Any) -> None:
        self._fixed_size = _has_fixed_size(input_shape)
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return global_average(inputs, fixed_size=self._fixed_size)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape[0], input_shape[3]


def hidden_units(channels: int, reduction: int) -> int:
    """The number of hidden units of a gate that reads ``channels`` channels. Raises ValueError if it is 0."""
    if channels < reduction:
        raise ValueError(
            f"The gate reduces {channels} channels by {reduction}, which leaves no hidden units: "
            "use a wider network or a smaller reduction."
        )
    return channels // reduction


@tf.keras.utils.register_keras_serializable(PACKAGE)
class ChannelGate(tf.keras.layers.Layer):
    """Data-driven channel rescaling: multiplies each channel by a factor computed from the real activations.

    With the real activations ``x`` (before the sign) and the output ``y`` of the binary convolution:

        G(x) = sigmoid(relu(m · W1) · W2),   output = y ⊙ G(x)

    where m (N, C_in) is the mean of x over height and width, W1 is (C_in, C_in / reduction), and W2 is
    (C_in / reduction, C_out). There are no biases.

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
        hidden = hidden_units(in_channels, self.reduction)
        self.reduce_kernel = self.add_weight("reduce_kernel", (in_channels, hidden), initializer="he_normal")
        self.expand_kernel = self.add_weight("expand_kernel", (hidden, out_channels), initializer="he_normal")
        self._fixed_size = _has_fixed_size(input_shape[0])
        super().build(input_shape)

    def call(self, inputs: Any) -> tf.Tensor:
        activations, convolved = inputs
        average = global_average(activations, fixed_size=self._fixed_size)
        if _resizable.on:
            # LCE's converter drops the reshape of the factors below, because one image does not need it; larger batches
            # do. Therefore reshape the average too, before the matrix products.
            average = tf.reshape(average, [-1, 1, 1, average.shape[-1]])
        hidden = tf.nn.relu(tf.matmul(average, self.reduce_kernel))
        factors = tf.sigmoid(tf.matmul(hidden, self.expand_kernel))
        factors = tf.reshape(factors, [-1, 1, 1, factors.shape[-1]])
        output = convolved * factors
        fused.note_product(output, convolved, factors)
        return output

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape[1]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "reduction": self.reduction}


@tf.keras.utils.register_keras_serializable(PACKAGE)
class ChannelScale(tf.keras.layers.Layer):
    """A learned factor per channel: output[n, i, j, c] = x[n, i, j, c] · s[c], and s starts at one.

    Input and output are (N, H, W, C). After a binary convolution whose filters are scaled by the mean magnitude m[c] of
    their latent weights, m[c] · s[c] is the scale α of the weights, and training starts from α = m[c]. Optimizers such
    as Adam take equally large steps for small and large parameters. As s is about 1 in every filter, a step therefore
    changes α by about the same fraction in every filter.

    Source: Martínez et al., ICLR 2020, equation 3.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)

    def build(self, input_shape: Any) -> None:
        self.scale = self.add_weight(name="scale", shape=(input_shape[-1],), initializer="ones")
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return inputs * self.scale

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape


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

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)

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
        _, height, width, channels = inputs.shape
        # LCE's converter folds a multiplication that follows a binary convolution into the convolution. That is right
        # for factors per channel, but for factors per position it gives a file that no engine can run. The reshapes
        # prevent this. The separate product with the plane makes the file store H×W constants instead of H×W×C.
        plane = tf.reshape(self.height_scale * self.width_scale, [height * width, 1])
        scaled = tf.reshape(inputs * self.channel_scale, [-1, height * width, channels]) * plane
        return tf.reshape(scaled, [-1, height, width, channels])

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape
