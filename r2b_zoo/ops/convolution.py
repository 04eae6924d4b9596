"""Says which convolutions bit counting and half precision support, and computes the gradients of such convolutions."""

import tensorflow as tf


def is_plain(layer: tf.keras.layers.Conv2D) -> bool:
    """Whether strides and padding alone define the convolution: no dilation, groups or other data format."""
    return tuple(layer.dilation_rate) == (1, 1) and layer.groups == 1 and layer.data_format == "channels_last"


def factors(kernel: tf.Tensor) -> tf.Tensor:
    """The magnitude (O,) that all values of a filter share, for a quantised kernel (height, width, C, O)."""
    return tf.reduce_max(tf.abs(kernel), axis=[0, 1, 2])


def gradients(
    inputs: tf.Tensor,
    kernel: tf.Tensor,
    upstream: tf.Tensor,
    strides: tuple[int, int],
    padding: str,
    compute_inputs_in: tf.DType,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Gradients of a plain float32 convolution with respect to its inputs and its kernel, both float32.

    Args:
        inputs: the convolution's inputs, (N, H, W, C).
        kernel: the convolution's kernel, (height, width, C, O).
        upstream: the gradient with respect to its output, (N, H', W', O).
        strides: the convolution's strides.
        padding: "same" or "valid".
        compute_inputs_in: type in which the inputs' gradient is computed; the kernel's is computed in float32.
    """
    options = {"strides": [1, *strides, 1], "padding": padding.upper()}
    of_inputs = tf.raw_ops.Conv2DBackpropInput(
        input_sizes=tf.shape(inputs),
        filter=tf.cast(kernel, compute_inputs_in),
        out_backprop=tf.cast(upstream, compute_inputs_in),
        **options,
    )
    of_kernel = tf.raw_ops.Conv2DBackpropFilter(
        input=inputs, filter_sizes=tf.shape(kernel), out_backprop=upstream, **options
    )
    return tf.cast(of_inputs, inputs.dtype), of_kernel
