"""The optimizer of every recipe."""

import tensorflow as tf

from r2b_zoo.identity import PACKAGE


@tf.keras.utils.register_keras_serializable(PACKAGE)
class Adam(tf.keras.optimizers.Adam):
    """Computes the same as Keras' Adam (Kingma & Ba, 2015; weight decay: Loshchilov & Hutter, 2019), but faster.

        m ← β₁ m + (1 − β₁) g,   v ← β₂ v + (1 − β₂) g²,   w ← w − rate · √(1 − β₂ᵗ) / (1 − β₁ᵗ) · m / (√v + ε)

    Here g is the gradient of a weight w, and t counts steps from 1. Weight decay is applied before this update.
    This class updates a variable with a single operator. Keras uses thirty, and each passes over the variable's memory.
    """

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable) -> None:
        index = self._index_dict[self._var_key(variable)]
        step = tf.cast(self.iterations + 1, variable.dtype)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].handle,
            v=self._velocities[index].handle,
            beta1_power=tf.pow(tf.cast(self.beta_1, variable.dtype), step),
            beta2_power=tf.pow(tf.cast(self.beta_2, variable.dtype), step),
            lr=tf.cast(self.learning_rate, variable.dtype),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=gradient,
        )
