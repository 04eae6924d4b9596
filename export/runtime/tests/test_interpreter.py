"""Tests the Python interface of `Interpreter`: arguments, copies, use by several threads, and error messages."""

import copy
import ctypes
import os
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest
import r2b_runtime

pytest.importorskip("tensorflow", reason="the models of these tests are written with TensorFlow's schema")

import lce_model
import small_classifier
from r2b_runtime import library


@pytest.fixture(scope="module")
def model():
    return small_classifier.model()


@pytest.fixture(params=["r2b", "litert"])
def engine(request):
    return request.param


def predict(interpreter, seed=0):
    (detail,) = interpreter.get_input_details()
    values = np.random.default_rng(seed).normal(size=detail["shape"]).astype(np.float32)
    interpreter.set_tensor(detail["index"], values)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def allocated(*args, **kwargs):
    interpreter = r2b_runtime.Interpreter(*args, **kwargs)
    interpreter.allocate_tensors()
    return interpreter


def test_keywords_of_the_stock_interpreter_work(model, tmp_path, engine):
    path = tmp_path / "model.tflite"
    path.write_bytes(model)
    expected = predict(allocated(model, engine="litert"))
    for keywords in (
        {"model_path": path},
        {"model_path": str(path), "num_threads": 1},
        {"model_content": model, "experimental_preserve_all_tensors": False},
        {"model_content": model, "experimental_delegates": None},
    ):
        np.testing.assert_array_equal(predict(allocated(engine=engine, **keywords)), expected)


def test_the_default_engine_is_r2b(model):
    with pytest.raises(RuntimeError, match=r"engine='r2b' runs without a delegate; engine='litert' has one"):
        _ = r2b_runtime.Interpreter(model).delegate
    assert r2b_runtime.Interpreter(model, engine="litert").delegate is not None


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({}, "one of model, model_path and model_content; received none of them"),
        ({"model_path": "a", "model_content": b"b"}, "received model_path and model_content"),
        ({"model_path": b"b"}, "model_path must be a path; received bytes"),
        ({"model_content": "a"}, "model_content must be bytes; received str"),
        ({"model": 3}, "model must be a path or bytes; received int"),
        (
            {"model": "MODEL", "experimental_preserve_all_tensors": True},
            "make the tensor an output of the model, or use",
        ),
        ({"model": "MODEL", "experimental_delegates": [object()]}, "brings its own delegate.*or use the stock"),
    ],
)
def test_invalid_keywords_are_refused(model, engine, keywords, message):
    given = {key: model if value == "MODEL" else value for key, value in keywords.items()}
    with pytest.raises(ValueError, match=message):
        r2b_runtime.Interpreter(engine=engine, **given)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"experimental_frobnicate": 1}, r"has no option 'experimental_frobnicate'; there are exp"),
        ({"num_thread": 2}, "unknown option 'num_thread'; the options are kernels, num_threads"),
    ],
)
def test_unknown_keywords_are_refused(model, keywords, message):
    with pytest.raises(ValueError, match=message):
        r2b_runtime.Interpreter(model, engine="litert", **keywords)


def test_copied_and_pickled_interpreters_give_the_same_outputs(model):
    interpreter = r2b_runtime.Interpreter(model, 2, engine="litert", kernels="portable", profile=True)
    (detail,) = interpreter.get_input_details()
    assert not pickle.loads(pickle.dumps(interpreter))._allocated
    interpreter.resize_tensor_input(detail["index"], (3, *detail["shape"][1:]))
    interpreter.allocate_tensors()
    expected = predict(interpreter)
    for made in (copy.deepcopy(interpreter), copy.copy(interpreter), pickle.loads(pickle.dumps(interpreter))):
        np.testing.assert_array_equal(predict(made), expected)
        assert made is not interpreter
        assert r2b_runtime.profile(made.delegate)[0] == "portable"
    convolver = pickle.loads(pickle.dumps(r2b_runtime.Convolver(2, "portable")))
    assert convolver(np.ones((1, 3, 3, 1)), np.ones((3, 3, 1, 1))).max() == 9


def test_an_interpreter_survives_truncation_of_its_file(model, tmp_path, engine):
    """Truncates the file: if the interpreter had mapped it into memory, SIGBUS would end the process."""
    path = tmp_path / "model.tflite"
    path.write_bytes(model)
    code = f"""
import os
import numpy as np
import r2b_runtime
interpreter = r2b_runtime.Interpreter({str(path)!r}, engine={engine!r})
(detail,) = interpreter.get_input_details()
os.truncate({str(path)!r}, 0)
for batch in (1, 2):
    interpreter.resize_tensor_input(detail["index"], (batch, *detail["shape"][1:]))
    interpreter.allocate_tensors()
    interpreter.set_tensor(detail["index"], np.zeros((batch, *detail["shape"][1:]), np.float32))
    interpreter.invoke()
    assert len(interpreter.get_tensor(interpreter.get_output_details()[0]["index"])) == batch
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=100)


def convolution():
    model = lce_model.Model()
    x = model.input((1, 4, 4, 1))
    bits, out = model.tensor((1, 4, 4, 1), "int32"), model.tensor((1, 4, 4, 1))
    model.custom("LceQuantize", [x], [bits])
    model.bconv(bits, out, np.ones((1, 3, 3, 1)), multiplier=np.ones(1), bias=np.zeros(1))
    model.output(out)
    return model.bytes(), x


def test_an_error_message_does_not_repeat_earlier_errors():
    data, x = convolution()
    interpreter = r2b_runtime.Interpreter(data, engine="litert")
    for batch in (1 << 26, 1 << 27):
        interpreter.resize_tensor_input(x, (batch, 4, 4, 1))
        with pytest.raises(RuntimeError) as caught:
            interpreter.allocate_tensors()
        text = str(caught.value)
        assert text.startswith("LceQuantize (node 0): input shape [" + str(batch))
        assert text.endswith("resize the model's input")
    with pytest.raises(RuntimeError) as caught:
        interpreter.invoke()  # an error of the stock interpreter: tensors are not allocated
    assert "LceQuantize" not in str(caught.value)
    assert "r2b" not in str(caught.value)


def test_the_delegates_message_ends_its_line_in_the_stock_interpreter():
    """Without `r2b_runtime.Interpreter`, the stock interpreter's message begins on a new line after the delegate's."""
    data, x = convolution()
    stock = r2b_runtime.stock_interpreter().Interpreter(
        model_content=data, experimental_delegates=[r2b_runtime.load_delegate()]
    )
    stock.resize_tensor_input(x, (1 << 27, 4, 4, 1))
    with pytest.raises(RuntimeError, match=r"r2b-runtime: LceQuantize .*resize the model's input\n"):
        stock.allocate_tensors()


def long_model():
    """A model whose inference takes tens of milliseconds, so that the calls of several threads overlap."""
    model = lce_model.Model()
    x, out = model.input((1, 64, 64, 8), "int32"), model.tensor((1, 64, 64, 256))
    model.bconv(x, out, np.ones((256, 3, 3, 256)), multiplier=np.ones(256), bias=np.zeros(256))
    model.output(out)
    return model.bytes()


def test_one_thread_at_a_time(engine):
    """If threads call one interpreter at once, one call runs and the others raise an error."""
    interpreter = allocated(long_model(), kernels="portable", engine=engine)
    expected = predict_zeros(interpreter)
    told, served = [], []

    def use():
        for _ in range(8):
            try:
                interpreter.invoke()
                served.append(1)
            except RuntimeError as error:
                told.append(str(error))

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert served
    assert told
    assert all("another thread is using this interpreter; give each thread" in text for text in told)
    np.testing.assert_array_equal(predict_zeros(interpreter), expected)


def predict_zeros(interpreter):
    (detail,) = interpreter.get_input_details()
    interpreter.set_tensor(detail["index"], np.zeros(detail["shape"], detail["dtype"]))
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def test_one_thread_at_a_time_in_the_delegate():
    """The delegate itself refuses a second thread: the stock interpreter has no lock around an inference."""
    delegate = r2b_runtime.load_delegate(kernels="portable")
    stock = r2b_runtime.stock_interpreter().Interpreter(model_content=long_model(), experimental_delegates=[delegate])
    stock.allocate_tensors()
    told = []

    def run():
        for _ in range(5):
            try:
                stock._interpreter.Invoke(0)
            except RuntimeError as error:
                told.append(str(error))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told
    assert "another thread is using this interpreter" in told[0]


def test_a_model_without_signatures_has_no_runner(model, engine):
    interpreter = r2b_runtime.Interpreter(model, engine=engine)
    assert not interpreter.get_signature_list()
    with pytest.raises(ValueError, match=r"[Ss]ignature"):
        interpreter.get_signature_runner("serving_default")


class Pretender:
    """Has the interface of a delegate, but returns any given pointer as the delegate's."""

    def __init__(self, pointer):
        self._pointer = pointer

    def _get_native_delegate_pointer(self):
        return self._pointer


def test_freed_and_invalid_handles_are_refused_or_ignored(model):
    delegate = r2b_runtime.load_delegate()
    pointer = delegate._get_native_delegate_pointer()
    assert r2b_runtime.profile(delegate)[0] in r2b_runtime.available_kernels()
    del delegate
    for nobody in (pointer, 0, 4096):
        with pytest.raises(ValueError, match="not a delegate of r2b-runtime, or it has been freed"):
            r2b_runtime.profile(Pretender(nobody))
    convolver = r2b_runtime.Convolver(1)
    convolver.__del__()
    with pytest.raises(ValueError, match="the convolver has been closed"):
        convolver(np.ones((1, 3, 3, 1)), np.ones((3, 3, 1, 1)))
    convolver.__del__()
    destroy = library.load_library().tflite_plugin_destroy_delegate
    destroy.argtypes, destroy.restype = [ctypes.c_void_p], None
    for nobody in (pointer, None, 4096):
        destroy(nobody)


def test_threads_beyond_the_cores_are_not_started(monkeypatch, engine):
    if not hasattr(os, "sched_getaffinity"):
        pytest.skip("this system has no os.sched_getaffinity, which counts the cores")
    monkeypatch.delenv("R2B_RUNTIME_OVERSUBSCRIBE")
    before = {int(name) for name in os.listdir("/proc/self/task")}

    def started(threads):
        interpreter = allocated(long_model(), num_threads=threads, engine=engine)
        new = {int(name) for name in os.listdir("/proc/self/task")} - before
        del interpreter
        return len(new)

    cores = os.sched_getaffinity(0)
    baseline = started(1)
    assert started(256) <= baseline + len(cores) - 1
    os.sched_setaffinity(0, {min(cores)})
    try:
        assert started(256) == baseline
        monkeypatch.setenv("R2B_RUNTIME_OVERSUBSCRIBE", "1")
        assert started(3) == baseline + 2
    finally:
        os.sched_setaffinity(0, cores)
