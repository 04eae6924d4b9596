"""The engine on an emulated Cortex-M7 gives the same outputs as on a PC, and allocates no memory in an inference."""

import re

import build_microcontroller
import numpy as np
import PIL.Image
import pytest
from conftest import skip_without_tools, start
from r2b_runtime import Classifier, Interpreter, microcontroller, model_file

pytest.importorskip("tensorflow", reason="the models of these tests are written with TensorFlow's schema")

import drawn_graphs
import small_classifier
import tested

IMAGES = 50
MOST_GRAPHS = 100
# The library is compiled first: half a minute on two cores.
slow = pytest.mark.slow


@pytest.fixture(scope="module")
def digits():
    """The bytes of a model file (the network of `r2b demo`, random weights), and test images, uint8 (50, 8, 8, 1)."""
    skip_without_tools()
    pytest.importorskip("r2b_zoo", reason="the zoo is not installed beside the runtime: pip install ../..")
    import tensorflow as tf

    from r2b_zoo import convert
    from r2b_zoo.data.digits import digits as load
    from r2b_zoo.recipes import RECIPES
    from r2b_zoo.recipes.recipe import plan_of
    from r2b_zoo.runs.networks import network_of

    data, plan, rng = load(), plan_of(RECIPES["digits"], "digits", {}), np.random.default_rng(0)
    images = data.test.images[:IMAGES]
    tf.keras.utils.set_random_seed(0)
    network = network_of(plan, plan.stages[-1], data.input_shape, data.num_classes)
    network.set_weights([rng.normal(values, 0.2) for values in network.get_weights()])
    # Random logits differ more between classes than between images. Their means are subtracted, so that several classes
    # are predicted.
    logits = network.layers[-2]
    kernel, bias = logits.get_weights()
    inputs = np.stack([data.preprocessing(image) for image in images])
    means = tf.keras.Model(network.input, logits.output)(inputs).numpy().mean(axis=0)
    logits.set_weights([kernel, bias - means])
    return convert(network, labels=data.class_names, preprocessing=data.preprocessing).tflite, images


def answers(lines):
    """The labels and the probabilities, float32 (images, classes), in the lines that the program printed."""
    rows = [re.fullmatch(r"image \d+: (.+), \d+ %((?: [0-9a-f]{8})+)", line) for line in lines]
    found = [row for row in rows if row]
    bits = np.array([[int(word, 16) for word in row[2].split()] for row in found], np.uint32)
    return [row[1] for row in found], bits.view(np.float32)


def graphs_of_all(operators):
    """Draws graphs until all `operators` occur; returns [(number, graph)] of those that add an operator."""
    left, drawn = set(operators), []
    for number in range(MOST_GRAPHS):
        graph = drawn_graphs.draw([11, number])
        if left & set(graph.operators):
            left -= set(graph.operators)
            drawn.append((number, graph))
    assert not left
    return drawn


def outputs(model, x):
    """The outputs of a model for the input `x`, from the same engine on the PC with portable kernels."""
    interpreter = Interpreter(model, engine="r2b", kernels="portable")
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    return [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]


def hexadecimal(value):
    """The bytes of an array as run_any.cc prints them, in words of four bytes; zeros fill the last word."""
    content = value.tobytes()
    words = np.frombuffer(content + bytes(-len(content) % 4), np.uint32)
    return "".join(f"{word:08x}" for word in words)


def size(lines, what):
    """The number of bytes in the line that the program printed for ``what``."""
    (number,) = (line.split()[-2] for line in lines if line.startswith(f"{what}: "))
    return int(number)


@slow
def test_emulated_board_classifies_fifty_digits_as_the_pc_does(build, digits):
    model, images = digits
    status, lines = start(build(model, images))
    assert status == 0, lines
    labels, probabilities = answers(lines)
    classifier = Classifier(model, kernels="portable")
    expected = np.array([classifier.probabilities(image) for image in images])
    print("biggest difference of the probabilities:", np.abs(probabilities - expected).max())
    assert labels == [classifier.predict(image, top=1)[0][0] for image in images]
    assert len(set(labels)) >= 3
    # The board and the PC execute the same operations in the same order, and round each of them separately.
    np.testing.assert_array_equal(probabilities, expected)


@slow
def test_memory_taken_is_close_to_what_the_pc_computes(build, digits):
    """The loaded model takes 0.9 to 1 times the heap that the PC computes, and at most 1.05 times at its peak.

    That leaves no room for a copy of the model's file. Stack, leftovers and code stay within their limits too.
    """
    model, images = digits
    needs = microcontroller.memory(model_file.read(model))
    program = build(model, images[:2])
    status, lines = start(program)
    assert status == 0, lines
    assert 0.9 * (needs.weights + needs.rest) < size(lines, "loaded") < needs.weights + needs.rest
    assert size(lines, "at most while loading") < 1.05 * size(lines, "loaded")
    assert size(lines, "heap") < 1.05 * (needs.weights + needs.rest)
    assert size(lines, "left behind") < 4096
    assert size(lines, "stack") < 8192
    code = build_microcontroller.code_bytes(program)
    assert 0.9 * needs.code < code < 1.1 * needs.code, f"CODE_BYTES of r2b_runtime/microcontroller.py should be {code}"


@slow
def test_random_graphs_give_the_same_bits_as_on_the_pc(build):
    """Random graphs, in which each float operator except ROUND occurs, have the PC's outputs, bit for bit."""
    source = build_microcontroller.ROOT / "tests" / "native" / "run_any.cc"
    for number, graph in graphs_of_all(set(tested.FLOAT_OPERATORS) - {"ROUND"}):  # no random graph has it
        x = np.random.default_rng(number).normal(size=graph.shape).astype(np.float32)
        status, lines = start(build(graph.model, x, program=source))
        assert status == 0, (number, lines)
        assert lines == [hexadecimal(value) for value in outputs(graph.model, x)], number


@slow
def test_example_program_classifies_images_as_the_pc_does(library, images):
    status, lines = start(library.with_name("example.elf"))
    assert status == 0, lines
    classifier = Classifier(library.with_name("model.tflite"), kernels="portable")
    labels, probabilities = answers(lines)
    assert labels == [classifier.predict(image, top=1)[0][0] for image in images]
    np.testing.assert_array_equal(probabilities, [classifier.probabilities(image) for image in images])


@slow
def test_memory_taken_during_an_inference_is_found(build, library):
    source = build_microcontroller.ROOT / "tests" / "native" / "allocating_run.c"
    model = small_classifier.with_files(small_classifier.model())
    more = ["-Wl,--wrap=r2b_engine_run", "-x", "c", f"-I{library.parent}", source, "-x", "none"]
    status, lines = start(build(model, np.zeros((1, 8, 8, 1), np.uint8), more=more))
    assert status == 1
    assert lines[-1] == "FAILED: memory was allocated or freed during an inference"


@slow
@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (
            lambda: small_classifier.with_files(small_classifier.model())[:1000],
            r"FAILED: the file is damaged or was not copied whole: it refers to byte \d+, and has 1000 bytes",
        ),
        (
            lambda: small_classifier.with_files(small_classifier.model(shape=(1024, 1024, 1)), height=1024, width=1024),
            r"FAILED: out of memory; resize the model's input to a smaller one",
        ),
        (lambda: small_classifier.model(), r"FAILED: the model has no preprocessing metadata: .*"),
    ],
)
def test_program_prints_why_a_model_cannot_run(build, model, sentence):
    status, lines = start(build(model(), np.zeros((1, 8, 8, 1), np.uint8)))
    assert status == 1
    assert re.fullmatch(sentence, lines[-1]), lines


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize(
    "machine",
    [
        "-mcpu=cortex-m4 -mfpu=fpv4-sp-d16 -mfloat-abi=hard",
        "-mcpu=cortex-m33 -mfpu=fpv5-sp-d16 -mfloat-abi=hard",
    ],
)
def test_library_links_for_other_processors(machine, tmp_path):
    """The library compiles and links for other processors; no board with them is emulated here."""
    skip_without_tools()
    library = build_microcontroller.build_library(tmp_path, machine)
    model = small_classifier.with_files(small_classifier.model())
    images = np.zeros((1, 8, 8, 1), np.uint8)
    program = build_microcontroller.build_example(library, model, images, tmp_path / "example.elf", machine)
    assert build_microcontroller.code_bytes(program) < 400_000


def test_images_of_different_sizes_are_refused(tmp_path):
    for name, shape in (("a", (9, 12)), ("b", (9, 12, 3))):
        PIL.Image.fromarray(np.zeros(shape, np.uint8)).save(tmp_path / f"{name}.png")
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    assert build_microcontroller.read_images(paths[:1]).shape == (1, 9, 12, 1)
    with pytest.raises(ValueError, match=r"must be of one size, .*; received \[\(9, 12, 1\), \(9, 12, 3\)\]"):
        build_microcontroller.read_images(paths)


def test_wrong_arguments(monkeypatch, capsys):
    with pytest.raises(SystemExit, match="2"):
        build_microcontroller.main(["model.tflite"])
    assert "name the images that the example should classify, after the model" in capsys.readouterr().err
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(SystemExit, match="1"):
        build_microcontroller.main([])
    said = "arm-none-eabi-g++ and its C++ library are missing: apt-get install libstdc++-arm-none-eabi-newlib\n"
    assert capsys.readouterr().err == said
