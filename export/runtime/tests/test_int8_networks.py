"""Tests files whose real-valued part r2b_zoo quantised to int8.

The engine, the delegate and the C interface must give the same bits. The answers of LCE's interpreter may differ.
"""

import c_interface
import numpy as np
import pytest
import r2b_runtime
from conftest import run_lce

SIZE = (12, 12, 3)


@pytest.fixture(scope="module")
def photographs():
    """Random images of 12 large areas, each of nearly one colour, uint8 (32, 36, 48, 3)."""
    rng = np.random.default_rng(3)
    areas = np.kron(rng.integers(0, 256, (32, 3, 4, 3)), np.ones((1, 12, 12, 1)))
    return np.clip(areas + rng.integers(-20, 21, areas.shape), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module", params=["float32", "uint8"])
def file(request, photographs):
    """The bytes of a small Real-to-Binary network's file.

    Its first layers, shortcuts and classifier are int8. The weights of its batch normalisation are random.
    """
    zoo = pytest.importorskip("r2b_zoo", reason="r2b_zoo is not installed")
    prepare = zoo.IMAGENET.with_size(*SIZE[:2])
    import tensorflow as tf

    tf.keras.utils.set_random_seed(0)
    model = zoo.RealToBinaryNet(input_shape=SIZE, num_classes=10, width=8, stem="cifar")
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if "batch_norm" in layer.name:
            layer.set_weights([rng.uniform(0.5, 1.5, weight.shape) for weight in layer.get_weights()])
    images = np.stack([prepare(image) for image in photographs])
    logits = model.get_layer("logits")  # centred and scaled, so that several classes are predicted
    raw = tf.keras.Model(model.inputs, logits.output)(images).numpy()
    scale = 2 / raw.std(axis=0).mean()
    logits.set_weights([scale * logits.get_weights()[0], -scale * raw.mean(axis=0)])
    return zoo.convert(
        model,
        labels=list("abcdefghij"),
        preprocessing=prepare,
        real_part="int8",
        calibration=images,
        input=request.param,
    ).tflite


def test_engine_delegate_and_c_give_the_same_bits(file, photographs):
    answers = {
        f"{engine}, {threads} threads": r2b_runtime.Classifier(file, threads, engine=engine).probabilities(photographs)
        for engine in ("r2b", "litert")
        for threads in (1, 2)
    }
    with c_interface.engine(file) as engine:
        rows = []
        for image in photographs:
            c_interface.set_image(engine, image)
            c_interface.call("r2b_engine_run", engine)
            rows.append(c_interface.values(engine, 10))
    answers["r2b.h"] = np.stack(rows)
    first = answers["r2b, 1 threads"]
    assert len(np.unique(first.argmax(axis=1))) > 1
    assert [name for name, found in answers.items() if found.tobytes() != first.tobytes()] == []


def test_a_uint8_input_receives_the_pixels_unchanged(file, photographs):
    interpreter = r2b_runtime.Interpreter(file, engine="r2b")
    detail = interpreter.get_input_details()[0]
    if detail["dtype"] != np.uint8:
        pytest.skip("this file takes floats")
    image = photographs[0][:12, :12]
    classifier = r2b_runtime.Classifier(file)
    # The preprocessing crops `framed` to 0.875 of 14 pixels, about 12. The crop is `image`, which needs no resizing.
    assert classifier.preprocessing.crop_fraction == 0.875
    framed = np.zeros((14, 14, 3), np.uint8)
    framed[1:13, 1:13] = image
    interpreter.set_tensor(detail["index"], image[np.newaxis])
    interpreter.invoke()
    expected = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0]
    np.testing.assert_array_equal(classifier.probabilities(framed), expected)


def test_most_answers_agree_with_those_of_lces_interpreter(file, photographs):
    """LCE's int8 kernels round once where TFLite's reference rounds twice, so a few integers differ by one.

    In a network with random weights, such a difference can flip signs, which changes some answers.
    """
    interpreter = r2b_runtime.Interpreter(file, engine="r2b")
    detail, output = interpreter.get_input_details()[0], interpreter.get_output_details()[0]["index"]
    prepare = r2b_runtime.Classifier(file).preprocessing
    ours, theirs = [], []
    for image in photographs:
        prepared = prepare(image)
        if detail["dtype"] == np.uint8:
            zero_point = detail["quantization"][1]
            prepared = np.clip(np.rint(prepared) + zero_point, 0, 255).astype(np.uint8)
        interpreter.set_tensor(detail["index"], prepared[np.newaxis])
        interpreter.invoke()
        ours.append(interpreter.get_tensor(output)[0])
        theirs.append(run_lce(file, [prepared[np.newaxis]], use_reference_bconv=True)[0][0])
    assert np.mean(np.argmax(ours, axis=1) == np.argmax(theirs, axis=1)) >= 0.75
    assert np.corrcoef(np.ravel(ours), np.ravel(theirs))[0, 1] > 0.85
