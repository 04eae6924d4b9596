"""The networks of the zoo at a size that builds in a second, and shallow ones, which build in less."""

from contextlib import AbstractContextManager
from functools import cache

import tensorflow as tf

import r2b_zoo
from r2b_zoo.models import topology

SMALL = {"input_shape": (32, 32, 3), "width": 16, "stem": "cifar", "num_classes": 10}

# Blocks of each section.
FULL = (2, 2, 2, 2)
SHALLOW = (1, 1)

# Every network at every precision it has.
NETWORKS = [
    (name, precision)
    for name in r2b_zoo.list_models()
    for precision in ("binary", "binary_activations", "real")
    if name != "ResNet18" or precision == "real"
]
DEPLOYED = [(name, precision) for name, precision in NETWORKS if precision == "binary" or name == "ResNet18"]


def shallow() -> AbstractContextManager[None]:
    """The networks of the zoo have two blocks: one that keeps the shape, and one that changes it.

    For tests of what does not depend on depth; facts of the papers' networks are tested on the papers' networks.
    """
    return topology._depth(*SHALLOW)


@cache
def small_network(name: str, precision: str, blocks: tuple[int, ...] = FULL) -> tf.keras.Model:
    """One network per session, for tests that leave its structure alone; whoever needs certain weights sets them."""
    with topology._depth(*blocks):
        return r2b_zoo.create(name, precision=precision, **SMALL)
