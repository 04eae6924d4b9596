"""Tests conversion: the networks of the zoo, what is refused, several outputs, batches, and how a file is saved."""

import errno
import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import larq as lq
import numpy as np
import pytest
import tensorflow as tf

import r2b_zoo
from r2b_zoo.conversion.converter import Conversion, ConversionError, convert
from r2b_zoo.conversion.layer_report import REST
from r2b_zoo.conversion.tflite_engine import ENGINES, LCE, RUNTIME, TFLiteEngine, default_engine, run_tflite
from r2b_zoo.data.preprocessing import IMAGENET
from tests.converted import converted, images
from tests.networks import BINARY, assert_same_outputs, randomize, sequential
from tests.small import DEPLOYED, NETWORKS, SHALLOW, SMALL

BINARY_CONVOLUTIONS = 16

layers = lq.layers


# --- the zoo


@pytest.mark.parametrize(
    ("name", "precision"),
    DEPLOYED,
)
def test_every_network_converts_and_every_layer_is_in_the_table(name: str, precision: str) -> None:
    model, conversion = converted(name, precision)
    assert len(conversion.binary) == (BINARY_CONVOLUTIONS if precision == "binary" else 0)
    assert conversion.not_binary == ()
    assert [row.name for row in conversion.layers] == [layer.name for layer in model.layers if layer.weights] + [REST]
    assert sum(row.bytes for row in conversion.layers) == conversion.total_bytes == len(conversion.tflite)
    assert all(row.bytes > 0 for row in conversion.binary)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "precision"), [n for n in NETWORKS if n not in DEPLOYED])
def test_every_precision_converts(name: str, precision: str) -> None:
    model, conversion = converted(name, precision)
    assert conversion.binary == ()
    assert len(conversion.not_binary) == (BINARY_CONVOLUTIONS if precision == "binary_activations" else 0)
    assert {row.reason for row in conversion.not_binary} <= {"no kernel quantiser: the kernel is real"}
    assert sum(row.bytes for row in conversion.layers) == conversion.total_bytes
    if precision == "binary_activations":
        with pytest.raises(ConversionError, match="16 quantised layers"):
            convert(model, strict=True)


def test_full_size_real_to_binary_net_takes_the_calculated_bytes() -> None:
    model = randomize(r2b_zoo.RealToBinaryNet())
    conversion = convert(model, strict=True)
    assert len(conversion.binary) == BINARY_CONVOLUTIONS
    binary_bytes = sum(row.bytes for row in conversion.binary)
    bits = sum(layer.kernel.shape.num_elements() for layer in model.layers if isinstance(layer, layers.QuantConv2D))
    # A weight takes one bit. Layers with equally many channels share a float32 vector of factors and one of offsets.
    assert bits / 8 <= binary_bytes <= bits / 8 + 2 * 4 * (64 + 128 + 256 + 512)
    rows = {row.name: row for row in conversion.layers}
    assert rows["stem_conv"].bytes == 7 * 7 * 3 * 64 * 4
    assert rows["block1a_gate"].bytes >= 2 * 64 * 8 * 4
    assert rows["logits"].bytes == (512 + 1) * 1000 * 4
    assert sum(row.bytes for row in conversion.layers) == conversion.total_bytes
    assert rows[REST].bytes < 0.02 * conversion.total_bytes


# --- refusals, whose messages say what to do


@tf.keras.utils.register_keras_serializable("tests")
class RowScale(tf.keras.layers.Layer):
    def build(self, input_shape: Any) -> None:
        self.scale = self.add_weight(name="scale", shape=(input_shape[1], 1, 1), initializer="ones")

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return inputs * self.scale


def test_a_factor_that_no_engine_could_run_is_refused() -> None:
    model = sequential((8, 8, 32), layers.QuantConv2D(32, 3, padding="same", name="q", **BINARY), RowScale())
    with pytest.raises(ConversionError, match=r"factor of shape \(8, .*put a tf.reshape between"):
        convert(model)


def two_outputs() -> tf.keras.Model:
    image = tf.keras.Input((4,))
    return tf.keras.Model(image, [image + 1.0, image * 2.0], name="two")


def two_inputs() -> tf.keras.Model:
    images = [tf.keras.Input((4,)), tf.keras.Input((4,))]
    return tf.keras.Model(images, images[0] + images[1], name="both")


def half_precision() -> tf.keras.Model:
    return tf.keras.Sequential([tf.keras.Input((4,)), tf.keras.layers.Dense(2, dtype="mixed_float16")], name="half")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: "model.h5", "takes a Keras 2 model .*received <class 'str'>"),
        (lambda: tf.keras.Sequential([tf.keras.layers.Dense(2)], name="open"), "open has no known input shape"),
        (two_inputs, "takes models with one input; both has 2"),
        (half_precision, "half computes in float16"),
        (
            lambda: r2b_zoo.BNN18(**{**SMALL, "input_shape": (None, None, 3)}),
            r"the input of BNN18 has shape \(None, None, None, 3\): build the network with input_shape=",
        ),
    ],
)
def test_models_that_cannot_be_converted(model: Callable[[], Any], message: str) -> None:
    with pytest.raises(ConversionError, match=message):
        convert(model())


def test_preprocessing_of_another_size_is_refused() -> None:
    model = sequential((8, 8, 3), tf.keras.layers.Conv2D(2, 8))
    with pytest.raises(ValueError, match=r"makes images of shape \(224, 224, 3\), but net takes \(8, 8, 3\)"):
        convert(model, preprocessing=IMAGENET)


def test_an_operator_tflite_does_not_have_is_refused() -> None:
    model = sequential((4, 4), tf.keras.layers.Lambda(tf.linalg.cholesky))
    with pytest.raises(ConversionError, match=r"net converts to a file that no engine can run: .* Cholesky:"):
        convert(model)


class Counter(tf.keras.layers.Layer):
    """Changes a variable when it is called, so LCE's converter refuses it."""

    def build(self, input_shape: Any) -> None:
        self.calls = tf.Variable(0.0, trainable=False)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        self.calls.assign_add(1.0)
        return inputs * self.calls


def test_the_converters_own_messages_are_in_the_error(capfd: pytest.CaptureFixture[str]) -> None:
    message = r"cannot convert net: Could not translate to flatbuffer.\nIts last messages:\n(.|\n)*is not immutable"
    with pytest.raises(ConversionError, match=message):
        convert(sequential((4,), Counter()))
    os.write(2, b"still here")
    assert capfd.readouterr() == ("", "still here")


def test_a_crash_of_the_converter_becomes_an_error() -> None:
    """The model has a constant without elements. LCE 0.16 reads past the end of such a constant."""
    model = sequential((8,), tf.keras.layers.Lambda(lambda x: tf.reshape(x, [1, 2, 4])[:, :0]))
    with pytest.raises(ConversionError, match=r"LCE's converter cannot convert net: it crashed \(SIGSEGV\)"):
        convert(model)


def test_other_threads_print_while_a_model_is_converted(capfd: pytest.CaptureFixture[str]) -> None:
    """What the main thread prints must appear even while two threads convert a model and run files."""
    _, conversion = converted("ResNet18", "real", SHALLOW)
    working, printed = threading.Event(), 0

    def work() -> None:
        convert(sequential((4,), tf.keras.layers.Dense(2)))
        for engine in ENGINES if default_engine() == RUNTIME else (LCE,):
            TFLiteEngine(conversion.tflite, engine=engine).predict(images(2))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        os.write(1, b"out\n")
        os.write(2, b"err\n")
        printed += 1
        working.wait(0.002)
    os.write(1, b"last\n")
    captured = capfd.readouterr()
    assert captured.out == "out\n" * printed + "last\n"
    assert captured.err == "err\n" * printed


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_infinite_weights_are_refused(value: float) -> None:
    model = sequential((4,), tf.keras.layers.Dense(2, name="dense"))
    kernel, bias = model.get_weights()
    kernel[0, 0] = value
    model.set_weights([kernel, bias])
    with pytest.raises(ConversionError, match=r"1 of the 8 in dense/kernel:0 of net are NaN or infinite: train it"):
        convert(model)


# --- several outputs


def outputs_of(tflite: bytes, image: np.ndarray) -> dict[str, np.ndarray]:
    interpreter = tf.lite.Interpreter(model_content=tflite)
    return interpreter.get_signature_runner()(
        **{next(iter(interpreter.get_signature_runner().get_input_details())): image}
    )


@pytest.mark.parametrize("form", ["list", "dict", "one", "twice"])
def test_a_file_has_every_output_of_its_model_by_name(form: str) -> None:
    image = tf.keras.Input((8, 8, 3), name="image")
    first = tf.keras.layers.Conv2D(4, 3, name="zebra")(image)
    second = tf.keras.layers.Dense(5, name="ape")(tf.keras.layers.Flatten()(first))
    outputs = {
        "list": [first, second],
        "dict": {"b": first, "a": second},
        "one": {"a": second},
        "twice": [second, second],
    }
    model = tf.keras.Model(image, outputs[form], name="net")
    batch = np.random.default_rng(0).normal(size=(1, 8, 8, 3)).astype(np.float32)
    expected = model(batch)
    names = {"list": ["zebra", "ape"], "twice": ["ape", "ape_1"]}
    if not isinstance(expected, dict):
        expected = dict(zip(names[form], expected, strict=True))
    found = outputs_of(convert(model).tflite, batch)
    assert found.keys() == expected.keys()
    for name, values in found.items():
        np.testing.assert_allclose(values, expected[name], atol=1e-5, err_msg=name)


def test_a_network_without_its_top_converts_to_binary_convolutions() -> None:
    model = randomize(r2b_zoo.BiRealNet18(**{**SMALL, "input_shape": (16, 16, 3)}, include_top=False))
    conversion = convert(model, strict=True)
    assert len(conversion.binary) == BINARY_CONVOLUTIONS


def test_labels_are_refused_for_several_outputs() -> None:
    with pytest.raises(ValueError, match="Labels name the classes of one output; two has 2 outputs"):
        convert(two_outputs(), labels=["a", "b"])


# --- a batch


@pytest.mark.skipif(default_engine() != RUNTIME, reason="no r2b-runtime: pip install ./export/runtime")
@pytest.mark.parametrize(("name", "precision"), DEPLOYED)
def test_every_file_can_be_resized_to_a_batch(name: str, precision: str) -> None:
    import r2b_runtime

    _, conversion = converted(name, precision)
    one_by_one = run_tflite(conversion.tflite, images(3), engine=RUNTIME)
    interpreter = r2b_runtime.Interpreter(conversion.tflite, 1)
    index = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(index, (3, 32, 32, 3))
    interpreter.allocate_tensors()
    interpreter.set_tensor(index, images(3))
    interpreter.invoke()
    found = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    np.testing.assert_allclose(found, one_by_one, atol=1e-4)


# --- filters that the converter negates


@pytest.mark.parametrize("negative", [(), (1, 5), range(32)])
def test_a_negative_factor_before_a_sign_is_no_obstacle(negative: Iterable[int]) -> None:
    """LCE replaces a batch norm and the sign after it with a comparison, in the same direction for all channels.

    If a channel's batch norm has a negative factor, LCE therefore negates the channel's filter.
    """
    model = sequential(
        (8, 8, 31),
        layers.QuantConv2D(32, 3, name="first", use_bias=False, **BINARY),
        tf.keras.layers.BatchNormalization(name="bn"),
        layers.QuantConv2D(8, 3, name="second", use_bias=False, **BINARY),
    )
    gamma, *rest = model.get_layer("bn").get_weights()
    gamma = np.abs(gamma)
    gamma[list(negative)] *= -1
    model.get_layer("bn").set_weights([gamma, *rest])
    conversion = convert(model, strict=True)
    assert [row.name for row in conversion.binary] == ["first", "second"]
    turned = "".join(f"; {n} filters negated, for the negative factor that follows" for n in [len([*negative])] if n)
    rows = {row.name: row for row in conversion.layers}
    assert rows["first"].reason == "LceBconv2d with this layer's bits" + turned
    assert rows["first"].bytes >= 32 * 9 * 4
    assert_same_outputs(model, conversion.tflite)


# --- output, summary and saving


def test_conversion_prints_nothing_and_its_summary_is_a_table(capfd: pytest.CaptureFixture[str]) -> None:
    conversion = convert(sequential((8, 8, 32), layers.QuantConv2D(32, 3, name="q", **BINARY)))
    assert capfd.readouterr() == ("", "")
    lines = conversion.summary().splitlines()
    assert lines[0].split() == ["layer", "kind", "bytes", "why"]
    assert lines[1].startswith("q ")
    assert f"{conversion.total_bytes:,}" in lines[-1]


@pytest.mark.parametrize("name", ["model.tflite", "MODEL.TFLITE"])
def test_save_writes_the_file(tmp_path: Path, name: str) -> None:
    conversion = Conversion(b"0123", ())
    path = tmp_path / name
    path.write_bytes(b"an older and longer one")
    conversion.save(path)
    assert path.read_bytes() == b"0123"
    assert os.listdir(tmp_path) == [name]


def test_a_file_of_another_kind_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "weights.h5").write_bytes(b"of many epochs")
    with pytest.raises(ValueError, match=r"has a name that ends in .tflite; received '.*weights.h5'"):
        Conversion(b"0123", ()).save(tmp_path / "weights.h5")
    assert (tmp_path / "weights.h5").read_bytes() == b"of many epochs"


def test_save_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match=r"cannot be written to .*model.tflite: No space left"):
        Conversion(b"0123", ()).save(tmp_path / "model.tflite")
    assert os.listdir(tmp_path) == []


def test_save_into_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"cannot be written to .*: No such file"):
        Conversion(b"0123", ()).save(tmp_path / "missing" / "model.tflite")
