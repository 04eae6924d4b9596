"""Compares whole networks with Larq Compute Engine's interpreter, and tests threads and the freeing of interpreters."""

import gc
import os
import resource
import sys
import threading

import build_native
import lce_model
import numpy as np
import pytest
import r2b_runtime
from conftest import delegated, run, run_lce


def half_blocks(rng, size=14, channels=64, blocks=3, batch=1):
    """A small Real-to-Binary network as bytes: stem, pooling, gated half blocks (the second has stride 2), logits.

    `size` is the height and width of the first half block's input; the network's input is four times as high and wide.
    """
    from tensorflow.lite.python import schema_py_generated as schema

    def conv(stride):
        options = schema.Conv2DOptionsT()
        options.strideW = options.strideH = stride
        options.dilationWFactor = options.dilationHFactor = 1
        return options

    def pool(filter_size, stride, padding):
        options = schema.Pool2DOptionsT()
        options.padding, options.filterWidth, options.filterHeight = padding, filter_size, filter_size
        options.strideW = options.strideH = stride
        return options

    def dense(activation=0):
        options = schema.FullyConnectedOptionsT()
        options.fusedActivationFunction = activation
        return options

    model = lce_model.Model()
    value = model.input((batch, size * 4, size * 4, 3))
    shape = (batch, size * 2, size * 2, channels)

    def new(dims, dtype="float32"):
        return model.tensor(dims, dtype)

    stem, activated, x = new(shape), new(shape), new((batch, size, size, channels))
    weights = model.constant(rng.normal(0, 0.2, (channels, 7, 7, 3)))
    model.builtin("CONV_2D", [value, weights, model.constant(rng.normal(size=channels))], [stem], conv(2))
    model.builtin("PRELU", [stem, model.constant(rng.uniform(0, 2, (1, 1, channels)))], [activated])
    model.builtin("MAX_POOL_2D", [activated], [x], pool(3, 2, lce_model.SAME))
    for block in range(blocks):
        stride = 2 if block == 1 else 1
        small = (batch, size // stride, size // stride, channels)
        scaled, normed, bits = (
            new((batch, size, size, channels)),
            new((batch, size, size, channels)),
            new((batch, size, size, lce_model.words(channels)), "int32"),
        )
        model.builtin("MUL", [x, model.constant(rng.normal(size=channels))], [scaled], schema.MulOptionsT())
        model.builtin("ADD", [scaled, model.constant(rng.normal(size=channels))], [normed], schema.AddOptionsT())
        model.custom("LceQuantize", [normed], [bits])
        mean, squeezed, excited, gate = (
            new((batch, 1, 1, channels)),
            new((batch, 8)),
            new((batch, channels)),
            new((batch, channels)),
        )
        model.builtin("AVERAGE_POOL_2D", [normed], [mean], pool(size, 1, lce_model.VALID))
        model.builtin(
            "FULLY_CONNECTED", [mean, model.constant(rng.normal(0, 0.3, (8, channels))), -1], [squeezed], dense(1)
        )
        model.builtin(
            "FULLY_CONNECTED", [squeezed, model.constant(rng.normal(0, 0.3, (channels, 8))), -1], [excited], dense()
        )
        model.builtin("LOGISTIC", [excited], [gate])
        wide_gate = new((batch, 1, 1, channels))
        model.builtin(
            "RESHAPE", [gate, model.constant([batch, 1, 1, channels], "int32")], [wide_gate], schema.ReshapeOptionsT()
        )
        out, gated, sloped, y = new(small), new(small), new(small), new(small)
        filters = rng.choice([-1.0, 1.0], (channels, 3, 3, channels))
        model.bconv(
            bits,
            out,
            filters,
            multiplier=rng.normal(0, 0.05, channels),
            bias=rng.normal(size=channels),
            stride_height=stride,
            stride_width=stride,
        )
        model.builtin("MUL", [out, wide_gate], [gated], schema.MulOptionsT())
        model.builtin("PRELU", [gated, model.constant(rng.uniform(0, 0.5, (1, 1, channels)))], [sloped])
        if stride == 2:
            pooled, shortcut = new(small), new(small)
            model.builtin("AVERAGE_POOL_2D", [x], [pooled], pool(2, 2, lce_model.SAME))
            model.builtin(
                "CONV_2D",
                [
                    pooled,
                    model.constant(rng.normal(0, 0.1, (channels, 1, 1, channels))),
                    model.constant(np.zeros(channels)),
                ],
                [shortcut],
                conv(1),
            )
            x, size = shortcut, size // 2
        model.builtin("ADD", [sloped, x], [y], schema.AddOptionsT())
        x = y
    mean, logits = new((batch, 1, 1, channels)), new((batch, 10))
    model.builtin("AVERAGE_POOL_2D", [x], [mean], pool(size, 1, lce_model.VALID))
    model.builtin(
        "FULLY_CONNECTED",
        [mean, model.constant(rng.normal(size=(10, channels))), model.constant(np.zeros(10))],
        [logits],
        dense(),
    )
    model.output(logits)
    return model.bytes()


def close(ours, theirs):
    # A sign that depends on the last bit of a sum may differ. One flipped sign changes a logit by about 0.001.
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3 * (1 + np.abs(theirs).max()))


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("channels", [64, 40])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_network_agrees_with_lce_up_to_rounding(kernels, rng, batch, channels, threads):
    pytest.importorskip("larq_compute_engine")
    model = half_blocks(rng, channels=channels, batch=batch)
    x = rng.uniform(-1, 1, (batch, 56, 56, 3)).astype(np.float32)
    theirs = run_lce(model, [x], use_reference_bconv=True)[0]
    close(run(model, [x], kernels=kernels, num_threads=threads)[0], theirs)


@pytest.mark.parametrize("channels", [40, 64])
def test_one_two_and_five_threads_give_the_same_bits(kernels, rng, channels):
    # Two threads take one of the two blocks of channels each. Five threads divide the rows instead, so a mean over an
    # image adds rows that several threads have computed.
    model = half_blocks(rng, channels=channels)
    x = rng.uniform(-1, 1, (1, 56, 56, 3)).astype(np.float32)
    one, *others = [run(model, [x], kernels=kernels, num_threads=n)[0] for n in (1, 2, 5)]
    for other in others:
        np.testing.assert_array_equal(other, one)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot bind a thread to a core")
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(("channels", "threads"), [(64, 2), (128, 2), (128, 4), (40, 2), (64, 3)])
def test_threads_that_take_over_rows_give_the_same_bits(kernels, rng, batch, channels, threads):
    # All threads share one core, so in almost every step the running thread takes over rows that others have not begun.
    model = half_blocks(rng, channels=channels, batch=batch)
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        for _ in range(3):
            x = rng.uniform(-1, 1, (batch, 56, 56, 3)).astype(np.float32)
            one, several = (run(model, [x], kernels=kernels, num_threads=n)[0] for n in (1, threads))
            np.testing.assert_array_equal(several, one)
    finally:
        os.sched_setaffinity(0, cores)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("threads", [1, 2])
def test_same_bits_as_lce(rng, batch, threads):
    # On CPUs with AVX-512, LCE's x86 build sums in the runtime's order, which kernels.h describes.
    pytest.importorskip("larq_compute_engine")
    if r2b_runtime.available_kernels()[0] != "avx512":
        pytest.skip("LCE sums in the same order only on CPUs with AVX-512")
    model = half_blocks(rng, batch=batch)
    for _ in range(5):
        x = rng.uniform(-1, 1, (batch, 56, 56, 3)).astype(np.float32)
        theirs = run_lce(model, [x], use_reference_bconv=True)[0]
        np.testing.assert_array_equal(run(model, [x], num_threads=threads)[0], theirs)


@pytest.mark.parametrize("claim", ["all", "binary"])
def test_float_operators_may_stay_with_the_interpreter(rng, claim):
    model = half_blocks(rng)
    x = rng.uniform(-1, 1, (1, 56, 56, 3)).astype(np.float32)
    close(run(model, [x], claim=claim)[0], run(model, [x], kernels="portable")[0])


def test_without_xnnpack(rng):
    tensorflow = pytest.importorskip("tensorflow")
    model = half_blocks(rng)
    x = rng.uniform(-1, 1, (1, 56, 56, 3)).astype(np.float32)
    resolver = tensorflow.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    delegate = tensorflow.lite.experimental.load_delegate(str(r2b_runtime.library_path()), {"claim": "binary"})
    interpreter = tensorflow.lite.Interpreter(
        model_content=model, experimental_delegates=[delegate], experimental_op_resolver_type=resolver
    )
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    close(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]), run(model, [x])[0])


@pytest.mark.parametrize("module", ["ai_edge_litert.interpreter", "tflite_runtime.interpreter"])
def test_stock_interpreters(rng, module):
    stock = pytest.importorskip(module)
    model = half_blocks(rng)
    x = rng.uniform(-1, 1, (1, 56, 56, 3)).astype(np.float32)
    delegate = stock.load_delegate(str(r2b_runtime.library_path()))
    interpreter = stock.Interpreter(model_content=model, experimental_delegates=[delegate])
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    close(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]), run(model, [x])[0])


def test_interpreters_in_several_threads(rng):
    model = half_blocks(rng)
    inputs = [rng.uniform(-1, 1, (1, 56, 56, 3)).astype(np.float32) for _ in range(4)]
    expected = [run(model, [x], num_threads=2)[0] for x in inputs]
    results = [None] * 4

    def work(i):
        for _ in range(5):
            results[i] = run(model, [inputs[i]], num_threads=2)[0]

    workers = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for ours, theirs in zip(results, expected):
        np.testing.assert_array_equal(ours, theirs)


def test_freeing_interpreter_and_delegate_does_not_crash(rng):
    model = half_blocks(rng)
    for keep in (True, False):
        interpreter = delegated(model, num_threads=2)
        interpreter.allocate_tensors()
        if keep:  # the garbage collector chooses the order in which it frees objects of a cycle
            interpreter.cycle = [interpreter, interpreter.delegate]
        del interpreter
        gc.collect()


def test_create_and_destroy_does_not_grow_memory(rng):
    model = half_blocks(rng, size=7, blocks=1)
    x = rng.uniform(-1, 1, (1, 28, 28, 3)).astype(np.float32)
    for i in range(1000):
        run(model, [x], num_threads=1 + i % 2)
        if i == 200:
            gc.collect()
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 4096, f"{grown} KiB more after 800 cycles"


def test_profile_has_the_time_and_the_operators_of_each_step(rng):
    model = half_blocks(rng, size=28)
    interpreter = delegated(model, profile=True)
    interpreter.allocate_tensors()
    for _ in range(5):
        interpreter.invoke()
    kernels, steps = r2b_runtime.profile(interpreter.delegate)
    assert kernels == r2b_runtime.available_kernels()[0]
    assert all(runs == 5 and seconds > 0 for seconds, runs, _ in steps)
    # In each of the three half blocks, MUL, PRELU and ADD run in the step of the binary convolution.
    assert sum("LceBconv2d MUL PRELU ADD" in text for _, _, text in steps) == 3


@pytest.fixture(scope="module")
def agreement():
    """The module of benchmarks/agreement.py, which compares whole networks."""
    pytest.importorskip("r2b_zoo", reason="the zoo is not installed beside the runtime: pip install ../..")
    pytest.importorskip("larq_compute_engine")
    sys.path.insert(0, str(build_native.ROOT.parents[1] / "benchmarks"))
    return pytest.importorskip("agreement", reason="the project's benchmarks/ are not beside the runtime")


# The networks are given by name, because this file must be importable without the zoo.
@pytest.mark.parametrize(
    "name", ["RealToBinaryNet", "StrongBaselineNet", "BiRealNet18", "XNORNet18", "BNN18", "ResNet18"]
)
def test_zoo_networks(agreement, rng, name):
    from r2b_zoo.conversion.converter import lce_file

    x = rng.uniform(-1, 1, (8, 96, 96, 3)).astype(np.float32)
    network = agreement.logits_network(name, x, input_shape=(96, 96, 3), num_classes=100)
    for batch in (1, 3):
        model = lce_file(network, batch)
        theirs = run_lce(model, [x[:batch]], use_reference_bconv=True)[0]
        ours = run(model, [x[:batch]], num_threads=1)[0]
        assert ours.shape == theirs.shape == (batch, 100)
        for a, b in zip(ours, theirs):
            assert np.corrcoef(a, b)[0, 1] > 0.9995
            assert a.argmax() == b.argmax()
        np.testing.assert_array_equal(run(model, [x[:batch]], num_threads=2)[0], ours)
