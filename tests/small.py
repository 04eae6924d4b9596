"""The networks of the zoo at a size that builds in a second."""

from functools import cache

import tensorflow as tf

import r2b_zoo

SMALL = {"input_shape": (32, 32, 3), "width": 16, "stem": "cifar", "num_classes": 10}

# Every network at every precision it has.
NETWORKS = [
    (name, precision)
    for name in r2b_zoo.list_models()
    for precision in ("binary", "binary_activations", "real")
    if name != "ResNet18" or precision == "real"
]
DEPLOYED = [(name, precision) for name, precision in NETWORKS if precision == "binary" or name == "ResNet18"]


@cache
def small_network(name: str, precision: str) -> tf.keras.Model:
    """One network per session, for tests that leave its structure alone; whoever needs certain weights sets them."""
    return r2b_zoo.create(name, precision=precision, **SMALL)
