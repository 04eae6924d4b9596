"""Networks of the zoo with random weights, converted once per process."""

from functools import cache

import numpy as np
import tensorflow as tf

import r2b_zoo
from r2b_zoo.conversion.converter import Conversion, convert
from r2b_zoo.models import topology
from tests.networks import randomize
from tests.small import FULL, SMALL


def images(count: int = 48) -> np.ndarray:
    return np.random.default_rng(3).normal(size=(count, 32, 32, 3)).astype(np.float32)


@cache
def converted(name: str, precision: str, blocks: tuple[int, ...] = FULL) -> tuple[tf.keras.Model, Conversion]:
    # Build a new network: other tests may set the weights of the one that tests.small.small_network returns.
    with topology._depth(*blocks):
        model = randomize(r2b_zoo.create(name, precision=precision, **SMALL))
    return model, convert(model, strict=precision == "binary")
