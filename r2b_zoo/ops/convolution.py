"""Shared by bit counting and half precision: which convolutions they support, and their gradients."""

import tensorflow as tf


def is_plain(layer: tf.keras.layers.Conv2D) -> bool:
    """Whether strides and padding alone define the convolution: no dilation, groups or other data format."""
    return tuple(layer.dilation_rate) == (1, 1) and layer.groups == 1 and layer.data_format == "channels_last"


def factors(kernel: tf.Tensor) -> tf.Tensor:
    """The magnitude (O,) of each filter of a kernel (height, width, C, O) whose filters are ± one magnitude each."""
    return tf.reduce_max(tf.abs(kernel), axis=[0, 1, 2])


def gradients(
    inputs: tf.Tensor,
    kernel: tf.Tensor,
    upstream: tf.Tensor,
    strides: tuple[int, int],
    padding: str,
    compute_inputs_in: tf.DType,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Gradients of a plain float32 convolution by its inputs and by its kernel, both float32.

    Args:
        inputs: of the convolution, (N, H, W, C).
        kernel: of the convolution, (height, width, C, O).
        upstream: the gradient of its output, (N, H', W', O).
        strides: of the convolution.
        padding: "same" or "valid".
        compute_inputs_in: type in which the gradient by the inputs is computed; that by the kernel is in float32.
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
