"""Tests the table of layers: which quantised layers become binary and which float, and the bytes of each layer."""

from collections.abc import Callable
from typing import Any

import larq as lq
import numpy as np
import pytest
import tensorflow as tf

from r2b_zoo.conversion.converter import Conversion, ConversionError, convert
from r2b_zoo.conversion.layer_report import REST, LayerReport, layer_table, pack_signs
from tests.networks import BINARY, SIGN, assert_same_outputs, randomize, sequential

layers = lq.layers


def rows(conversion: Conversion) -> dict[str, LayerReport]:
    return {row.name: row for row in conversion.layers}


@pytest.mark.parametrize(
    ("shape", "layer", "reason"),
    [
        ((64,), lambda: layers.QuantDense(32, name="q", **BINARY), "use a 1×1 convolution"),
        (
            (8, 8, 32),
            lambda: layers.QuantDepthwiseConv2D(3, name="q", input_quantizer=SIGN, depthwise_quantizer="ste_sign"),
            "QuantDepthwiseConv2D has no binary kernel",
        ),
        (
            (8, 8, 32),
            lambda: layers.QuantSeparableConv2D(
                8,
                3,
                name="q",
                input_quantizer=SIGN,
                depthwise_quantizer="ste_sign",
                pointwise_quantizer="ste_sign",
            ),
            "QuantSeparableConv2D has no binary kernel",
        ),
        (
            (8, 8, 32),
            lambda: layers.QuantConv2DTranspose(32, 3, name="q", **BINARY),
            "QuantConv2DTranspose has no binary kernel",
        ),
        ((8, 32), lambda: layers.QuantConv1D(32, 3, name="q", **BINARY), "QuantConv1D has no binary kernel"),
        (
            (8, 8, 32),
            lambda: layers.QuantConv2D(32, 3, name="q", groups=2, **BINARY),
            "groups of 16 channels: LCE needs a multiple of 32",
        ),
        (
            (8, 8, 32),
            lambda: layers.QuantConv2D(32, 3, name="q", kernel_quantizer=SIGN),
            "no input quantiser: real activations",
        ),
        (
            (8, 8, 32),
            lambda: layers.QuantConv2D(32, 3, name="q", input_quantizer=SIGN),
            "the kernel is real",
        ),
        (
            (8, 8, 32),
            lambda: layers.QuantConv2D(32, 3, name="q", padding="same", pad_values=2.0, **BINARY),
            "padding with 2.0: LCE pads with 0 or 1",
        ),
        (
            (8, 8, 32),
            lambda: layers.QuantConv2D(32, 3, name="q", **{**BINARY, "input_quantizer": "dorefa_quantizer"}),
            "the input quantiser .* gives other values than -1 and \\+1",
        ),
        (
            (8, 8, 32),
            lambda: layers.QuantConv2D(32, 3, name="q", **{**BINARY, "kernel_quantizer": "ste_tern"}),
            "the kernel quantiser .* gives other values than a scale and its negative",
        ),
    ],
)
def test_a_quantised_layer_that_becomes_float_is_named(
    shape: tuple[int, ...], layer: Callable[[], tf.keras.layers.Layer], reason: str
) -> None:
    model = sequential(shape, layer())
    conversion = convert(model)
    (row,) = conversion.not_binary
    assert (row.name, row.kind) == ("q", "float")
    kernel_bytes = 4 * sum(int(np.prod(weight.shape)) for weight in model.weights)
    assert row.bytes >= kernel_bytes, "the table counts too few bytes for the layer"
    with pytest.raises(ConversionError, match=f"'q' \\(.*{reason}"):
        convert(model, strict=True)


@pytest.mark.parametrize(
    "arguments",
    [
        {"padding": "same"},
        {"padding": "same", "pad_values": 1.0},
        {"padding": "valid", "strides": 2},
        {"padding": "same", "dilation_rate": 2},
        {"kernel_quantizer": "magnitude_aware_sign"},
        {"groups": 2},
        {"use_bias": False},
    ],
)
@pytest.mark.parametrize(("channels", "filters"), [(64, 48), (31, 33)])
def test_a_binary_convolution_is_proven_binary(channels: int, filters: int, arguments: dict[str, Any]) -> None:
    if arguments.get("groups"):
        channels = filters = 64
    model = sequential(
        (8, 8, channels),
        layers.QuantConv2D(filters, 3, name="q", **{**BINARY, **arguments}),
        tf.keras.layers.BatchNormalization(name="bn"),
    )
    conversion = convert(model, strict=True)
    assert rows(conversion)["q"].reason == "LceBconv2d with this layer's bits"
    assert_same_outputs(model, conversion.tflite)


def test_strict_error_names_exactly_the_layers_that_become_float() -> None:
    model = sequential(
        (8, 8, 32),
        layers.QuantConv2D(32, 3, name="good", **BINARY),
        layers.QuantConv2DTranspose(32, 3, name="bad1", **BINARY),
        tf.keras.layers.Flatten(),
        layers.QuantDense(8, name="bad2", **BINARY),
    )
    with pytest.raises(ConversionError, match=r"2 quantised layers of net .*'bad1'.*'bad2'") as caught:
        convert(model, strict=True)
    assert "good" not in str(caught.value)
    assert [row.kind for row in convert(model).layers] == ["binary", "float", "float", "graph"]


def test_one_binary_convolution_proves_one_layer() -> None:
    twin = {"kernel_quantizer": SIGN, "padding": "same", "use_bias": False}
    model = sequential(
        (8, 8, 32),
        layers.QuantConv2D(32, 3, name="real_input", **twin),
        layers.QuantConv2D(32, 3, name="binary_input", input_quantizer=SIGN, **twin),
    )
    model.get_layer("binary_input").set_weights(model.get_layer("real_input").get_weights())
    conversion = convert(model)
    assert [row.name for row in conversion.binary] == ["binary_input"]
    assert [row.name for row in conversion.not_binary] == ["real_input"]


def test_a_sign_layer_counts_as_the_next_layers_input_quantiser() -> None:
    model = sequential(
        (8, 8, 32), lq.quantizers.SteSign(name="sign"), layers.QuantConv2D(32, 3, name="q", kernel_quantizer=SIGN)
    )
    assert [row.name for row in convert(model, strict=True).binary] == ["q"]


def test_two_layers_with_the_same_bits_are_both_binary() -> None:
    model = sequential((8, 8, 32), *(layers.QuantConv2D(32, 3, name=name, **BINARY) for name in ("a", "b")))
    model.get_layer("b").set_weights(model.get_layer("a").get_weights())
    assert [row.name for row in convert(model, strict=True).binary] == ["a", "b"]


def test_layers_of_nested_models_with_long_names_are_found() -> None:
    inner = tf.keras.Sequential(
        [
            tf.keras.Input((8, 8, 32)),
            layers.QuantConv2D(32, 3, padding="same", name="conv", **BINARY),
            tf.keras.layers.Conv2D(32, 3, padding="same", name="real"),
        ],
        name="inner",
    )
    image = tf.keras.Input((8, 8, 32))
    outputs = tf.keras.layers.Conv2D(7, 1, name="head")(inner(image))
    model = randomize(tf.keras.Model(image, outputs, name="a_name_that_leaves_no_room_for_any_other_in_fifty_letters"))
    conversion = convert(model, strict=True)
    assert [row.name for row in conversion.layers] == ["inner/conv", "inner/real", "head", REST]
    found = rows(conversion)
    assert found["inner/conv"].bytes == (9 * 32 * 32) // 8 + 2 * 32 * 4
    assert found["inner/real"].bytes == (9 * 32 + 1) * 32 * 4
    assert found["head"].bytes == (32 + 1) * 7 * 4
    assert sum(row.bytes for row in conversion.layers) == conversion.total_bytes
    assert_same_outputs(model, conversion.tflite)


@tf.keras.utils.register_keras_serializable("tests")
class Composite(tf.keras.layers.Layer):
    """A layer that contains layers and a variable."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.binary = layers.QuantConv2D(32, 3, name="binary", **BINARY)
        self.dense = layers.QuantDense(32, name="dense", **BINARY)

    def build(self, input_shape: Any) -> None:
        self.scale = self.add_weight(name="scale", shape=(32,), initializer="ones")

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return self.dense(self.binary(inputs)) * self.scale


def test_layers_inside_a_layer_are_found() -> None:
    conversion = convert(sequential((8, 8, 32), Composite(name="block")))
    assert [row.name for row in conversion.binary] == ["block/binary"]
    assert [row.name for row in conversion.not_binary] == ["block/dense"]
    assert "block" in rows(conversion)


@tf.keras.utils.register_keras_serializable("tests")
class Outer(tf.keras.layers.Layer):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.block = Composite(name="block")

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return self.block(inputs)


def test_layer_with_variables_and_inner_layers_has_a_row_inside_another_layer() -> None:
    table = rows(convert(sequential((8, 8, 32), Outer(name="outer"))))
    assert set(table) == {"outer/block", "outer/binary", "outer/dense", REST}
    assert table["outer/block"].bytes == 32 * 4  # the scale alone; the kernels belong to the inner layers


def test_int8_layers_are_called_int8() -> None:
    model = sequential(
        (8, 8, 32), tf.keras.layers.Conv2D(32, 3, name="conv"), tf.keras.layers.BatchNormalization(name="bn")
    )
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    table = {row.name: row for row in layer_table(model, converter.convert())}
    assert (table["conv"].kind, table["conv"].reason) == ("int8", "8-bit weights")
    assert 9 * 32 * 32 <= table["conv"].bytes <= 9 * 32 * 32 + 2 * 32 * 4
    assert table["bn"].kind == "float"


def test_bits_are_packed_as_lce_packs_them() -> None:
    kernel = np.ones((1, 1, 34, 2), np.float32)
    kernel[0, 0, 0, 0] = kernel[0, 0, 33, 1] = -1.0
    words = np.frombuffer(pack_signs(kernel), "<i4")
    assert words.tolist() == [1, 0, 0, 2]
