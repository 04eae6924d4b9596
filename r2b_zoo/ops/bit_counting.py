"""Convolutions of signs with signs by counting bits, where r2b-runtime is installed and there is no GPU.

On the way forward, a binary convolution of a training step is what r2b-runtime does in an inference, and takes less
time than the float convolution of ±1 that TensorFlow offers. Both are exact, and so equal. The gradients are
convolutions of real numbers, and stay TensorFlow's.
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

# Quantisers of Larq that give ±1 and nothing else, and the one that gives kernels ± a factor per filter.
_SCALED_SIGN = lq.quantizers.MagnitudeAwareSign
_SIGNS = (lq.quantizers.SteSign, lq.quantizers.ApproxSign, lq.quantizers.SwishSign)
# r2b-runtime computes so many channels at a time. Of fewer it does one by one, and TensorFlow is faster.
_CHANNELS_AT_A_TIME = 32


class _Counting(Switch):
    """Whether bits are counted, and by whom: replicas, each traced in a thread, run at the same time."""

    @functools.cached_property
    def convolver(self) -> "Convolver":
        import r2b_runtime

        # The teacher's convolutions run at the same time; two teams of all cores would be in each other's way.
        return r2b_runtime.Convolver(max(1, _cores() // 2))


_counting = _Counting()


def _cores() -> int:
    return tf.config.threading.get_intra_op_parallelism_threads() or available_cores()


def why_not_counting() -> Optional[str]:
    """What to tell who trains a binary network here, if bits could be counted and are not."""
    if runtime.is_installed() or tf.config.get_visible_devices("GPU"):
        return None
    return (
        "r2b-runtime is not installed, so binary convolutions are computed as convolutions of floats, which gives the "
        "same values and takes longer: pip install ./export/runtime"
    )


@contextlib.contextmanager
def counting_bits(wanted: bool = True) -> Iterator[None]:
    """Binary convolutions that are called in the block count bits, where they can: the same values in less time.

    Args:
        wanted: False for what XLA compiles as a whole, which takes in nothing from outside.
    """
    with _counting.set_to(wanted and runtime.is_installed() and not tf.config.get_visible_devices("GPU")):
        yield


def convolve(layer: lq.layers.QuantConv2D, inputs: tf.Tensor, kernel: tf.Variable) -> Optional[tf.Tensor]:
    """What the layer's convolution gives, (N, H', W', O); None where bits are not to be counted, or cannot be.

    A scale of the filters multiplies the sums of signs, which are exact, so that its last digits may differ from those
    of a sum of scaled products. The gradients are of the scaled kernel.

    Args:
        inputs: quantised, (N, H, W, C), float32.
        kernel: read quantised, (height, width, C, O), float32.
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
