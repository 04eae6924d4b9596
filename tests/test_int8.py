"""Tests conversion with ``real_part="int8"``: the file's operators, its outputs, and what is refused."""

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.lite.tools import flatbuffer_utils

import r2b_zoo
from r2b_zoo.conversion import calibration, int8, lce, metadata
from r2b_zoo.conversion.calibration import CalibrationError, Histogram
from r2b_zoo.conversion.converter import Conversion, ConversionError, convert
from r2b_zoo.conversion.tflite_engine import LCE, run_tflite
from r2b_zoo.data.preprocessing import IMAGENET, Preprocessing
from r2b_zoo.evaluation.classifier import Classifier
from r2b_zoo.evaluation.verification import verify
from tests import tiny
from tests.networks import randomize

SIZE = (12, 12, 3)
PREPROCESSING = IMAGENET.with_size(*SIZE[:2])
FAR = replace(PREPROCESSING, mean=(40.0, 120.0, 200.0))
LABELS = tuple("abcdefghij")
REFERENCE = tf.lite.experimental.OpResolverType.BUILTIN_REF


def pixels(count: int = 32, shape: tuple[int, ...] = SIZE) -> np.ndarray:
    """Images with large areas of similar colour, as photographs have them: uint8 (count, *shape)."""
    rng = np.random.default_rng(11)
    coarse = rng.integers(0, 256, (count, 3, 3, shape[-1]))
    fine = np.kron(coarse, np.ones((1, shape[0] // 3, shape[1] // 3, 1)))
    return np.clip(fine + rng.integers(-20, 21, fine.shape), 0, 255).astype(np.uint8)


def prepared(images: np.ndarray) -> np.ndarray:
    return PREPROCESSING.normalise(images).numpy()


@cache
def network() -> tf.keras.Model:
    with tiny.topology._depth(*tiny.SHALLOW):
        return randomize(r2b_zoo.create("RealToBinaryNet", input_shape=SIZE, num_classes=10, width=8, stem="cifar"))


@cache
def converted(taken: str) -> Conversion:
    return convert(
        network(),
        labels=LABELS,
        preprocessing=PREPROCESSING,
        real_part="int8",
        calibration=prepared(pixels()),
        input=taken,
    )


def preprocessing_of(taken: str) -> Preprocessing:
    found = metadata.read(converted(taken).tflite).preprocessing
    assert found is not None
    return found


def operators(tflite: bytes) -> list[str]:
    file = flatbuffer_utils.read_model_from_bytearray(bytearray(tflite))
    return [
        (file.operatorCodes[op.opcodeIndex].customCode or b"").decode()
        or flatbuffer_utils.opcode_to_name(file, op.opcodeIndex)
        for op in file.subgraphs[0].operators
    ]


def plain(model: tf.keras.Model) -> bytes:
    """A file without LCE's operators, so that every interpreter can run it."""
    return tf.lite.TFLiteConverter.from_keras_model(model).convert()


def stock(tflite: bytes, images: np.ndarray) -> np.ndarray:
    """The outputs of TensorFlow Lite's reference kernels, one per image."""
    interpreter = tf.lite.Interpreter(model_content=tflite, experimental_op_resolver_type=REFERENCE)
    interpreter.allocate_tensors()
    taken, given = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    answers = []
    for image in images:
        interpreter.set_tensor(taken, image[np.newaxis])
        interpreter.invoke()
        answers.append(interpreter.get_tensor(given)[0])
    return np.stack(answers)


def sequential(*layers: tf.keras.layers.Layer, shape: tuple[int, ...] = SIZE) -> tf.keras.Model:
    model = tf.keras.Sequential([tf.keras.layers.Input(shape), *layers])
    rng = np.random.default_rng(2)
    model.set_weights([rng.normal(size=weight.shape) for weight in model.get_weights()])
    return model


@pytest.mark.parametrize("taken", ["float32", "uint8"])
def test_stem_shortcut_and_classifier_are_int8_and_the_rest_is_as_it_was(taken):
    conversion = converted(taken)
    assert [row.name for row in conversion.int8] == [
        "stem_conv", "stem_batch_norm", "block2a_shortcut_conv", "block2a_shortcut_batch_norm", "logits",
    ]  # fmt: skip
    found = operators(conversion.tflite)
    assert found.count("QUANTIZE") == found.count("DEQUANTIZE") == 3
    assert found.count("CONV_2D") == 2
    assert found[:2] == ["QUANTIZE", "CONV_2D"]
    assert found.count("LceBconv2d") == len(conversion.binary) == 4
    assert sum(row.bytes for row in conversion.layers) == len(conversion.tflite)


def test_the_table_counts_the_bytes_of_int8():
    before = {row.name: row for row in convert(network()).layers}
    after = {row.name: row for row in converted("float32").layers}
    for name in ("stem_conv", "block2a_shortcut_conv"):
        assert 4 * after[name].bytes == before[name].bytes
    assert after["logits"].bytes == before["logits"].bytes / 4 + 3 / 4 * 4 * 10  # the bias keeps 32 bits
    assert after["stem_conv"].reason == "calibrated: 8-bit weights with a scale per filter"
    assert after["stem_batch_norm"].reason == "folded into an int8 layer, whose bias has 32 bits"
    assert {name for name in before if before[name].bytes != after[name].bytes} == {
        "stem_conv", "block2a_shortcut_conv", "logits", "(graph and metadata)",
    }  # fmt: skip


@pytest.mark.parametrize("taken", ["float32", "uint8"])
def test_the_answers_are_those_of_the_network_but_for_rounding(taken):
    images = pixels(96)[32:]
    conversion = converted(taken)
    verification = verify(
        network(),
        conversion.tflite,
        [(prepared(images), network()(prepared(images)).numpy().argmax(axis=1))],
        engine=LCE,
        labels=LABELS,
        preprocessing=PREPROCESSING,
        max_loss=100,
    )
    assert verification.told_otherwise == ()
    # In a network with random weights, rounding flips a few signs and so changes some answers. They still correlate
    # with the network's answers.
    expected = network()(prepared(images)).numpy()
    file_takes = images if taken == "uint8" else prepared(images)
    found = lce.Interpreter(conversion.tflite, 1, reference=True).predict(file_takes)
    assert verification.mean_difference == pytest.approx(np.abs(found - expected).mean())
    assert np.corrcoef(np.log(found + 1e-3).ravel(), np.log(expected + 1e-3).ravel())[0, 1] > 0.85


def test_a_file_that_takes_bytes_says_so():
    assert preprocessing_of("uint8") == replace(PREPROCESSING, mean=(114, 114, 114), std=(1, 1, 1))
    graph = flatbuffer_utils.read_model_from_bytearray(bytearray(converted("uint8").tflite)).subgraphs[0]
    image = graph.tensors[graph.inputs[0]]
    assert (image.type, image.quantization.scale[0], image.quantization.zeroPoint[0]) == (3, 1, 114)
    assert preprocessing_of("float32") == PREPROCESSING


def test_a_classifier_gives_a_uint8_file_pixels_without_normalising():
    photograph = np.random.default_rng(4).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    classifier = Classifier("int8", preprocessing_of("uint8"), LABELS, tflite=converted("uint8").tflite)
    prepared_for_keras = PREPROCESSING(photograph)
    levels = PREPROCESSING.pixels(prepared_for_keras).numpy()
    expected = lce.Interpreter(converted("uint8").tflite, 1, reference=True).predict(
        np.clip(np.rint(levels), 0, 255).astype(np.uint8)[np.newaxis]
    )
    answers = dict(classifier.predict(photograph, top=10))
    assert answers == pytest.approx(dict(zip(LABELS, expected[0].tolist(), strict=True)), abs=1e-4)


STRIDED = [(1, "same"), (2, "same"), (2, "valid")]


@pytest.mark.parametrize(("strides", "padding"), STRIDED)
@pytest.mark.parametrize("means", ["near", "far"])
def test_normalising_inside_the_file_adds_little_error(strides, padding, means):
    preprocessing = PREPROCESSING if means == "near" else FAR
    model = sequential(tf.keras.layers.Conv2D(8, 5, strides=strides, padding=padding))
    images = pixels(64)
    floats = preprocessing.normalise(images).numpy()
    expected = model(floats).numpy()
    errors = {}
    for takes_bytes, taken in ((False, floats), (True, images)):
        file = int8.quantise(plain(model), [floats], preprocessing=preprocessing, takes_bytes=takes_bytes)
        errors[takes_bytes] = stock(file.tflite, taken) - expected
    assert operators(file.tflite).count("CONV_2D") == (2 if (means, padding) == ("far", "same") else 1)
    border = np.ones(expected.shape[1:3], bool)
    border[2:-2, 2:-2] = False

    def size(error: np.ndarray) -> float:
        return float(np.sqrt(np.mean(error**2)) / expected.std())

    # An image of bytes is padded with the middle of the channels' means instead of each channel's mean. If all means
    # are near the middle, this causes a small error at the border. If they are far from it, the file adds a constant
    # channel to the image, which makes padding exact (docstring of conversion/int8.py). Away from the border, the error
    # of an image of bytes is at most 10 % above that of a float image rounded to int8.
    if padding == "same":
        assert size(errors[True][:, border]) < (0.1 if means == "near" else 1.1 * size(errors[False][:, border]))
        assert size(errors[True][:, ~border]) < 1.1 * size(errors[False][:, ~border])
    else:
        assert size(errors[True]) < 1.1 * size(errors[False]) < 0.02


@pytest.mark.parametrize("preprocessing", [PREPROCESSING, FAR], ids=["near", "far"])
def test_padding_before_the_first_convolution_is_int8(preprocessing):
    model = sequential(tf.keras.layers.ZeroPadding2D(2), tf.keras.layers.Conv2D(8, 5, strides=2))
    images = pixels(64)
    floats = preprocessing.normalise(images).numpy()
    file = int8.quantise(plain(model), [floats], preprocessing=preprocessing, takes_bytes=True)
    plane = ["CONV_2D"] if preprocessing is FAR else []
    assert operators(file.tflite) == ["QUANTIZE", *plane, "PAD", "CONV_2D", "DEQUANTIZE"]
    expected = model(floats).numpy()
    error = np.sqrt(np.mean((stock(file.tflite, images) - expected) ** 2)) / expected.std()
    assert error < (0.02 if preprocessing is FAR else 0.1)


def test_the_mean_of_grey_images_becomes_the_zero_point():
    grey = Preprocessing(12, 12, 1, 1.0, (77.8,), (95.9,))
    model = sequential(tf.keras.layers.Conv2D(4, 3, padding="same"), shape=(12, 12, 1))
    images = pixels(32, (12, 12, 1))
    file = int8.quantise(plain(model), [grey.normalise(images).numpy()], preprocessing=grey, takes_bytes=True)
    assert operators(file.tflite) == ["QUANTIZE", "CONV_2D", "DEQUANTIZE"]
    assert file.preprocessing == replace(grey, mean=(78,), std=(1,))


def test_a_chain_of_layers_after_an_int8_layer_stays_int8():
    model = sequential(
        tf.keras.layers.Conv2D(8, 3, activation="relu"),
        tf.keras.layers.MaxPooling2D(2),
        tf.keras.layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2),
        tf.keras.layers.Conv2D(6, 1, activation="relu6"),
        tf.keras.layers.Flatten(),
        tf.keras.layers.Dense(4, activation="softmax"),
    )
    images = pixels(64)
    file = int8.quantise(plain(model), [prepared(images)], preprocessing=PREPROCESSING)
    assert operators(file.tflite) == [
        "QUANTIZE", "CONV_2D", "MAX_POOL_2D", "DEPTHWISE_CONV_2D", "CONV_2D", "RESHAPE", "FULLY_CONNECTED",
        "DEQUANTIZE", "SOFTMAX",
    ]  # fmt: skip
    expected = model(prepared(images)).numpy()
    assert np.mean(np.abs(stock(file.tflite, prepared(images)) - expected)) < 0.05
    # LCE's interpreter uses other kernels, which round some integers differently.
    answers = run_tflite(file.tflite, prepared(images), engine=LCE)
    assert np.mean(np.abs(answers - stock(file.tflite, prepared(images)))) < 0.01


def test_zero_and_tiny_filters_keep_the_precision_of_their_biases():
    model = sequential(tf.keras.layers.Conv2D(5, 3))
    kernel, bias = model.get_weights()
    model.set_weights([kernel * np.array([1, 100, 1e-3, 0, 1e-9]), bias])
    images = prepared(pixels(64))
    file = int8.quantise(plain(model), [images]).tflite
    graph = flatbuffer_utils.read_model_from_bytearray(bytearray(file))
    kernel, offsets = (graph.subgraphs[0].tensors[number] for number in graph.subgraphs[0].operators[1].inputs[1:])
    assert np.all(kernel.quantization.scale > 0)
    numbers = np.frombuffer(bytes(graph.buffers[offsets.buffer].data), np.int32)
    # Filter 3 is zero and filter 4 is far smaller than its bias, so their outputs are their biases.
    step = graph.subgraphs[0].tensors[graph.subgraphs[0].operators[1].outputs[0]].quantization.scale[0]
    np.testing.assert_allclose((numbers * offsets.quantization.scale)[3:], bias[3:], atol=step / 250)


def test_shared_constants_are_rewritten_once_for_each_layer():
    image = tf.keras.layers.Input(SIZE)
    shared = tf.keras.layers.Conv2D(4, 3, padding="same")
    model = tf.keras.Model(
        image, tf.keras.layers.Add()([shared(image), shared(tf.keras.layers.MaxPooling2D(1)(-image))])
    )
    images = prepared(pixels(64))
    file = int8.quantise(plain(model), [images])
    assert operators(file.tflite).count("CONV_2D") == 2
    expected = model(images).numpy()
    assert np.sqrt(np.mean((stock(file.tflite, images) - expected) ** 2)) < 0.05


# Ranges


def test_a_histogram_counts_whatever_order_values_come_in(rng):
    values = rng.normal(size=4096) * np.exp(3 * rng.normal(size=4096))
    forwards, backwards = Histogram(), Histogram()
    for found, ordered in ((forwards, values), (backwards, np.sort(np.abs(values)) * np.sign(values))):
        for part in np.array_split(ordered.astype(np.float32), 7):
            found.add(part[:, np.newaxis])
    assert forwards.counts.sum() == backwards.counts.sum() == 4096
    assert (forwards.low, forwards.high) == (values.astype(np.float32).min(), values.astype(np.float32).max())


def test_the_range_with_the_least_error_clips_rare_values(rng):
    values = rng.normal(size=200_000).astype(np.float32)
    values[0] = 60.0
    found = Histogram()
    found.add(values[:, np.newaxis])

    def error(chosen: calibration.Quantisation) -> float:
        numbers = np.clip(np.rint(values / chosen.scale) + chosen.zero_point, -128, 127)
        return float(np.mean((chosen.scale * (numbers - chosen.zero_point) - values) ** 2))

    assert found.whole_range().scale == pytest.approx((60 - values.min()) / 255)
    assert error(found.least_error()) < 0.9 * error(found.whole_range())


@pytest.mark.parametrize(("low", "high"), [(0.0, 3.0), (-3.0, 0.0), (1.0, 2.0), (-0.001, 8.0), (0.0, 0.0)])
def test_ranges_always_contain_zero(low, high):
    found = Histogram()
    found.add(np.linspace(low, high, 100, dtype=np.float32)[:, np.newaxis])
    for chosen in (found.whole_range(), found.least_error()):
        assert chosen.scale > 0
        assert -128 <= chosen.zero_point <= 127
        assert chosen.scale * (127 - chosen.zero_point) >= 0.7 * high


# What is refused


def test_invalid_conversion_options_are_refused():
    for arguments, message in (
        ({"real_part": "int4"}, r"real_part must be one of 'float', 'int8'; received 'int4'"),
        ({"input": "int16"}, r"input must be one of 'float32', 'uint8'; received 'int16'"),
        ({"input": "uint8"}, r"it needs real_part='int8'; received real_part='float'"),
        ({"calibration": prepared(pixels())}, r"calibration= is for real_part='int8'; received it with"),
        ({"real_part": "int8", "input": "uint8"}, r"input='uint8' needs preprocessing="),
    ):
        with pytest.raises(ValueError, match=message):
            convert(network(), **arguments)


CALIBRATIONS: list[tuple[Any, str]] = [
    (None, r"needs calibration images, which show what values occur: give calibration=images, at least 16"),
    (prepared(pixels(32))[:15], r"Calibration needs at least 16 images; received 15"),
    ([], r"Calibration needs at least 16 images; received 0"),
    (np.zeros((20, *SIZE), np.float32), r"Calibration needs different images; all 20 are equal"),
    (
        prepared(pixels())[..., :1],
        r"must have the shape \(N, 12, 12, 3\) that the model takes; received \(32, 12, 12, 1\)",
    ),
    (prepared(pixels()) * np.nan, r"must be finite numbers; some are NaN"),
    (
        pixels(),
        r"must be prepared by the model's preprocessing, which gives values from .* call preprocessing\(image\)",
    ),
]


@pytest.mark.parametrize(("images", "message"), CALIBRATIONS)
def test_unusable_calibration_images_are_refused(images, message):
    with pytest.raises(CalibrationError, match=message):
        calibration.checked(images, SIZE, PREPROCESSING)


def test_a_network_without_real_part():
    model = sequential(tf.keras.layers.ReLU(), tf.keras.layers.GlobalAveragePooling2D())
    with pytest.raises(ConversionError, match=r"sequential.* has no real part that could be int8: no convolution"):
        convert(model, real_part="int8", calibration=prepared(pixels()))


@pytest.mark.parametrize(
    ("first", "message"),
    [
        (tf.keras.layers.DepthwiseConv2D(3), r"normalising can only be folded into a plain convolution, which its"),
        (tf.keras.layers.ReLU(), r"an operator other than a convolution with real weights reads the image"),
    ],
)
def test_uint8_input_is_refused_where_normalising_cannot_be_folded(first, message):
    model = sequential(first, tf.keras.layers.Conv2D(4, 3))
    with pytest.raises(ConversionError, match=message):
        convert(model, real_part="int8", calibration=prepared(pixels()), preprocessing=PREPROCESSING, input="uint8")


# Verification


def test_verify_measures_what_an_int8_file_loses():
    images = prepared(pixels())
    answers = network()(images).numpy().argmax(axis=1)
    conversion = converted("float32")
    found = run_tflite(conversion.tflite, images, engine=LCE).argmax(axis=1)
    lost = 100 * float(np.mean(found != answers))
    result = verify(network(), conversion.tflite, [(images, answers)], engine=LCE, max_loss=100)
    assert result.loss == pytest.approx(lost)
    assert result.passed
    # With the file's answers as true classes, Keras is wrong wherever the two differ, and nothing is lost.
    gained = verify(network(), conversion.tflite, [(images, found)], engine=LCE, max_loss=0)
    assert (gained.loss, gained.passed) == (pytest.approx(-lost), True)
    unknown = verify(network(), conversion.tflite, images, engine=LCE, max_loss=100)
    assert unknown.loss == pytest.approx(lost)
    assert "true classes are unknown" in unknown.summary()


def test_verify_counts_what_is_lost_and_gained():
    from r2b_zoo.evaluation.verification import Verification

    result = Verification(1000, 40, 0.01, 0.4, max_loss=0.5, correct=700, lost=16, gained=10)
    assert (result.loss, result.passed, result.verdict) == (pytest.approx(0.6), False, "DIFFERENT")
    line = "Top-1: 70.00 % in Keras, 69.40 % in the file; 0.60 points lost, standard error 0.51 (at most 0.5 allowed)."
    assert line in result.summary().splitlines()
    assert Verification.recorded(result.as_dict()) == result


def test_verify_checks_its_arguments():
    images = prepared(pixels(4))
    with pytest.raises(ValueError, match=r"max_loss must be in percentage points of top-1, from 0 to 100; received -1"):
        verify(network(), converted("float32").tflite, images, max_loss=-1)
    with pytest.raises(ValueError, match=r"normalises them itself: give verify the model's preprocessing="):
        verify(network(), converted("uint8").tflite, images, engine=LCE)
    with pytest.raises(ValueError, match=r"4 images need as many true classes; received classes of shape \(3,\)"):
        verify(network(), converted("float32").tflite, [(images, np.zeros(3, int))], engine=LCE)
