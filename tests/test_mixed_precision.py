"""Mixed precision: what is computed in half precision, what in float32, and the loss scale of float16."""

import re

import larq as lq
import numpy as np
import pytest
import tensorflow as tf

from r2b_zoo.models import intermediates
from r2b_zoo.models.layers import Conv2D, QuantConv2D, convolutions_in_float32
from r2b_zoo.ops.mixed_precision import policy_name
from r2b_zoo.training.loop import StageLoop, StopOnNaN, TrainingDiverged
from r2b_zoo.training.optimizer import Adam
from tests.small import FULL, NETWORKS
from tests.tiny import HALF, LossScaleOptimizer, activations, batch, network, trainer, twins, values

# --- mixed precision: what is half and what is not --------------------------------------------------------------------


@pytest.mark.parametrize("mixed_precision", HALF)
@pytest.mark.parametrize(("name", "precision"), NETWORKS)
def test_only_the_convolutions_of_the_blocks_compute_in_half(name, precision, mixed_precision):
    model = network(precision, mixed_precision, name, FULL)
    half = [layer.name for layer in model.layers if layer.compute_dtype != "float32"]
    convolutions = [layer for layer in model.layers if re.fullmatch(r"block\d[ab]_conv", layer.name)]
    # The maps have 8×8, 4×4, 2×2 and 1×1 pixels; convolutions with outputs of fewer than 16 pixels stay in float32.
    assert half == [layer.name for layer in convolutions if layer.output_shape[1] >= 4]
    assert len(convolutions) == 16
    assert len(half) == 8
    assert {model.get_layer(name).compute_dtype for name in half} == {mixed_precision}
    assert {weight.dtype for weight in model.weights} == {tf.float32}
    assert {x.dtype for x in intermediates(model).values()} == {tf.float32}
    assert tf.keras.mixed_precision.global_policy().name == "float32"


@pytest.mark.parametrize("mixed_precision", HALF)
def test_all_that_a_checkpoint_holds_is_float32_and_latent_weights_are_clipped(mixed_precision, rng):
    optimizer = Adam(0.95)
    model = trainer(
        network("binary", mixed_precision),
        LossScaleOptimizer(optimizer) if mixed_precision == "float16" else optimizer,
        ema_decay=0.9,
    )
    model.train_step(batch(rng))
    loop = StageLoop("binary", model, None, None, 0, steps_per_epoch=1, epochs=1, save=None, checkpoint_minutes=1)  # type: ignore[arg-type]
    variables = loop._variables()
    halves = [name for name, variable in variables.items() if variable.dtype in (tf.float16, tf.bfloat16)]
    assert halves == []
    kernels = [layer.kernel for layer in model.student.layers if isinstance(layer, QuantConv2D)]
    for kernel in kernels:
        # Adam's first step changes a weight by about the learning rate, 0.95, so many weights must be clipped to ±1.
        assert np.abs(kernel.numpy()).max() == 1
        assert 0.05 < np.mean(np.abs(kernel.numpy()) < 1) < 1
    # In float16, the optimizer's scalars include the loss scale and the number of steps since it last changed.
    scalars = {v.numpy() for name, v in variables.items() if name.startswith("optimizer") and v.shape == ()}
    assert ({2.0**15, 1} <= scalars) == (mixed_precision == "float16")


@pytest.mark.parametrize("mixed_precision", HALF)
@pytest.mark.parametrize("channels", [16, 512])
def test_a_binary_convolution_in_half_is_the_exact_sum_rounded_once(mixed_precision, channels, rng):
    """Partial sums must not be in half precision.

    In bfloat16, adding ones one by one would stop at 256; the largest sum here is 9 · 512 = 4,608.
    """
    arguments = {"use_bias": False, "input_quantizer": "ste_sign", "kernel_quantizer": "ste_sign"}
    x = rng.normal(size=(2, 4, 4, channels)).astype("float32")
    kernel = rng.normal(size=(3, 3, channels, 8)).astype("float32")
    x[0], kernel[..., 0] = 1, 1
    layers = [
        QuantConv2D(8, 3, padding="same", kernel_constraint="weight_clip", dtype=dtype, **arguments)
        for dtype in ("float32", policy_name(mixed_precision))
    ]
    exact, found = ((layer(x), layer.set_weights([kernel]), layer(x))[-1].numpy() for layer in layers)
    assert exact.max() == 9 * channels
    assert exact.dtype == found.dtype == np.float32
    np.testing.assert_array_equal(found, tf.cast(tf.cast(exact, mixed_precision), tf.float32))
    # Sums of an even number of ±1 are even. A half-precision type holds all even numbers exactly up to this limit.
    largest = {"bfloat16": 2**9, "float16": 2**12}[mixed_precision]
    np.testing.assert_array_equal(found[np.abs(exact) <= largest], exact[np.abs(exact) <= largest])


@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize("mixed_precision", HALF)
def test_gradients_of_kernels_are_float32_where_there_are_few_pixels(mixed_precision, strides, rng):
    """Outputs of 7×7 pixels are below the limit of 64, those of 8×8 are not. Input gradients are always in half."""
    kernel = rng.normal(size=(3, 3, 4, 6)).astype("float32")
    for size in (7, 8):
        x = rng.normal(size=(2, size * strides, size * strides, 4)).astype("float32")
        upstream = rng.normal(size=(2, size, size, 6)).astype("float32")

        def gradients(kernel, x, upstream, dtype="float32"):
            layer = Conv2D(6, 3, strides=strides, padding="same", use_bias=False, dtype=dtype)
            layer.build(x.shape)
            layer.set_weights([kernel])
            x = tf.constant(x)
            with tf.GradientTape() as tape:
                tape.watch(x)
                loss = tf.reduce_sum(layer(x) * upstream)
            return [gradient.numpy() for gradient in tape.gradient(loss, [x, layer.kernel])]

        found = [gradients(kernel, x, upstream, dtype) for dtype in ("float32", policy_name(mixed_precision))]
        (of_x, of_kernel), (of_x_in_half, of_kernel_in_half) = found
        assert np.array_equal(of_kernel, of_kernel_in_half) == (size == 7)
        assert not np.array_equal(of_x, of_x_in_half)
        # Both factors of each product are rounded. On CPUs without instructions for the type, each partial sum over the
        # nine taps is rounded too. A relative error is at most 2**-8 or 2**-11. Errors cancel in part, so the bound is
        # half of their largest possible sum.
        rounding = (2 + 9) * {"bfloat16": 2.0**-8, "float16": 2.0**-11}[mixed_precision] / 2
        bounds = [rounding * magnitude for magnitude in gradients(*map(abs, (kernel, x, upstream)))]
        for in_half, exact, bound in zip(found[1], found[0], bounds, strict=True):
            assert (abs(in_half - exact) <= bound).all()


def test_gradients_of_kernels_with_padding_of_ones_are_float32_too(rng):
    """With ``pad_values=1`` Larq pads the image itself, and sets the layer's padding to "valid" during the call."""
    kernel = rng.normal(size=(3, 3, 4, 6)).astype("float32")
    x = tf.constant(rng.normal(size=(2, 7, 7, 4)), tf.float32)
    gradients = []
    for dtype in ("float32", "mixed_bfloat16"):
        layer = QuantConv2D(6, 3, padding="same", pad_values=1.0, use_bias=False, dtype=dtype)
        layer.build(x.shape)
        layer.set_weights([kernel])
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(x))
        gradients.append(tape.gradient(loss, layer.kernel))
    np.testing.assert_array_equal(*gradients)


@pytest.mark.parametrize("mixed_precision", HALF)
def test_quantisers_and_their_gradients_read_float32(mixed_precision):
    """In float16, −1e-9 would be −0. In either type, 1.0001 would be 1, and its gradient would not be clipped to 0."""
    layer = QuantConv2D(
        1,
        1,
        use_bias=False,
        input_quantizer="ste_sign",
        kernel_quantizer="ste_sign",
        kernel_constraint="weight_clip",
        dtype=policy_name(mixed_precision),
    )
    x = tf.Variable(np.reshape([-1e-9, 1.0001, 1.0], (1, 1, 1, 3)), dtype=tf.float32)
    layer.build((1, 1, 1, 3))
    layer.set_weights([np.reshape([1.0, -1e-9, 1.0001], (1, 1, 3, 1))])
    with tf.GradientTape() as tape:
        y = layer(x)
    assert y.numpy() == -1 - 1 + 1
    of_x, of_kernel = tape.gradient(y, [x, layer.kernel])
    np.testing.assert_array_equal(np.ravel(of_x), [1, 0, 1])
    np.testing.assert_array_equal(np.ravel(of_kernel), [-1, 1, 0])


def test_a_scale_of_the_kernel_is_not_rounded_and_keeps_its_gradient(rng):
    """Bi-Real Net's kernels are ±α, where α is the mean of a filter's |weights|. Half precision would round α."""
    x, kernel = rng.normal(size=(2, 5, 5, 8)).astype("float32"), rng.normal(size=(3, 3, 8, 4)).astype("float32")
    found = []
    for dtype in ("float32", "mixed_bfloat16"):
        layer = QuantConv2D(
            4,
            3,
            use_bias=False,
            input_quantizer="ste_sign",
            kernel_quantizer="magnitude_aware_sign",
            kernel_constraint="weight_clip",
            dtype=dtype,
        )
        layer.build(x.shape)
        layer.set_weights([kernel])
        with tf.GradientTape() as tape:
            y = layer(x)
        found.append((y, tape.gradient(y, layer.kernel)))
    np.testing.assert_allclose(found[1][0], found[0][0], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found[1][1], found[0][1], rtol=0.02, atol=0.02 * np.abs(found[0][1]).max())


@pytest.mark.parametrize("mixed_precision", HALF)
@pytest.mark.parametrize("name", [name for name, precision in NETWORKS if precision == "binary"])
def test_a_binary_network_in_half_precision_is_the_float32_network(name, mixed_precision, rng):
    """Activations and batch statistics are bit for bit the same, or equal up to rounding if kernels have a scale."""
    real, half = twins(mixed_precision, name=name)
    images, _ = batch(rng)
    scaled = any(isinstance(layer.kernel_quantizer, lq.quantizers.MagnitudeAwareSign)
                 for layer in real.layers if isinstance(layer, QuantConv2D))  # fmt: skip
    tolerance = {"rtol": 1e-4, "atol": 1e-4} if scaled else {"rtol": 0, "atol": 0}
    for training_ in (True, False):
        expected, found = (activations(model, images, training_) for model in (real, half))
        for block in expected:
            np.testing.assert_allclose(found[block], expected[block], **tolerance, err_msg=block)
    for expected, found in zip(values(real), values(half), strict=True):
        np.testing.assert_allclose(found, expected, **tolerance)


@pytest.mark.parametrize("mixed_precision", HALF)
def test_evaluation_runs_convolutions_in_float32(mixed_precision, rng):
    """Real kernels lose digits in half precision, so the two networks differ unless convolutions are in float32."""
    real, half = twins(mixed_precision, "binary_activations")
    images, labels = batch(rng, 64)
    assert not np.array_equal(real(images, training=False), half(images, training=False))
    with convolutions_in_float32():
        np.testing.assert_array_equal(half(images, training=False), real(images, training=False))
    logs = [{k: float(v) for k, v in trainer(m).test_step((images, labels)).items()} for m in (real, half)]
    assert logs[0] == logs[1]


@pytest.mark.parametrize("mixed_precision", HALF)
def test_a_step_in_half_precision_is_near_the_one_in_float32(mixed_precision, rng):
    """The loss scale of float16 must not change the size of the step."""
    data = batch(rng)
    steps = []
    for model in twins(mixed_precision):
        before = [v.numpy() for v in model.trainable_variables]
        optimizer = tf.keras.optimizers.SGD(1e-3)
        scaled = mixed_precision == "float16" and model.get_layer("block1a_conv").compute_dtype == "float16"
        logs = trainer(model, LossScaleOptimizer(optimizer) if scaled else optimizer).train_step(data)
        changes = [v.numpy() - old for v, old in zip(model.trainable_variables, before, strict=True)]
        steps.append((float(logs["loss"]), np.concatenate([np.ravel(change) for change in changes])))
    (expected_loss, expected), (loss, found) = steps
    assert loss == expected_loss
    assert np.linalg.norm(found - expected) < 0.02 * np.linalg.norm(expected)


# --- float16: the loss scale ------------------------------------------------------------------------------------------


def test_a_step_that_overflows_is_skipped(rng):
    data = batch(rng)
    model = trainer(network("binary", "float16"), LossScaleOptimizer(Adam(0.01), initial_scale=2.0**60), ema_decay=0.5)
    model.optimizer.build(model.student.trainable_variables)
    stop = StopOnNaN("binary")
    stop.set_model(model)
    before = [weight.numpy() for weight in model.student.trainable_variables]
    logs = {name: float(value) for name, value in model.train_step(data).items()}
    stop.on_train_batch_end(0, logs)
    assert np.isfinite(list(logs.values())).all()
    assert float(model.optimizer.loss_scale) == 2.0**59
    for weight, old in zip(model.student.trainable_variables, before, strict=True):
        np.testing.assert_array_equal(weight, old)
    # A skipped step still updates the statistics of batch norms. These and the moving averages must stay finite.
    assert all(np.isfinite(value).all() for value in (*values(model.student), *map(np.asarray, model.averages)))
    model.optimizer._loss_scale.current_loss_scale.assign(2.0**10)
    model.train_step(data)
    changed = [not np.array_equal(w, old) for w, old in zip(model.student.trainable_variables, before, strict=True)]
    assert np.mean(changed) > 0.9
    assert float(model.optimizer.loss_scale) == 2.0**10


def test_gradients_that_overflow_at_any_scale_end_the_training():
    model = trainer(network("binary", "float16"), LossScaleOptimizer(Adam(0.01), initial_scale=2.0))
    stop = StopOnNaN("binary")
    stop.set_model(model)
    stop.on_train_batch_end(0, {"loss": 1.0})
    model.optimizer._loss_scale.update([tf.constant(float("inf"))])
    message = r"gradients of stage binary overflow float16 at any loss scale, at epoch 1, step 5: train with mixed_prec"
    with pytest.raises(TrainingDiverged, match=message):
        stop.on_train_batch_end(4, {"loss": 1.0})
