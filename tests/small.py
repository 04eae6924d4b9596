"""Small networks of the zoo, which build in a second, and shallow ones, which build faster still."""

from contextlib import AbstractContextManager
from functools import cache

import tensorflow as tf

import r2b_zoo
from r2b_zoo.models import topology

SMALL = {"input_shape": (32, 32, 3), "width": 16, "stem": "cifar", "num_classes": 10}

# The numbers of blocks in each section.
FULL = (2, 2, 2, 2)
SHALLOW = (1, 1)

# Every network, at every precision that it has.
NETWORKS = [
    (name, precision)
    for name in r2b_zoo.list_models()
    for precision in ("binary", "binary_activations", "real")
    if name != "ResNet18" or precision == "real"
]
DEPLOYED = [(name, precision) for name, precision in NETWORKS if precision == "binary" or name == "ResNet18"]


def shallow() -> AbstractContextManager[None]:
    """Networks that are built in this context have two blocks: one that keeps the shape, and one that changes it.

    Use it where depth makes no difference; test facts of the papers' networks on the full networks.
    """
    return topology._depth(*SHALLOW)


@cache
def small_network(name: str, precision: str, blocks: tuple[int, ...] = FULL) -> tf.keras.Model:
    """A network that tests share: a test must set the weights that it needs, and must not change anything else."""
    with topology._depth(*blocks):
        return r2b_zoo.create(name, precision=precision, **SMALL)
