"""Batch norm over a batch that is split over several devices."""

from collections.abc import Callable
from typing import Any, Optional

import tensorflow as tf

from r2b_zoo.identity import PACKAGE


@tf.keras.utils.register_keras_serializable(PACKAGE)
class SynchronisedBatchNormalization(tf.keras.layers.BatchNormalization):
    """Keras' batch norm of (N, H, W, C), with the statistics of the whole batch in training, not of one replica's part.

    With x̂ = (x − μ) / √(σ² + ε), μ and σ² over the images of all replicas:

        output = γ x̂ + β,   ∂/∂x = γ / √(σ² + ε) · (d − mean(d) − x̂ · mean(d · x̂))

    where d is the gradient with respect to the output and the means are over all replicas too. The running variance is
    unbiased, as in the fused operator that Keras uses on one device. Up to rounding, several devices therefore compute
    the same as one device with the whole batch. All replicas must have the same number of images. The forward
    pass and the backward pass have one all-reduce each.

    Source: Ioffe & Szegedy, ICML 2015, algorithm 1 and section 3.
    """

    def call(self, inputs: tf.Tensor, training: Optional[bool] = None, mask: Any = None) -> tf.Tensor:
        if not training or not self.trainable:
            return super().call(inputs, training=False, mask=mask)
        images = tf.cast(inputs, self.moving_mean.dtype)  # half precision is too coarse for statistics
        gamma, beta = tf.convert_to_tensor(self.gamma), tf.convert_to_tensor(self.beta)
        output, mean, variance = _normalise(self.epsilon)(images, gamma, beta)
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        count = tf.cast(tf.size(images) // tf.size(mean) * replicas, variance.dtype)
        unbiased = variance * (count / tf.maximum(count - 1, 1))
        for average, value in ((self.moving_mean, mean), (self.moving_variance, unbiased)):
            average.assign(self.momentum * tf.convert_to_tensor(average) + (1 - self.momentum) * value)
        return tf.cast(output, inputs.dtype)


def _normalise(epsilon: float) -> Callable[..., tuple[tf.Tensor, tf.Tensor, tf.Tensor]]:
    """A function of images, γ and β that gives the output, and mean and variance over all replicas."""

    @tf.custom_gradient
    def normalise(images: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor) -> Any:
        mean, variance = _moments(images)
        if images.dtype == tf.float64:  # the fused operator does not support it
            output = tf.nn.batch_normalization(images, mean, variance, beta, gamma, epsilon)
        else:
            # The gradient is custom, because the operator's own treats given statistics as constants.
            output, _, _ = tf.compat.v1.nn.fused_batch_norm(
                images, gamma, beta, mean=mean, variance=variance, epsilon=epsilon, is_training=False
            )
        scale = tf.math.rsqrt(variance + epsilon)

        def gradient(upstream: tf.Tensor, *_: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            normalised = (images - mean) * scale
            beta_gradient = tf.reduce_sum(upstream, axis=[0, 1, 2])
            gamma_gradient = tf.reduce_sum(upstream * normalised, axis=[0, 1, 2])
            count = tf.cast(tf.size(images) // tf.size(mean), images.dtype)
            means = _mean_of_replicas(tf.stack([beta_gradient, gamma_gradient]) / count)
            images_gradient = gamma * scale * (upstream - means[0] - normalised * means[1])
            # The gradients of γ and β are this replica's; the optimizer sums them over replicas.
            return images_gradient, gamma_gradient, beta_gradient

        return (output, mean, variance), gradient

    return normalise


def _moments(images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Mean and variance per channel over all replicas.

    They are computed from every replica's own mean and variance, because E[x²] − E[x]² would lose digits.
    """
    context = tf.distribute.get_replica_context()
    replicas = context.num_replicas_in_sync
    own = tf.stack(tf.nn.moments(images, axes=[0, 1, 2]))
    # Each replica has a place in one tensor, so that one all-reduce gathers all values.
    place = tf.one_hot(context.replica_id_in_sync_group, replicas, dtype=own.dtype)
    means, variances = tf.unstack(_sum_over_replicas(tf.reshape(place, [-1, 1, 1]) * own), axis=1)
    mean = tf.reduce_mean(means, axis=0)
    return mean, tf.reduce_mean(variances + tf.math.squared_difference(means, mean), axis=0)


def _mean_of_replicas(value: tf.Tensor) -> tf.Tensor:
    return _sum_over_replicas(value) / tf.distribute.get_strategy().num_replicas_in_sync


def _sum_over_replicas(value: tf.Tensor) -> tf.Tensor:
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, value)
