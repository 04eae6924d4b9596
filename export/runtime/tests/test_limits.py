"""Tests that small files which need too much memory or work are refused.

Most error messages name the operator and the option that sets the limit.
"""

import numpy as np
import pytest
import r2b_runtime

pytest.importorskip("tensorflow", reason="the models of these tests are written with TensorFlow's schema")

import lce_model
from conftest import delegated, run
from r2b_runtime import command
from tensorflow.lite.python import schema_py_generated as schema

LEFT = r"the option max_{} leaves \({}\b.*resize the model's input, or raise max_{} if the file can be trusted$"
MEMORY, WORK = LEFT.format("memory", "2048 MiB", "memory"), LEFT.format("work", "200", "work")
MOST = {"max_memory": 8796093022207, "max_work": 10**9}


def convolution(batch=1, size=1, kernel=1, dilation=1, outputs=1, pad_values=0):
    """A model of one binary convolution, whose input has one channel."""
    model = lce_model.Model()
    x, out = model.input((batch, size, size, 1), "int32"), model.tensor((batch, size, size, outputs))
    model.bconv(
        x,
        out,
        np.ones((outputs, kernel, kernel, 1)),
        multiplier=np.ones(outputs),
        bias=np.zeros(outputs),
        dilation_height_factor=dilation,
        dilation_width_factor=dilation,
        pad_values=pad_values,
    )
    model.output(out)
    return model.bytes()


def bits_pool(size, window):
    model = lce_model.Model()
    x, out = model.input((1, size, size, 1), "int32"), model.tensor((1, size, size, 1), "int32")
    options = {"filter_height": window, "filter_width": window, "stride_height": 1, "stride_width": 1, "padding": 0}
    model.custom("LceBMaxPool2d", [x], [out], options)
    model.output(out)
    return model.bytes()


def average_pool(size):
    model = lce_model.Model()
    x, pooled = model.input((1, size, size, 1)), model.tensor((1, size, size, 1))
    bits = model.tensor((1, size, size, 1), "int32")
    pool = schema.Pool2DOptionsT()
    pool.strideW = pool.strideH = 1
    pool.filterWidth = pool.filterHeight = size
    model.builtin("AVERAGE_POOL_2D", [x], [pooled], pool)
    model.custom("LceQuantize", [pooled], [bits])
    model.output(bits)
    return model.bytes()


def outer_sum(rows, columns):
    """A model that adds a column and a row; both are broadcast to `rows` x `columns`."""
    model = lce_model.Model()
    a, b = model.input((1, rows, 1, 1)), model.input((1, 1, columns, 1))
    bits, out = model.tensor((1, rows, 1, 1), "int32"), model.tensor((1, rows, columns, 1))
    model.custom("LceQuantize", [a], [bits])
    model.builtin("ADD", [a, b], [out], schema.AddOptionsT())
    for t in (out, bits):
        model.output(t)
    return model.bytes()


def chain(length, channels):
    """A model of `length` additions of the constant 1. For each, the delegate stores the constant once per channel."""
    model = lce_model.Model()
    x = value = model.input((1, 1, 1, channels))
    one = model.constant([1.0])
    for _ in range(length):
        value, x = model.tensor((1, 1, 1, channels)), value
        model.builtin("ADD", [x, one], [value], schema.AddOptionsT())
    bits = model.tensor((1, 1, 1, lce_model.words(channels)), "int32")
    model.custom("LceQuantize", [value], [bits])
    model.output(bits)
    return model.bytes()


def quantizes(between=None, channels=1 << 17):
    """A model of two LceQuantize operators; an operator `between` that the delegate lacks splits the graph in two."""
    model = lce_model.Model()
    value, packed = model.input((1, 1, 1, channels)), []
    for i in range(2):
        if i and between:
            value, x = model.tensor((1, 1, 1, channels)), value
            model.builtin(between, [x], [value])
        packed.append(model.tensor((1, 1, 1, channels // 32), "int32"))
        model.custom("LceQuantize", [value], [packed[-1]])
    for t in packed:
        model.output(t)
    return model.bytes()


@pytest.mark.parametrize(
    ("model", "most", "message"),
    [
        # The padded input has 2^64 bytes, which is 0 in a 64-bit size.
        (convolution(1 << 14, kernel=1366, dilation=12291), {}, rf"^LceBconv2d \(node 0\): a filter of .*{WORK}"),
        (convolution(1 << 14, kernel=1366, dilation=12291), MOST, r"^LceBconv2d \(node 0\): .*max_memory leaves"),
        # The next two padded inputs have 2^63 bytes, too many for a std::vector, and 2^56, too many for a process.
        (convolution(1 << 13, kernel=1366, dilation=12291), MOST, r"^LceBconv2d \(node 0\): .*max_memory leaves"),
        (convolution(1 << 24, kernel=2, dilation=32768), MOST, r"^out of memory; resize the model's input"),
        (
            convolution(kernel=2, dilation=32768),
            {},
            rf"^LceBconv2d \(node 0\): the input \[1, 1, 1, 1\], padded to 32769x32769, takes 4097 MiB .*{MEMORY}",
        ),
        (convolution(size=1024, kernel=512), {}, rf"^LceBconv2d \(node 0\): .*{WORK}"),
        (convolution(size=96, kernel=48), {"max_memory": 1}, r"tables of the zero padding of a filter .*leaves \(1 Mi"),
        (bits_pool(4096, 4096), {}, rf"^LceBMaxPool2d \(node 0\): a window of 4096x4096 over .*{WORK}"),
        (average_pool(8192), {}, rf"^AVERAGE_POOL_2D \(node 0\): a window of 8192x8192 over .*{WORK}"),
        (
            outer_sum(1 << 22, 1 << 21),
            MOST,
            r"^ADD \(node 1\): output shape \[1, 4194304, 2097152, 1\] has more than the 536870912 elements",
        ),
        (outer_sum(1 << 14, 1 << 15), {}, rf"^an output of \[1, 16384, 32768, 1\] takes 2048 MiB .*{MEMORY}"),
        (chain(40, 1 << 24), {}, rf"^ADD \(node 31\): its constant takes 64 MiB \(2049 with all before it\).*{MEMORY}"),
        (chain(4, 1 << 16), {"max_memory": 1}, r"max_memory leaves \(1 MiB\)"),
    ],
)
def test_models_that_need_too_much_memory_or_work_are_refused(model, most, message):
    interpreter = delegated(model, **most)
    with pytest.raises(RuntimeError, match=message):
        interpreter.allocate_tensors()


def test_a_graph_too_long_to_plan_within_max_work_is_refused():
    with pytest.raises(RuntimeError, match=r"planning 1001 operators .* 2 billion operations .* max_work leaves \(1\)"):
        delegated(chain(1000, 1), max_work=1).allocate_tensors()


def test_max_memory_runs_a_small_model_and_refuses_a_larger_one():
    model = quantizes()  # the input takes half a MiB, its bits a 32nd of that
    with pytest.raises(RuntimeError, match=r"more than the option max_memory leaves \(1 MiB\)"):
        delegated(quantizes(channels=1 << 19), max_memory=1).allocate_tensors()
    values = np.random.default_rng(0).normal(size=(1, 1, 1, 1 << 17)).astype(np.float32)
    for packed in run(model, [values], max_memory=1):
        np.testing.assert_array_equal(packed, lce_model.pack(np.where(values < 0, -1, 1)))


def test_max_memory_covers_all_parts_of_a_graph_together():
    """The interpreter runs TANH, which splits the delegate's graph in two. Each part alone fits 1 MiB, but not both."""
    assert len(run(quantizes("TANH"), [np.zeros((1, 1, 1, 1 << 17), np.float32)], max_memory=2)) == 2
    with pytest.raises(RuntimeError, match=r"max_memory leaves \(1 MiB\)"):
        delegated(quantizes("TANH"), max_memory=1).allocate_tensors()


def test_an_interpreter_works_after_refusing_too_large_an_input(rng):
    model = convolution(size=8, kernel=3, outputs=33)
    interpreter = delegated(model)
    (detail,) = interpreter.get_input_details()
    for batch in (1 << 18, 1 << 25):
        interpreter.resize_tensor_input(detail["index"], (batch, 8, 8, 1))
        with pytest.raises(RuntimeError, match=rf"{batch}.*resize the model's input"):
            interpreter.allocate_tensors()
    interpreter.resize_tensor_input(detail["index"], (2, 8, 8, 1))
    interpreter.allocate_tensors()
    value = rng.integers(0, 2, (2, 8, 8, 1), dtype=np.int32)
    interpreter.set_tensor(detail["index"], value)
    interpreter.invoke()
    found = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    np.testing.assert_array_equal(found, run(model, [value])[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_memory": 0}, r"option max_memory = '0' must be a whole number of MiB from 1 to \d+"),
        ({"max_memory": "2GB"}, r"option max_memory = '2GB' must be a whole number of MiB"),
        ({"max_memory": 1 << 70}, r"option max_memory = '\d+' must be a whole number of MiB"),
        (
            {"max_work": 0},
            "option max_work = '0' must be a whole number of billions of operations from 1 to 1000000000",
        ),
        ({"max_work": 1.5}, r"option max_work = '1.5' must be a whole number"),
        ({"num_threads": 257}, "option num_threads = '257' must be a whole number from 1 to 256, or 0 for the interp"),
        ({"num_threads": 10**30}, "option num_threads = '10+' must be a whole number from 1 to 256"),
    ],
)
def test_invalid_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        r2b_runtime.load_delegate(**options)


def test_the_command_takes_the_limits(tmp_path, capfd):
    path = tmp_path / "model.tflite"
    path.write_bytes(quantizes(channels=1 << 19))
    bench = ["bench", str(path), "--runs", "1"]
    assert command.main([*bench, "--max-memory", "1"]) == 1
    assert "more than the option max_memory leaves (1 MiB)" in capfd.readouterr().err
    assert command.main([*bench, "--max-memory", "8", "--max-work", "1"]) == 0
