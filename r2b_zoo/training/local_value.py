"""Values of variables that every replica has a copy of."""

from typing import Any

import tensorflow as tf


def local_value(variable: tf.Variable) -> Any:
    """The value of this process's first replica, as an array; asks no other process for theirs."""
    return tf.distribute.get_strategy().experimental_local_results(variable)[0].numpy()
