"""Binary convolutions by counting bits, where r2b-runtime is installed and there is no GPU.

In the forward pass of a training step, r2b-runtime computes binary convolutions as in inference, faster than
TensorFlow's float convolution of ±1. Both are exact, so the results are equal. The gradients are convolutions of real
numbers, so TensorFlow computes them.
"""

import contextlib
import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Optional

import larq as lq
import numpy as np
import tensorflow as tf

from r2b_zoo.ops import convolution
from r2b_zoo.ops.switch import Switch
from r2b_zoo.system import runtime
from r2b_zoo.system.machine import available_cores

if TYPE_CHECKING:
    from r2b_runtime import Convolver

# Larq's quantiser that multiplies the signs of each filter by a factor, and those that give only ±1.
_SCALED_SIGN = lq.quantizers.MagnitudeAwareSign
_SIGNS = (lq.quantizers.SteSign, lq.quantizers.ApproxSign, lq.quantizers.SwishSign)
# r2b-runtime computes groups of this many channels. It computes remaining channels one by one, which is slower than
# TensorFlow.
_CHANNELS_AT_A_TIME = 32


class _Counting(Switch):
    """Whether bits are counted, and a convolver per thread: replicas are traced in threads and run in parallel."""

    @functools.cached_property
    def convolver(self) -> "Convolver":
        import r2b_runtime

        # Use half of the cores, because the teacher's convolutions run at the same time.
        return r2b_runtime.Convolver(max(1, _cores() // 2))


_counting = _Counting()


def _cores() -> int:
    return tf.config.threading.get_intra_op_parallelism_threads() or available_cores()


def why_not_counting() -> Optional[str]:
    """A message for people who train a binary network here without r2b-runtime; None with it, or with a GPU."""
    if runtime.is_installed() or tf.config.get_visible_devices("GPU"):
        return None
    return (
        "r2b-runtime is not installed, so binary convolutions are computed as convolutions of floats, which gives the "
        "same values and takes longer: pip install ./export/runtime"
    )


@contextlib.contextmanager
def counting_bits(wanted: bool = True) -> Iterator[None]:
    """Within the ``with`` statement binary convolutions count bits where they can: the same values in less time.

    Args:
        wanted: False for code that XLA compiles as a whole, because such code cannot call Python functions.
    """
    with _counting.set_to(wanted and runtime.is_installed() and not tf.config.get_visible_devices("GPU")):
        yield


def convolve(layer: lq.layers.QuantConv2D, inputs: tf.Tensor, kernel: tf.Variable) -> Optional[tf.Tensor]:
    """The output of the layer's convolution, (N, H', W', O); None if bits are not to be counted, or cannot be.

    If the kernel's quantiser scales the filters, the scale multiplies the exact sums of signs, so the last digits may
    differ from those of a sum of scaled products. The gradients are those of a convolution with the scaled
    kernel.

    Args:
        layer: the binary convolution.
        inputs: quantised inputs, (N, H, W, C), float32.
        kernel: (height, width, C, O), float32; it is quantised when it is read.
    """
    if not _counting.on or not _can_be_counted(layer, inputs.shape[-1]):
        return None
    convolver, strides, padding = _counting.convolver, layer.strides, layer.padding

    def counted(inputs: np.ndarray, kernel: np.ndarray) -> np.ndarray:
        return convolver(inputs, kernel, strides, padding)

    is_scaled = isinstance(layer.kernel_quantizer, _SCALED_SIGN)

    @tf.custom_gradient
    def convolved(inputs: tf.Tensor, kernel: tf.Tensor) -> Any:
        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return convolution.gradients(inputs, kernel, upstream, strides, padding, tf.float32)

        output = tf.numpy_function(counted, [inputs, kernel], tf.float32, stateful=False)
        output = tf.ensure_shape(output, layer.compute_output_shape(inputs.shape))
        return output * convolution.factors(kernel) if is_scaled else output, gradient

    return convolved(inputs, tf.convert_to_tensor(kernel))


def _can_be_counted(layer: lq.layers.QuantConv2D, channels: int) -> bool:
    return (
        isinstance(layer.input_quantizer, _SIGNS)
        and isinstance(layer.kernel_quantizer, (*_SIGNS, _SCALED_SIGN))
        and convolution.is_plain(layer)
        and layer.variable_dtype == "float32"
        and channels % _CHANNELS_AT_A_TIME == layer.filters % _CHANNELS_AT_A_TIME == 0
    )
