"""Tests that the engine's outputs have the same bits as the delegate's, and that it reports what it cannot run."""

import ctypes
import mmap
import os
import pathlib
import pickle
import re
import subprocess
import sys
import threading

import endurance
import lce_model
import numpy as np
import pytest
import r2b_runtime
from c_interface import host_program
from conftest import outputs_of, run
from r2b_runtime import Interpreter
from r2b_runtime import engine as engine_module

pytest.importorskip("tensorflow")

import drawn_graphs

GRAPHS = 60
FLIPS = 400


def classifier(rng, channels=40, batch=1, operator="SOFTMAX", signature=None, shape_signature=None):
    """The bytes of a model: LceQuantize, a binary convolution, and an operator on its output."""
    from tensorflow.lite.python import schema_py_generated as schema

    model = lce_model.Model()
    x = model.input((batch, 6, 6, channels), signature=shape_signature)
    packed = model.tensor((batch, 6, 6, lce_model.words(channels)), "int32")
    model.custom("LceQuantize", [x], [packed])
    scores, out = (model.tensor((batch, 6, 6, 8)) for _ in range(2))
    signs = rng.choice([-1.0, 1.0], (8, 3, 3, channels))
    model.bconv(packed, scores, signs, channels_in=channels, multiplier=rng.normal(size=8), bias=rng.normal(size=8))
    options = schema.SoftmaxOptionsT()
    options.beta = 1.0
    model.builtin(operator, [scores], [out], options)
    model.output(out)
    if signature:
        model.signature(signature, {"x": x}, {"y": out})
    return model.bytes()


@pytest.fixture
def model(rng):
    return classifier(rng)


def engine(model, num_threads=None, **options):
    return Interpreter(model, num_threads, engine="r2b", **options)


def outputs(interpreter, x):
    """The outputs of one inference with the input `x`."""
    return outputs_of(interpreter, [x])


@pytest.fixture(params=["classifier", "layouts"])
def altered(request, model):
    """A model to damage: one with Larq Compute Engine's operators, or one that convolves, resizes and moves values."""
    if request.param == "classifier":
        return model
    graph = drawn_graphs.Motifs(np.random.default_rng(1))
    graph.begin((1, 4, 5, 2))  # few channels, so few weights, because damage to weights causes no error
    value = graph.input
    for method in ("depthwise", "concat", "pad", "resize_bilinear", "strided_slice"):
        value = getattr(graph, method)(value) or value
    return graph.written(graph.operators, graph.split(value))


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_random_graphs_give_the_same_bits_as_the_delegate(threads):
    for number in range(GRAPHS):
        graph = drawn_graphs.draw([7, number])
        x = np.random.default_rng(number).normal(0, 1, graph.shape).astype(np.float32)
        ours, theirs = outputs(engine(graph.model, threads), x), run(graph.model, [x], num_threads=threads)
        assert [value.tobytes() for value in ours] == [value.tobytes() for value in theirs], graph.operators


def test_all_kernels_give_the_same_bits_as_the_delegate(model, kernels, rng):
    x = rng.normal(0, 1, (1, 6, 6, 40)).astype(np.float32)
    (ours,), (theirs,) = outputs(engine(model, kernels=kernels), x), run(model, [x], kernels=kernels)
    assert ours.tobytes() == theirs.tobytes()


def test_inputs_and_outputs_are_described_as_in_the_stock_interpreter(model):
    stock = Interpreter(model, engine="litert")
    stock.allocate_tensors()
    ours = engine(model)
    for name in ("get_input_details", "get_output_details"):
        for mine, theirs in zip(getattr(ours, name)(), getattr(stock, name)()):
            assert str(mine) == str(theirs)


def test_input_can_be_resized_and_a_refused_shape_changes_nothing(model, rng):
    interpreter = engine(model)
    number = interpreter.get_input_details()[0]["index"]
    x = rng.normal(0, 1, (3, 5, 9, 40)).astype(np.float32)
    interpreter.resize_tensor_input(number, x.shape)
    (ours,), (theirs,) = outputs(interpreter, x), run(model, [x])
    assert ours.tobytes() == theirs.tobytes()
    with pytest.raises(RuntimeError, match=r"LceBconv2d \(node 1\): "):
        interpreter.resize_tensor_input(number, (1, 6, 6, 70))
    (again,) = outputs(interpreter, x)  # the refused shape changed nothing
    assert again.tobytes() == ours.tobytes()


def test_pickled_copy_keeps_the_resized_shape(model, rng):
    x = rng.normal(0, 1, (2, 6, 6, 40)).astype(np.float32)
    interpreter = engine(model, 2)
    interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], x.shape)
    (copied,), (expected,) = outputs(pickle.loads(pickle.dumps(interpreter)), x), outputs(interpreter, x)
    assert copied.tobytes() == expected.tobytes()


def test_a_signature(rng):
    model = classifier(rng, signature="serve")
    ours, theirs = (Interpreter(model, engine=name) for name in ("r2b", "litert"))
    assert ours.get_signature_list() == theirs.get_signature_list() == {"serve": {"inputs": ["x"], "outputs": ["y"]}}
    for x in (rng.normal(0, 1, (batch, 6, 6, 40)).astype(np.float32) for batch in (1, 2)):
        results = [one.get_signature_runner()(x=x)["y"].tobytes() for one in (ours, theirs)]
        assert results[0] == results[1]
    assert str(ours.get_signature_runner("serve").get_output_details()["y"]["shape"]) == "[2 6 6 8]"
    with pytest.raises(ValueError, match=r"must be one of the model's signatures \(serve\); received 'z'"):
        ours.get_signature_runner("z")
    with pytest.raises(ValueError, match=r"the inputs of this signature are x; received none"):
        ours.get_signature_runner()()


def test_arrays_of_inputs_and_outputs(model, rng):
    """As in the stock interpreter, `tensor` gives access to the array that `invoke` reads or writes."""
    x = rng.normal(0, 1, (1, 6, 6, 40)).astype(np.float32)
    (expected,) = outputs(engine(model), x)
    for name in ("r2b", "litert"):
        interpreter = Interpreter(model, engine=name)
        interpreter.allocate_tensors()
        ours, theirs = (interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"])
        interpreter.set_tensor(ours, x + 1)
        given, answer = interpreter.tensor(ours), interpreter.tensor(theirs)
        assert given().tobytes() == interpreter.get_tensor(ours).tobytes() == (x + 1).tobytes()
        given()[:] = x
        interpreter.invoke()
        assert answer().tobytes() == interpreter.get_tensor(theirs).tobytes() == expected.tobytes()
        interpreter.set_tensor(ours, -x)
        assert given().tobytes() == (-x).tobytes()
        interpreter.invoke()
        assert answer().tobytes() == outputs(engine(model), -x)[0].tobytes()
        interpreter.resize_tensor_input(ours, (2, 6, 6, 40))
        interpreter.allocate_tensors()
        assert (given().shape, answer().shape) == ((2, 6, 6, 40), (2, 6, 6, 8))
        interpreter.reset_all_variables()
        assert interpreter.num_subgraphs() == 1


def test_methods_that_the_engine_lacks_are_refused(model):
    with pytest.raises(RuntimeError, match=r"no tensors but inputs and outputs .* engine='litert' its tensors"):
        engine(model).get_tensor_details()
    with pytest.raises(ValueError, match=r"subgraph_index 0; received 1"):
        engine(model).get_tensor(0, 1)
    with pytest.raises(AttributeError, match=r"frobnicate"):
        engine(model).frobnicate()


def test_strict_shapes(rng):
    """With `strict=True`, only the dimensions that the file leaves open can change."""
    model = classifier(rng)
    opened = classifier(rng, shape_signature=[-1, 6, 6, 40])
    for name in ("r2b", "litert"):
        kind = ValueError if name == "r2b" else RuntimeError
        for content, shape, fits in (
            (model, (1, 6, 6, 40), True),
            (model, (2, 6, 6, 40), False),
            (opened, (2, 6, 6, 40), True),
            (opened, (2, 5, 6, 40), False),
            (opened, (6, 6, 40), False),
        ):
            interpreter = Interpreter(content, engine=name)
            number = interpreter.get_input_details()[0]["index"]
            if fits:
                interpreter.resize_tensor_input(number, shape, strict=True)
                assert tuple(interpreter.get_input_details()[0]["shape"]) == shape
            else:
                with pytest.raises(kind, match=r"strict=True keeps every|only allows mutating|4 != 3"):
                    interpreter.resize_tensor_input(number, shape, strict=True)
    assert engine(opened).get_input_details()[0]["shape_signature"].tolist() == [-1, 6, 6, 40]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.zeros((1, 6, 6, 39), np.float32), r"must be float32 of shape \(1, 6, 6, 40\); received float32 of shape"),
        (np.zeros((1, 6, 6, 40)), r"must be float32 of shape \(1, 6, 6, 40\); received float64 of shape \(1, 6, 6, 40"),
    ],
)
def test_wrong_inputs(model, value, message):
    for _ in range(2):
        with pytest.raises(ValueError, match=message):
            outputs(engine(model), value)


def test_tensors_other_than_inputs_and_outputs_are_refused(model):
    with pytest.raises(ValueError, match=r"tensor 99 is not an input of the model; its inputs are 0"):
        engine(model).set_tensor(99, np.zeros(1, np.float32))
    with pytest.raises(ValueError, match=r"tensor 77 is not an output of the model; its outputs are \d+"):
        engine(model).get_tensor(77)
    with pytest.raises(
        ValueError, match=r"tensor 99 is not an input or output of the model; its inputs and outputs are 0, \d+"
    ):
        engine(model).tensor(99)
    with pytest.raises(RuntimeError, match=r"engine='r2b' runs without a delegate"):
        _ = engine(model).delegate


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"num_threads": 257}, ValueError, r"num_threads must be a whole number from 1 to 256; received 257"),
        ({"kernels": "sse"}, ValueError, r"kernels 'sse' do not run here; available: auto, "),
        ({"max_work": -1}, ValueError, r"max_work must be a whole number from 1 to 1000000000; received -1"),
        ({"max_memory": 0.5}, ValueError, r"max_memory must be a whole number from 1 to \d+; received 0.5"),
        ({"max_memory": True}, ValueError, r"max_memory must be a whole number from 1 to \d+; received True"),
        (
            {"claim": "binary"},
            ValueError,
            r"claim is an option of the delegate; received 'binary': give engine='litert'",
        ),
        (
            {"experimental_op_resolver_type": 1},
            ValueError,
            r"experimental_op_resolver_type is an option of the stock interpreter; received 1: give engine='litert'",
        ),
        (
            {"experimental_delegates": [1]},
            ValueError,
            r"experimental_delegates is not supported, .*: give the delegate's",
        ),
        (
            {"num_thread": 2},
            ValueError,
            r"there is no option 'num_thread'; there are kernels, max_memory, max_work, prof",
        ),
        ({"experimental_colour": 0}, ValueError, r"there is no option 'experimental_colour'; there are kernels"),
    ],
)
def test_wrong_options(model, options, kind, message):
    with pytest.raises(kind, match=message):
        engine(model, **options)


def test_options_that_change_nothing_are_accepted(model, rng):
    x = rng.normal(0, 1, (1, 6, 6, 40)).astype(np.float32)
    said = {
        "claim": "all",
        "profile": False,
        "experimental_delegates": None,
        "experimental_preserve_all_tensors": False,
    }
    (ours,), (expected,) = outputs(engine(model, **said, max_memory=64, max_work=1), x), outputs(engine(model), x)
    assert ours.tobytes() == expected.tobytes()


def test_the_time_of_every_step(model, rng):
    """The engine has the same steps as the delegate, and times each of them."""
    x, profiles = rng.normal(0, 1, (1, 6, 6, 40)).astype(np.float32), []
    for name in ("r2b", "litert"):
        interpreter = Interpreter(model, engine=name, profile=True, kernels="portable")
        interpreter.allocate_tensors()
        for _ in range(3):
            outputs(interpreter, x)
        profiles.append(r2b_runtime.profile(interpreter))
    (kernels, ours), (_, theirs) = profiles
    assert kernels == "portable"
    assert all(seconds > 0 for seconds, _, _ in ours)
    assert [step[1:] for step in ours] == [step[1:] for step in theirs]
    assert r2b_runtime.profile(engine(model))[0] == r2b_runtime.available_kernels()[0]


def test_unavailable_kernels_in_the_environment_are_refused(model, monkeypatch):
    monkeypatch.setenv("R2B_RUNTIME_KERNELS", "mmx")
    with pytest.raises(ValueError, match=r"kernels 'mmx' do not run.*the environment's R2B_RUNTIME_KERNELS: unset it"):
        engine(model)
    with pytest.raises(ValueError, match=r"kernels 'sse' do not run here; available: auto, [^;]*portable$"):
        engine(model, kernels="sse")


def test_unknown_engine_is_refused(model):
    with pytest.raises(ValueError, match=r"engine must be 'r2b' or 'litert'; received 'onnx'"):
        Interpreter(model, engine="onnx")


def test_an_operator_that_the_engine_does_not_have(rng):
    with pytest.raises(
        RuntimeError, match=r'TANH \(node 2\): the engine does not run this .* \(in Python: engine="litert"\)'
    ):
        engine(classifier(rng, operator="TANH"))


def test_a_model_beyond_the_limits(rng):
    large = classifier(rng, batch=20000)
    with pytest.raises(RuntimeError, match=r"max_memory"):
        engine(large, max_memory=64)


def load(content):
    """Loads and runs a model in the C interface; returns the error message, or None if it ran."""
    library, error = engine_module._functions(), engine_module._Error()
    options = engine_module._Options(ctypes.sizeof(engine_module._Options), 1, None, 64 << 20, 10**9)
    loaded = library.r2b_model_load(content, len(content), ctypes.byref(error))
    created = loaded and library.r2b_engine_create(loaded, ctypes.byref(options), ctypes.byref(error))
    library.r2b_model_free(loaded)
    ran = created and library.r2b_engine_run(created, ctypes.byref(error))
    library.r2b_engine_free(created)
    return None if ran else error.text.decode()


def test_truncated_files(model):
    assert load(model) is None
    for length in {*range(0, len(model), 97), *range(40)}:
        assert "damaged" in load(model[:length]) or "not a TensorFlow Lite model" in load(model[:length])


def test_altered_files(altered):
    """Each altered file either runs or gives an error message."""
    rng, refused = np.random.default_rng(3), 0
    for _ in range(FLIPS):
        file = bytearray(altered)
        for _ in range(rng.integers(1, 4)):
            file[rng.integers(len(file))] = rng.integers(256)
        answer = load(bytes(file))
        refused += answer is not None
        assert answer is None or len(answer) > 20
    assert refused > FLIPS / 10


def test_bytes_that_are_no_model():
    assert load(b"") == "the file is damaged or was not copied whole: it refers to byte 0, and has 0 bytes"
    assert "this is not a TensorFlow Lite model" in load(bytes(1000))


def test_handles_that_were_freed(model):
    library, error = engine_module._functions(), engine_module._Error()
    loaded = library.r2b_model_load(model, len(model), ctypes.byref(error))
    created = library.r2b_engine_create(loaded, None, ctypes.byref(error))
    for _ in range(2):
        library.r2b_model_free(loaded)
    assert library.r2b_engine_run(created, ctypes.byref(error))  # the engine keeps the model alive
    assert not library.r2b_engine_create(loaded, None, ctypes.byref(error))
    assert error.text == b"this is not a model, or the model has been freed"
    for _ in range(2):
        library.r2b_engine_free(created)
    assert not library.r2b_engine_run(created, ctypes.byref(error))
    assert error.text == b"this is not an engine, or the engine has been freed"
    assert library.r2b_engine_inputs(created) == -1


@pytest.mark.parametrize(
    ("call", "arguments", "message"),
    [
        ("r2b_engine_set_input", (1, b"", 0), b"the model has 1 inputs, numbered from 0; received 1"),
        ("r2b_engine_set_input", (0, bytes(4), 4), b"input 0 has 5760 bytes; received 4"),
        ("r2b_engine_get_output", (0, None, 1152), b"the pointer for output 0 must not be NULL"),
        ("r2b_engine_get_output", (-1, None, 0), b"the model has 1 outputs, numbered from 0; received -1"),
        ("r2b_engine_resize", (0, None, 9), b"the pointer for the shape must not be NULL"),
        ("r2b_engine_resize", (0, (ctypes.c_int32 * 9)(), 9), b"a shape has at most 8 dimensions; received 9"),
        ("r2b_engine_input", (0, None), b"the pointer for the tensor's description must not be NULL"),
    ],
)
def test_wrong_calls(model, call, arguments, message):
    error = engine_module._Error()
    function = getattr(engine_module._functions(), call)
    assert not function(engine(model)._interpreter._engine, *arguments, ctypes.byref(error))
    assert error.text == message


def test_engines_of_several_threads(model, rng):
    """Several threads run at once, each with its own engine."""
    x = rng.normal(0, 1, (1, 6, 6, 40)).astype(np.float32)
    (expected,) = outputs(engine(model), x)
    wrong = []

    def work():
        own = engine(model, 2)
        wrong.extend(1 for _ in range(50) if outputs(own, x)[0].tobytes() != expected.tobytes())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_forked_process_runs_the_engine_of_its_parent(model, rng):
    x = rng.normal(0, 1, (1, 6, 6, 40)).astype(np.float32)
    interpreter = engine(model, 2)
    (expected,) = outputs(interpreter, x)
    child = os.fork()
    if not child:
        os._exit(0 if outputs(interpreter, x)[0].tobytes() == expected.tobytes() else 1)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="this system has no /proc")
def test_many_loads_runs_and_forks_leak_nothing(model, tmp_path):
    """Runs endurance.py for a short time, in a separate process so that nothing else changes its memory."""
    (tmp_path / "model.tflite").write_bytes(model)
    program = pathlib.Path(__file__).parent / "endurance.py"
    command = [sys.executable, program, tmp_path / "model.tflite", "--cycles", "500", "--forks", "30"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^500 cycles .*\n30 forks ", done.stdout, re.MULTILINE)


def test_endurance_finds_growing_memory_and_differing_answers(model):
    kept, runs = [], endurance.Runs(model, 1)

    def keep():
        kept.append(mmap.mmap(-1, 1 << 20))
        kept[-1].write(bytes(range(256)) * (1 << 12))

    assert endurance.grown(keep, 20)[0] > endurance.MOST_GROWTH
    runs._expected = b"other bits"
    with pytest.raises(RuntimeError, match=r"an answer differs from the first"):
        runs.cycle()
    with pytest.raises(RuntimeError, match=r"a child ended with status 1$"):
        runs.fork()


def test_engine_imports_no_tensorflow_or_litert(model, tmp_path):
    (tmp_path / "model.tflite").write_bytes(model)
    program = (
        "import sys\nfrom r2b_runtime import Interpreter\nInterpreter(sys.argv[1], engine='r2b').invoke()\n"
        "assert not {'tensorflow', 'ai_edge_litert', 'tflite_runtime'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "model.tflite")], check=True)


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    """A C program that runs a model with the installed library."""
    return host_program("host.c", tmp_path_factory.mktemp("host"), "-std=c99", "-Wpedantic")


def test_a_program_in_c(host, model, rng, tmp_path):
    x = rng.normal(0, 1, (1, 6, 6, 40)).astype(np.float32)
    (tmp_path / "model.tflite").write_bytes(model)
    ended = subprocess.run([host, tmp_path / "model.tflite"], input=x.tobytes(), capture_output=True, check=True)
    assert ended.stdout == outputs(engine(model), x)[0].tobytes()


def test_a_program_in_c_without_a_model(host, tmp_path):
    ended = subprocess.run([host, tmp_path / "none"], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (1, f"cannot read {tmp_path / 'none'}: No such file or directory\n")
    ended = subprocess.run([host, tmp_path], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (1, f"cannot read {tmp_path}: Is a directory\n")
