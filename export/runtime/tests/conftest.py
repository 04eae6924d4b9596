"""Shared by the tests: import paths, interpreters and fixtures."""

import os
import pathlib
import sys

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Allows more threads than cores, so that races also show on machines with few cores.
os.environ.setdefault("R2B_RUNTIME_OVERSUBSCRIBE", "1")
sys.path.insert(0, str(pathlib.Path(__file__).parent))
sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
sys.path.append(str(pathlib.Path(__file__).parents[2] / "raspberry_pi"))

import numpy as np
import pytest
import r2b_runtime


def delegated(model, num_threads=None, **options):
    """Returns a stock TensorFlow Lite interpreter with the delegate."""
    return r2b_runtime.Interpreter(model, num_threads, engine="litert", **options)


def run(model, inputs, **options):
    """Returns the outputs of `model` (bytes) in the stock interpreter with the delegate; resizes inputs as needed.

    If the model has an operator of LCE, and the engine supports the model and these options, asserts that the engine's
    outputs have the same bits.
    """
    outputs = _run(model, inputs, engine="litert", **options)
    if set(options) <= {"kernels", "num_threads", "max_memory", "max_work"} and b"Lce" in model:
        try:
            again = _run(model, inputs, engine="r2b", **options)
        except RuntimeError as error:
            if "the engine does not run this operator" not in str(error):
                raise
        else:
            for ours, theirs in zip(again, outputs):
                assert (ours.dtype, ours.shape, ours.tobytes()) == (theirs.dtype, theirs.shape, theirs.tobytes())
    return outputs


def _run(model, inputs, **options):
    interpreter = r2b_runtime.Interpreter(model, **options)
    for detail, value in zip(interpreter.get_input_details(), inputs):
        if list(detail["shape"]) != list(value.shape):
            interpreter.resize_tensor_input(detail["index"], value.shape)
    interpreter.allocate_tensors()
    return outputs_of(interpreter, inputs)


def outputs_of(interpreter, inputs):
    """Returns the outputs of one inference; the interpreter must already have the shapes of `inputs`."""
    for detail, value in zip(interpreter.get_input_details(), inputs):
        interpreter.set_tensor(detail["index"], value)
    interpreter.invoke()
    return [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]


def run_lce(model, inputs, **options):
    """Returns the outputs of `model` (bytes) in Larq Compute Engine's own interpreter."""
    from larq_compute_engine.tflite.python.interpreter import Interpreter

    # Its public predict() feeds images one by one; the wrapped interpreter takes whole batches.
    return Interpreter(model, **options).interpreter.predict([np.ascontiguousarray(x) for x in inputs])


@pytest.fixture(params=r2b_runtime.available_kernels())
def kernels(request):
    return request.param


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def whole_photographs():
    """20 photographs, uint8 (height, width, 3)."""
    datasets = pytest.importorskip("tensorflow_datasets")
    root = pathlib.Path(os.environ.get("R2B_ZOO_TEST_DATA") or pathlib.Path(__file__).parents[4] / "shared" / "tfds")
    if not (root / "imagenet2012").is_dir():
        pytest.skip(f"no photographs: {root / 'imagenet2012'} is missing (set R2B_ZOO_TEST_DATA)")
    split = datasets.load("imagenet2012", split="validation", data_dir=str(root), download=False)
    return [example["image"] for example in datasets.as_numpy(split.take(20))]


def pytest_report_header():
    return f"r2b-runtime kernels on this machine: {', '.join(r2b_runtime.available_kernels())}"
