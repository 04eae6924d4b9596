"""Tests the zoo's layers under Keras' dtype policies and with float64 inputs, and checks their signatures."""

import inspect

import larq as lq
import numpy as np
import pytest
import tensorflow as tf

from r2b_zoo.models.layers import Conv2D, FusedSteSign, QuantConv2D
from r2b_zoo.models.topology import global_policy
from r2b_zoo.ops.batch_norm import SynchronisedBatchNormalization
from tests.test_layers import CASES, EACH, call, tensors

MIXED = pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
QUANTISERS = pytest.mark.parametrize(
    "quantiser", ["ste_sign", FusedSteSign, lq.quantizers.ApproxSign], ids=["ste_sign", "FusedSteSign", "ApproxSign"]
)


@MIXED
@pytest.mark.parametrize("size", [4, 8])
def test_a_network_of_mixed_layers_trains(policy, size, rng):
    """Trains on maps of 16 and of 64 pixels; on a CPU, the kernel gradients for the smaller maps are in float32."""
    with global_policy(policy):
        model = tf.keras.Sequential(
            [
                tf.keras.layers.Conv2D(4, 3, padding="same"),  # Keras' own layer, whose output is in half precision
                Conv2D(4, 3, padding="same"),
                tf.keras.layers.BatchNormalization(),
                QuantConv2D(4, 3, padding="same", input_quantizer="ste_sign", kernel_quantizer="ste_sign",
                            kernel_constraint="weight_clip"),
                tf.keras.layers.GlobalAveragePooling2D(),
                tf.keras.layers.Dense(3, dtype="float32"),
            ]
        )  # fmt: skip
        model.compile("sgd", tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True), run_eagerly=True)
        images = rng.normal(size=(4, size, size, 2)).astype("float32")
        history = model.fit(images, np.array([0, 1, 2, 0]), epochs=1, verbose=0)
    assert np.isfinite(history.history["loss"]).all()


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16", "float64"])
@QUANTISERS
def test_signs_are_those_of_the_unrounded_values(policy, quantiser):
    """Rounding to float16 first would turn −1e-9 into −0, whose sign is +1."""
    with global_policy(policy):
        quantisers = [quantiser if isinstance(quantiser, str) else quantiser() for _ in range(2)]
        layer = QuantConv2D(1, 1, use_bias=False, input_quantizer=quantisers[0], kernel_quantizer=quantisers[1],
                            kernel_constraint="weight_clip")  # fmt: skip
    layer.build((1, 1, 1, 2))
    layer.set_weights([np.reshape([1.0, -1e-9], (1, 1, 2, 1))])
    for x, expected in (([-1e-9, 1.0], -2), ([1e-9, -1e-9], 2)):
        assert layer(tf.constant(np.reshape(x, (1, 1, 1, 2)), layer.variable_dtype)).numpy() == expected


@MIXED
def test_the_quantiser_alone_does_not_round_values(policy):
    with global_policy(policy):
        quantiser = FusedSteSign()
    for dtype in ("float32", "float64"):
        signs = quantiser(tf.constant([-1e-9, 1e-9, 0.0, -0.0], dtype))
        assert signs.dtype == dtype
        np.testing.assert_array_equal(signs, [-1, 1, 1, 1])


@EACH
def test_layers_take_float64(case, rng):
    layer, inputs = case.make(dtype="float64"), tensors(case, rng, "float64")
    output = call(layer, inputs)
    assert output.dtype == tf.float64
    expected = case.formula(*inputs, *(weight.numpy() for weight in layer.weights))
    np.testing.assert_allclose(output, expected, rtol=1e-12, atol=1e-12)


@EACH
def test_float32_layers_take_float64_inputs(case, rng):
    layer, inputs = case.make(), tensors(case, rng, "float64")
    output = call(layer, inputs)
    expected = case.formula(*inputs, *(weight.numpy() for weight in layer.weights))
    np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-5)
    assert output.dtype == (tf.float64 if isinstance(layer, FusedSteSign) else tf.float32)


def test_batch_norm_over_replicas_takes_float64(rng):
    images = rng.normal(size=(6, 3, 3, 2))
    layer = SynchronisedBatchNormalization(dtype="float64")
    expected = (images - images.mean((0, 1, 2))) / np.sqrt(images.var((0, 1, 2)) + layer.epsilon)
    np.testing.assert_allclose(layer(images, training=True), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("layer", "like"), [(Conv2D, tf.keras.layers.Conv2D), (QuantConv2D, lq.layers.QuantConv2D)], ids=["Conv2D", "Quant"]
)
def test_constructors_show_their_arguments(layer, like):
    assert inspect.signature(layer) == inspect.signature(like)
    assert "kernel_size" in inspect.signature(layer).parameters


def test_no_layer_hides_its_arguments():
    for name, case in CASES.items():
        # Inspect the method: for a class, Python before 3.11.5 shows the arguments of Keras' __new__.
        kinds = {p.kind for p in inspect.signature(type(case.make()).__init__).parameters.values()}
        assert inspect.Parameter.VAR_POSITIONAL not in kinds, name
