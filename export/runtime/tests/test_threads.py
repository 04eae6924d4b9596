"""Tests that up to four threads give one thread's bits, in small graphs that once failed and in whole networks."""

import contextlib
import os
import pathlib
import sys

import build_native
import numpy as np
import pytest

pytest.importorskip("larq_compute_engine")

from drawn_graphs import Motifs
from lce_model import SAME
from random_graphs import Runs


@contextlib.contextmanager
def cores(pinned):
    """Runs on all cores or, if `pinned`, on one, where threads take over each other's rows in almost every step."""
    if not pinned:
        yield
        return
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system cannot bind a process to a core")
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


PINNED = pytest.mark.parametrize("pinned", [False, True], ids=["free", "on one core"])


def assert_bits_of_one_thread(model, inputs, repetitions, kernels=None):
    """Asserts that 1 to 4 threads give one thread's bits; returns one thread's outputs for each input.

    The inputs alternate, so that a value left over from the previous inference would be wrong.
    """
    one_thread = Runs(model, kernels, 1)
    ones = [one_thread(x) for x in inputs]
    for threads in (1, 2, 3, 4):
        several = Runs(model, kernels, threads)
        for repetition in range(repetitions):
            for i, (x, one) in enumerate(zip(inputs, ones)):
                for ours, theirs in zip(several(x), one):
                    difference = f"{threads} threads, repetition {repetition}, input {i}"
                    np.testing.assert_array_equal(ours.view(np.uint8), theirs.view(np.uint8), difference)
    return ones


def average_computed_later(graph):
    """A gate's average is computed after the shortcut's two steps. Threads share the rows of those steps as well."""
    graph.begin((1, 32, 32, 64))
    x = graph.bconv(graph.quantize(graph.input), "float32", like=64)
    y = graph.bconv(graph.quantize(x), "float32", like=64, stride=2)
    shortcut = graph.conv(graph.pool(x, "AVERAGE_POOL_2D", (2, 2), 2, SAME), 64, 1)
    gated = graph.arithmetic(y, graph.gate(x, 64), "MUL")
    return [gated, shortcut]


def sums_over_rows_of_several_threads(graph):
    """An average sums rows of several threads: with only one block of channels, threads divide an image by rows."""
    graph.begin((2, 17, 9, 8))
    x = graph.bconv(graph.quantize(graph.input), "float32", like=32)
    return [graph.average(x)]


def bits_read_by_one_thread(graph):
    """Several threads pack bits, and one thread then copies them; the graph also computes an average."""
    graph.begin((1, 32, 32, 64))
    x = graph.bconv(graph.quantize(graph.input), "float32", like=64)
    bits = graph.quantize(x)
    return [graph.average(x), graph.dequantize(graph.reshape(bits, (1, 1024, 1, 64)))]


def window_stored_over_its_input(graph):
    """A convolution and the pool after it become one step; the pool's output is added to the convolution's input."""
    graph.begin((1, 32, 32, 64))
    x = graph.bconv(graph.quantize(graph.input), "float32", like=64)
    y = graph.pool(graph.conv(x, 64, 1), "MAX_POOL_2D", (3, 3), 1, SAME)
    return [graph.logistic(graph.arithmetic(y, x, "ADD"))]


@PINNED
@pytest.mark.parametrize(
    "build",
    [
        average_computed_later,
        sums_over_rows_of_several_threads,
        bits_read_by_one_thread,
        window_stored_over_its_input,
    ],
)
def test_small_graphs(kernels, rng, build, pinned):
    graph = Motifs(rng)
    graph.rough = True
    outputs = build(graph)
    model = graph.written(graph.operators, outputs)
    inputs = [rng.normal(0, 1, graph.input.shape).astype(np.float32) for _ in range(2)]
    with cores(pinned):
        assert_bits_of_one_thread(model, inputs, 10, kernels)


def larq_zoo_networks():
    import larq_zoo

    return {"Larq Zoo's RealToBinaryNet": larq_zoo.literature.RealToBinaryNet, "QuickNet": larq_zoo.sota.QuickNet}


SIZE = 96


@pytest.fixture(scope="module")
def photographs():
    """The middles of 40 preprocessed photographs, each float32 (1, SIZE, SIZE, 3)."""
    pytest.importorskip("r2b_zoo", reason="the zoo is not installed beside the runtime: pip install ../..")
    sys.path.insert(0, str(build_native.ROOT.parents[1] / "benchmarks"))
    agreement = pytest.importorskip("agreement", reason="the project's benchmarks/ are not beside the runtime")
    root = build_native.ROOT.parents[2] / "shared" / "tfds"
    data = pathlib.Path(os.environ.get("R2B_ZOO_TEST_DATA") or root)
    if not (data / "imagenet2012").is_dir():
        pytest.skip(f"no photographs: {data / 'imagenet2012'} is missing (set R2B_ZOO_TEST_DATA)")
    begin = (224 - SIZE) // 2
    middle = agreement.photographs(str(data), 40)[:, begin : begin + SIZE, begin : begin + SIZE]
    return [np.ascontiguousarray(photo[None]) for photo in middle]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "RealToBinaryNet",
        "StrongBaselineNet",
        "BiRealNet18",
        "XNORNet18",
        "BNN18",
        "ResNet18",
        "Larq Zoo's RealToBinaryNet",
        "QuickNet",
    ],
)
def test_networks_on_photographs(photographs, name):
    # r2b_zoo is imported before TensorFlow, because it selects Keras 2.
    converter = pytest.importorskip("r2b_zoo.conversion.converter")
    import networks
    import tensorflow

    import r2b_zoo

    pytest.importorskip("larq_zoo", reason="larq-zoo is not installed: pip install larq-zoo")
    # The seed is fixed, because with some random weights, QuickNet gives all photographs one class at probability 1.
    tensorflow.keras.utils.set_random_seed(0)
    constructor = larq_zoo_networks().get(name) or getattr(r2b_zoo, name)
    network = networks.randomise(constructor(weights=None, input_shape=(SIZE, SIZE, 3)))
    model = converter.lce_file(network)
    for pinned in (False, True):
        with cores(pinned):
            answers = assert_bits_of_one_thread(model, photographs, 2)
    assert len({answer.tobytes() for (answer,) in answers}) > 0.9 * len(photographs), (
        "too many photographs have the same answer: agreement between thread counts would show little"
    )
