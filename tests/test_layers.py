"""Tests every custom layer with one harness, and compares each with NumPy."""

import contextlib
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass

import larq as lq
import numpy as np
import pytest
import tensorflow as tf

from r2b_zoo.models import layers
from r2b_zoo.models.layers import (
    Add,
    ChannelGate,
    ChannelScale,
    Conv2D,
    FusedSteSign,
    FusedWeightClip,
    GlobalAverage,
    LearnedScale,
    MaxPooling2D,
    PReLU,
    QuantConv2D,
    compiled_whole,
)
from r2b_zoo.ops import fused
from r2b_zoo.ops.fused import fused_for_training


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def gate(x, y, reduce_kernel, expand_kernel):
    hidden = np.maximum(x.mean(axis=(1, 2)) @ reduce_kernel, 0)
    return y * sigmoid(hidden @ expand_kernel)[:, None, None, :]


def scale(x, height, width, channel):
    return x * np.einsum("i,j,c->ijc", height.ravel(), width.ravel(), channel)


def convolution(x, kernel):
    """A 3×3 convolution with stride 1 and zero padding."""
    _, height, width, _ = x.shape
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    taps = [(i, j, padded[:, i : i + height, j : j + width]) for i in range(3) for j in range(3)]
    return sum(np.einsum("nhwc,cd->nhwd", part, kernel[i, j]) for i, j, part in taps)


def max_pool(x):
    """3×3 max pooling with stride 2; for odd heights and widths, "same" padding is one pixel on every side."""
    _, height, width, _ = x.shape
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    return np.max([padded[:, i : i + height : 2, j : j + width : 2] for i in range(3) for j in range(3)], axis=0)


CONVOLUTION = {"filters": 4, "kernel_size": 3, "padding": "same", "use_bias": False}


@dataclass(frozen=True)
class Case:
    """A layer to test.

    Attributes:
        make: builds the layer; takes the arguments that every Keras layer has, for example ``dtype``.
        shapes: shapes of the layer's inputs, without the batch.
        formula: the layer's function in NumPy; takes the inputs and then the weights.
        weights: number of values in all trainable weights.
    """

    make: Callable[..., tf.keras.layers.Layer]
    shapes: tuple[tuple[int, ...], ...]
    formula: Callable[..., np.ndarray]
    weights: int


CASES = {
    "Add": Case(Add, ((4, 5, 3), (4, 5, 3)), np.add, weights=0),
    "ChannelGate": Case(lambda **k: ChannelGate(reduction=2, **k), ((5, 6, 8), (3, 2, 5)), gate, weights=8 * 4 + 4 * 5),
    "ChannelScale": Case(ChannelScale, ((5, 6, 8),), np.multiply, weights=8),
    "Conv2D": Case(lambda **k: Conv2D(**CONVOLUTION, **k), ((4, 5, 2),), convolution, weights=9 * 2 * 4),
    "QuantConv2D": Case(lambda **k: QuantConv2D(**CONVOLUTION, **k), ((4, 5, 2),), convolution, weights=9 * 2 * 4),
    "FusedSteSign": Case(FusedSteSign, ((5, 6, 8),), lambda x: np.where(x < 0, -1.0, 1.0), weights=0),
    "PReLU": Case(
        lambda **k: PReLU(shared_axes=[1, 2], **k),
        ((4, 5, 3),),
        lambda x, alpha: np.where(x > 0, x, alpha * x),
        weights=3,
    ),
    "GlobalAverage": Case(GlobalAverage, ((5, 6, 8),), lambda x: x.mean(axis=(1, 2)), weights=0),
    "MaxPooling2D": Case(lambda **k: MaxPooling2D(3, 2, "same", **k), ((5, 7, 3),), max_pool, weights=0),
    "LearnedScale": Case(LearnedScale, ((5, 6, 8),), scale, weights=5 + 6 + 8),
}
EACH = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
EACH_WITH_WEIGHTS = pytest.mark.parametrize("case", [case for case in CASES.values() if case.weights])


def tensors(case, rng, dtype="float32"):
    return [rng.normal(size=(3, *shape)).astype(dtype) for shape in case.shapes]


def call(layer, inputs):
    return layer(inputs if len(inputs) > 1 else inputs[0])


def built(case, rng, **arguments):
    """The layer with random weights."""
    layer = case.make(**arguments)
    call(layer, tensors(case, rng, layer.dtype))
    layer.set_weights([rng.normal(size=weight.shape) for weight in layer.weights])
    return layer


def model_of(case, rng):
    inputs = [tf.keras.Input(shape) for shape in case.shapes]
    model = tf.keras.Model(inputs, call(case.make(name="the_layer"), inputs))
    model.set_weights([rng.normal(size=weight.shape) for weight in model.weights])
    return model


# --- the harness ------------------------------------------------------------------------------------------------------


def test_every_layer_has_a_case():
    own = {
        name
        for name, value in vars(layers).items()
        if inspect.isclass(value) and issubclass(value, tf.keras.layers.Layer) and value.__module__ == layers.__name__
    }
    assert own == set(CASES)


@EACH
def test_weight_count(case, rng):
    layer = built(case, rng)
    assert layer.count_params() == case.weights
    assert len(layer.trainable_weights) == len(layer.weights)


@EACH
def test_eager_equals_graph(case, rng):
    layer, inputs = built(case, rng), tensors(case, rng)
    np.testing.assert_allclose(call(layer, inputs), tf.function(lambda: call(layer, inputs))(), rtol=1e-6, atol=1e-6)


@EACH
def test_shape_inference_agrees_with_the_result(case, rng):
    layer, inputs = built(case, rng), tensors(case, rng)
    shapes = [tf.TensorShape(x.shape) for x in inputs]
    assert tuple(layer.compute_output_shape(shapes if len(shapes) > 1 else shapes[0])) == call(layer, inputs).shape


@EACH
def test_the_config_holds_exactly_the_init_arguments(case):
    layer = case.make(name="own")
    arguments = set(inspect.signature(type(layer).__init__).parameters) - {"self", "kwargs", "args"}
    # A layer adds no arguments if it defines no __init__, or if its __init__ wraps that of the parent class.
    if "__init__" not in vars(type(layer)) or hasattr(type(layer).__init__, "__wrapped__"):
        arguments = set()
    assert set(layer.get_config()) == arguments | set(super(type(layer), layer).get_config())
    for argument in arguments:
        assert layer.get_config()[argument] == getattr(layer, argument)
    assert type(layer).from_config(layer.get_config()).get_config() == layer.get_config()


@EACH_WITH_WEIGHTS
def test_a_training_step_changes_the_weights(case, rng):
    model, inputs = model_of(case, rng), tensors(case, rng)
    before = model.get_weights()
    model.compile(tf.keras.optimizers.SGD(0.1), "mse")
    model.train_on_batch(inputs, np.zeros(model.compute_output_shape([x.shape for x in inputs])))
    for old, new in zip(before, model.get_weights(), strict=True):
        assert not np.array_equal(old, new)


@EACH
@pytest.mark.parametrize("suffix", [".h5", ".keras", ""], ids=["h5", "keras", "SavedModel"])
def test_saved_and_loaded_it_is_the_same_function(case, rng, tmp_path, suffix):
    model, inputs = model_of(case, rng), tensors(case, rng)
    path = str(tmp_path / f"model{suffix}")
    model.save(path)
    loaded = tf.keras.models.load_model(path)
    assert type(loaded.get_layer("the_layer")) is type(model.get_layer("the_layer"))
    assert loaded.get_layer("the_layer").get_config() == model.get_layer("the_layer").get_config()
    np.testing.assert_array_equal(loaded(inputs), model(inputs))


# --- against NumPy ----------------------------------------------------------------------------------------------------


@EACH
def test_forward(case, rng):
    layer, inputs = built(case, rng), tensors(case, rng)
    expected = case.formula(*inputs, *(weight.numpy() for weight in layer.weights))
    np.testing.assert_allclose(call(layer, inputs), expected, rtol=1e-5, atol=1e-6)


# The gradient of FusedSteSign is a straight-through estimate, not the derivative of its formula.
@pytest.mark.parametrize("case", [case for name, case in CASES.items() if name != "FusedSteSign"])
def test_gradients_are_those_of_the_formula(case, rng):
    """Compares gradients of Σ r ⊙ output, for random r, with central differences of the NumPy formula in float64."""
    layer = built(case, rng, dtype="float64")
    inputs = [tf.Variable(x) for x in tensors(case, rng, "float64")]
    variables = [*inputs, *layer.weights]
    with tf.GradientTape() as tape:
        output = call(layer, [tf.convert_to_tensor(x) for x in inputs])
        direction = rng.normal(size=output.shape)
        loss = tf.reduce_sum(output * direction)
    values = [variable.numpy() for variable in variables]
    step = 1e-6
    for gradient, value in zip(tape.gradient(loss, variables), values, strict=True):
        expected = np.empty_like(value)
        for index in np.ndindex(*value.shape):
            centre, ends = value[index], []
            for sign in (1, -1):
                value[index] = centre + sign * step
                ends.append(np.sum(case.formula(*values) * direction))
            value[index] = centre
            expected[index] = (ends[0] - ends[1]) / (2 * step)
        np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-7)


def test_a_closed_gate_halves_and_passes_no_gradient_to_its_reduction():
    """If no hidden unit is active, every factor is sigmoid(0) = 1/2, and ReLU passes no gradient."""
    layer = ChannelGate(reduction=2)
    x, y = tf.zeros((1, 2, 2, 4)), tf.ones((1, 2, 2, 3))
    with tf.GradientTape() as tape:
        output = layer([x, y])
    np.testing.assert_array_equal(output, np.full((1, 2, 2, 3), 0.5))
    np.testing.assert_array_equal(tape.gradient(output, layer.reduce_kernel), np.zeros((4, 2)))


def test_tanh_and_its_gradient(rng):
    x = tf.constant([0.0, -30.0, 30.0, *rng.normal(size=20)], tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layers.tanh(x)
    np.testing.assert_allclose(y, np.tanh(x), rtol=1e-12)
    np.testing.assert_allclose(tape.gradient(y, x), 1 - np.tanh(x) ** 2, atol=1e-12)


def test_a_fresh_scale_changes_nothing(rng):
    x = rng.normal(size=(2, 3, 4, 5)).astype("float32")
    np.testing.assert_array_equal(LearnedScale()(x), x)


# --- sizes that vary --------------------------------------------------------------------------------------------------


def test_the_gate_takes_images_of_any_size(rng):
    inputs = [tf.keras.Input((None, None, 8)), tf.keras.Input((None, None, 5))]
    model = tf.keras.Model(inputs, ChannelGate(2)(inputs))
    for height, width in ((1, 1), (5, 3), (8, 13)):
        x = rng.normal(size=(2, height, width, 8)).astype("float32")
        y = rng.normal(size=(2, height, width, 5)).astype("float32")
        expected = gate(x, y, *(weight.numpy() for weight in model.weights))
        np.testing.assert_allclose(model([x, y]), expected, rtol=1e-5, atol=1e-6)


def test_global_average_takes_images_of_any_size(rng):
    image = tf.keras.Input((None, None, 4))
    model = tf.keras.Model(image, GlobalAverage()(image))
    assert model.output_shape == (None, 4)
    x = rng.normal(size=(2, 3, 7, 4)).astype("float32")
    np.testing.assert_allclose(model(x), x.mean(axis=(1, 2)), rtol=1e-5, atol=1e-6)


def test_global_average_sums_in_the_same_order_in_a_graph_and_eagerly(rng):
    """The graph is traced for unknown image sizes, and must still sum in the order of an eager call."""
    image = tf.keras.Input((None, None, 16))
    model = tf.keras.Model(image, GlobalAverage()(image))
    x = rng.normal(size=(8, 56, 56, 16)).astype("float32")
    graph = tf.function(model, input_signature=[tf.TensorSpec((None, None, None, 16))])
    np.testing.assert_array_equal(model(x), graph(x))
    np.testing.assert_array_equal(model(x), tf.reduce_mean(x, axis=[1, 2]))


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reduction", [0, -8])
def test_a_reduction_below_one(reduction):
    with pytest.raises(ValueError, match=rf"reduction must be at least 1, received {reduction}"):
        ChannelGate(reduction)


def test_a_reduction_that_leaves_no_channel():
    with pytest.raises(
        ValueError, match=r"reduces 4 channels by 8, which leaves no hidden units: use a wider network or a small"
    ):
        ChannelGate(8)([tf.zeros((1, 2, 2, 4)), tf.zeros((1, 2, 2, 4))])


@pytest.mark.parametrize("shape", [(None, 4, 3), (4, None, 3)])
def test_a_scale_needs_a_fixed_size(shape):
    with pytest.raises(ValueError, match=r"needs a fixed input size; received .*None.*Pass input_shape=\(height, wid"):
        LearnedScale()(tf.keras.Input(shape))


# --- fused operators --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shared_axes", [[1, 2], None, [3]], ids=str)
def test_prelu_fused_for_training_has_the_same_values_and_gradients(shared_axes, rng):
    x = rng.normal(size=(3, 4, 5, 6)).astype("float32")
    x[0, 0, 0] = [0.0, -0.0, 1e-38, -1e-38, 3e38, -3e38]
    x, upstream = tf.constant(x), tf.constant(rng.normal(size=x.shape), tf.float32)
    layer = PReLU(shared_axes=shared_axes)
    layer.build(x.shape)
    layer.set_weights([rng.normal(size=layer.alpha.shape)])

    @tf.function
    def gradients():
        with tf.GradientTape() as tape:
            tape.watch(x)
            output = layer(x)
        return output, *tape.gradient(output, [x, layer.alpha], upstream)

    plain = gradients()
    with fused_for_training():
        fused = tf.function(gradients.python_function)()
    np.testing.assert_array_equal(fused[0], plain[0])
    np.testing.assert_array_equal(fused[1], plain[1])
    np.testing.assert_allclose(fused[2], plain[2], rtol=1e-5)


@pytest.mark.parametrize("strides", [1, 2])
def test_a_half_block_fused_for_training_has_the_same_values_and_gradients(strides, rng):
    """Gate, PReLU and shortcut become one operator; the gradients of sign and average become another."""
    x = tf.constant(rng.normal(size=(3, 7, 6, 16)), tf.float32)
    convolve = QuantConv2D(16, 3, strides, "same", input_quantizer=FusedSteSign(), use_bias=False)
    gate_layer, prelu, shortcut = ChannelGate(reduction=2), PReLU(shared_axes=[1, 2]), Add()

    def half_block(x):
        output = prelu(gate_layer([x, convolve(x)]))
        return shortcut([output, x if strides == 1 else x[:, ::2, ::2]])

    upstream = tf.constant(rng.normal(size=half_block(x).shape), tf.float32)
    prelu.set_weights([rng.normal(size=prelu.alpha.shape)])
    watched = [x, *convolve.weights, *gate_layer.weights, *prelu.weights]

    def gradients():
        with tf.GradientTape() as tape:
            tape.watch(x)
            output = half_block(x)
        return output, *tape.gradient(output, watched, upstream)

    plain = tf.function(gradients)()
    with fused_for_training():
        step = tf.function(gradients)
        found = step()
    np.testing.assert_array_equal(found[0], plain[0])
    for ours, expected in zip(found, plain, strict=True):
        assert np.ptp(expected) > 0
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-6)
    graph = step.get_concrete_function().graph
    inputs = {f.signature.name: len(f.signature.input_arg) for f in graph.as_graph_def().library.function}
    # The operator of PReLU takes x, α, the gate's factors and the shortcut. The gradient of sign and average takes x,
    # two upstream gradients, and the largest |x| at which the sign passes gradients on.
    assert 4 in [n for name, n in inputs.items() if re.search(r"__prelu_\d", name)]
    assert [n for name, n in inputs.items() if "_passed_on_with_average_" in name] == [4]
    assert "BroadcastTo" not in {operator.type for operator in graph.get_operations()}


def test_gradients_of_a_gate_that_is_shut_are_zero():
    """A gate's factor may underflow to 0. The product is then 0, and the gradient of PReLU at 0 is 0."""
    x, factors = tf.constant([[[[-2.0, 3.0, 4.0]]]]), tf.constant([[[[0.0, 0.0, 0.5]]]])
    prelu = PReLU(shared_axes=[1, 2], alpha_initializer=tf.keras.initializers.Constant(0.25))
    prelu.build(x.shape)

    def gradients():
        with tf.GradientTape() as tape:
            tape.watch([x, factors])
            product = x * factors
            fused.note_product(product, x, factors)
            output = prelu(product)
        return tape.gradient(output, [x, factors])

    with fused_for_training():
        of_x, of_factors = tf.function(gradients)()
    np.testing.assert_array_equal(of_x, [[[[0, 0, 0.5]]]])
    np.testing.assert_array_equal(of_factors, [[[[0, 0, 4]]]])


def test_sign_fused_for_training_has_the_same_values_and_gradients(rng):
    edges = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, np.nextafter(1, 2), -np.nextafter(1, 2), 1e-38, -1e-38]
    x = tf.constant([*edges, *rng.normal(size=40)], tf.float32)
    upstream = tf.constant(rng.normal(size=x.shape), tf.float32)

    def gradients(quantizer):
        with tf.GradientTape() as tape:
            tape.watch(x)
            output = quantizer(x)
        return output, tape.gradient(output, x, upstream)

    larqs = gradients(lq.quantizers.SteSign())
    plain = gradients(FusedSteSign())
    with fused_for_training():
        fused = gradients(FusedSteSign())
    for ours in (plain, fused):
        np.testing.assert_array_equal(ours[0], larqs[0])
        np.testing.assert_array_equal(ours[1], larqs[1])


@pytest.mark.parametrize("beyond", [1.0, -1.0, 1 + 2**-23, -3.0, np.inf], ids=str)
def test_sign_passes_no_gradient_to_weights_beyond_one(beyond, rng):
    values = rng.uniform(-1, 1, (3, 3, 4, 5)).astype("float32")
    values[1, 1, 1, 1] = beyond
    kernel, upstream = tf.Variable(values), tf.constant(rng.normal(size=values.shape), tf.float32)

    def gradient(quantizer):
        with tf.GradientTape() as tape:
            output = quantizer(tf.convert_to_tensor(kernel))
        return tape.gradient(output, kernel, upstream)

    with fused_for_training():
        step = tf.function(lambda: gradient(FusedSteSign()))
        found = step()
    np.testing.assert_array_equal(found, gradient(lq.quantizers.SteSign()))
    assert (found[1, 1, 1, 1] == 0) == (abs(beyond) > 1)
    assert {"If", "StatelessIf"} & {operator.type for operator in step.get_concrete_function().graph.get_operations()}


def test_clip_has_larqs_values(rng):
    values = [0.0, -0.0, 1.0, -1.0, np.nextafter(1, 2), -np.nextafter(1, 2), 1e-38, np.inf, -np.inf, np.nan]
    weights = tf.Variable([*values, *rng.normal(size=40)], dtype=tf.float32)
    np.testing.assert_array_equal(FusedWeightClip()(weights), lq.constraints.WeightClip()(weights))


@pytest.mark.parametrize(
    ("size", "stride", "padding"),
    [((7, 8), 2, "same"), ((6, 5), 1, "same"), ((1, 2), 3, "same"), ((7, 8), 2, "valid"), ((5, 3), 1, "valid")],
    ids=str,
)
def test_max_pool_that_xla_compiles_has_the_same_values_and_gradients(size, stride, padding, rng):
    x = tf.constant(-rng.uniform(1, 2, (2, *size, 3)), tf.float32)  # negative, so zero padding would raise the maximum
    layer = MaxPooling2D(3, stride, padding)
    upstream = tf.constant(rng.normal(size=layer(x).shape), tf.float32)

    def gradients():
        with tf.GradientTape() as tape:
            tape.watch(x)
            output = layer(x)
        return output, tape.gradient(output, x, upstream)

    plain = gradients()
    # Training requires deterministic operators, and XLA then rejects the gradient of TensorFlow's max pool.
    tf.config.experimental.enable_op_determinism()
    with compiled_whole():
        compiled = tf.function(gradients, jit_compile=True)()
    np.testing.assert_array_equal(compiled[0], plain[0])
    np.testing.assert_allclose(compiled[1], plain[1], rtol=1e-6, atol=1e-6)


def test_only_training_is_fused(rng):
    """After training, even if it was interrupted, converters and exporters see the usual operators."""
    layer = PReLU(shared_axes=[1, 2])
    called = tf.function(lambda x: layer(x))

    def is_compiled(shape):
        graph = called.get_concrete_function(tf.TensorSpec(shape)).graph
        return any("_XlaMustCompile" in function.attr for function in graph.as_graph_def().library.function)

    with contextlib.suppress(InterruptedError), fused_for_training():
        assert is_compiled((1, 2, 2, 3))
        raise InterruptedError
    assert not is_compiled((2, 2, 2, 3))
