"""Tests a plan's steps: threads share the large ones, and common operators are fused into larger steps."""

import numpy as np
import pytest
import r2b_runtime

pytest.importorskip("larq_compute_engine")

import drawing
from conftest import delegated, run
from drawn_graphs import Motifs
from lce_model import NONE, SAME

SMALL = 16384  # kSmallWork of executor.cc, in products; these tests compare a step's number of values with it


def steps_of(graph, outputs, threads=2):
    """Runs the graph once and returns the descriptions of its steps."""
    model = graph.written(graph.operators, outputs)
    interpreter = delegated(model, num_threads=threads, profile=True)
    interpreter.allocate_tensors()
    interpreter.invoke()
    return [text for _, _, text in r2b_runtime.profile(interpreter.delegate)[1]]


def segments(graph):
    """Builds a graph with class probabilities for each pixel, an attention map and unpacked bits; returns outputs."""
    graph.begin((1, 52, 52, 24))
    x = graph.bconv(graph.quantize(graph.input), "float32", like=16)
    attention = graph.logistic(graph.conv(x, 1, 1))
    x = graph.arithmetic(graph.arithmetic(x, attention, "ADD"), attention, "MUL")
    bits = graph.bmaxpool(graph.quantize(x))
    spread = graph.arithmetic(x, graph.average(x), "SUB")
    return [graph.softmax(graph.conv(spread, 8, 1)), graph.dequantize(bits), graph.logistic(graph.reshaped(spread))]


def swishes(graph):
    graph.begin((1, 40, 40, 40))
    x = graph.bconv(graph.quantize(graph.input), "float32", like=40)
    x = graph.arithmetic(x, graph.logistic(x), "MUL")
    x = graph.arithmetic(x, x, "MUL")
    inverse = graph.arithmetic(graph.logistic(graph.pool(x, "MAX_POOL_2D", (2, 2), 1, SAME)), x, "SUB")
    return [x, inverse]


@pytest.mark.parametrize("build", [segments, swishes])
def test_large_steps_are_shared_among_threads(rng, build):
    graph = Motifs(rng)
    steps = steps_of(graph, build(graph))
    for step in steps:
        kind, shape = step.split(":")[0].split()
        values = np.prod([int(size) for size in shape.split("x")])
        # A mean is listed with the shape of its input, but it only finishes sums that an earlier step has begun.
        assert "(one thread)" not in step or kind == "mean" or values <= SMALL, steps


def test_small_steps_are_done_by_one_thread(rng):
    graph = Motifs(rng)
    graph.begin((1, 8, 8, 32))
    x = graph.bconv(graph.quantize(graph.input), "float32", like=32)
    steps = steps_of(graph, [graph.softmax(graph.arithmetic(x, graph.gate(x, 32), "MUL"))])
    alone = [step.split()[0] for step in steps if "(one thread)" in step]
    assert {"mean", "dense", "logistic", "softmax"} <= set(alone), steps
    assert not any("(one thread)" in step for step in steps_of(graph, graph.values[-1:], threads=1))


@pytest.mark.parametrize(
    ("build", "operators"),
    [
        (lambda graph, x: graph.arithmetic(x, x, "MUL"), "MUL"),
        (lambda graph, x: graph.arithmetic(x, x, "ADD"), "ADD"),
        (lambda graph, x: graph.arithmetic(x, graph.logistic(x), "MUL"), "LOGISTIC MUL"),
        (lambda graph, x: graph.logistic(x), "LOGISTIC"),
        (lambda graph, x: graph.arithmetic(x, graph.conv(graph.input, 1, 1), "ADD"), "ADD"),
        (lambda graph, x: graph.arithmetic(x, graph.conv(graph.input, 1, 1), "MUL"), "MUL"),
    ],
    ids=["square", "double", "swish", "logistic", "one channel added", "one channel multiplied"],
)
def test_usual_operators_are_part_of_the_convolution(rng, build, operators):
    graph = Motifs(rng)
    graph.begin((1, 8, 8, 32))
    x = graph.bconv(graph.quantize(graph.input), "float32", like=40)
    y = build(graph, x)
    steps = steps_of(graph, [graph.prelu(y)])
    assert any(step.endswith(f": LceBconv2d {operators} PRELU") for step in steps), steps


def test_logistic_output_that_is_read_elsewhere_is_stored(kernels, rng, monkeypatch):
    monkeypatch.setattr(drawing, "ACTIVATIONS", (NONE,))
    graph = Motifs(rng)
    graph.begin((1, 9, 7, 40))
    x = graph.bconv(graph.quantize(graph.input), "float32", like=40)
    sigma = graph.logistic(x)
    outputs = [graph.arithmetic(x, sigma, "MUL"), x, sigma]
    model = graph.written(graph.operators, outputs)
    (product, x, sigma) = run(model, [rng.normal(0, 1, (1, 9, 7, 40)).astype(np.float32)], kernels=kernels)
    np.testing.assert_array_equal(product, x * sigma)
    np.testing.assert_allclose(sigma, 1 / (1 + np.exp(-x.astype(np.float64))), rtol=1e-5)
