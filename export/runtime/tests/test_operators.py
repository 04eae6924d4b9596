"""Compares operators with Larq Compute Engine's interpreter: integers exactly, floats with `close` or exactly."""

import lce_model
import numpy as np
import pytest
import r2b_runtime
from conftest import delegated, run, run_lce
from hypothesis import assume, given, settings
from hypothesis import strategies as st

pytest.importorskip("larq_compute_engine")

import tested

KERNELS = r2b_runtime.available_kernels()
channel_counts = st.sampled_from(tested.CHANNELS)


def pairs(span):
    return st.tuples(st.integers(*span), st.integers(*span))


def signs(rng, *shape):
    return rng.choice([-1.0, 1.0], shape).astype(np.float32)


def close(ours, theirs):
    """Asserts that each element differs by at most 1e-5 * (1 + |theirs| + max |theirs|)."""
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5 * (1 + np.abs(theirs).max()))


def bconv_model(rng, shape, outputs, kernel, groups=1, output="float32", **options):
    """Returns the bytes of a model that consists of a float32 input, LceQuantize and LceBconv2d.

    `shape` is the input's, (batch, height, width, channels); `outputs` is the number of output channels. `output` is
    the type of the output: "float32", "int8", or "int32" for packed bits. `options` go to `lce_model.Model.bconv`.
    """
    model = lce_model.Model()
    n, h, w, channels = shape
    x = model.input(shape)
    packed = model.tensor((n, h, w, lce_model.words(channels)), "int32")
    model.custom("LceQuantize", [x], [packed])
    filters = signs(rng, outputs, *kernel, channels // groups)
    scale = {"scale": 0.31, "zero_point": -5} if output == "int8" else {}
    out = model.tensor((n, 1, 1, lce_model.words(outputs) if output == "int32" else outputs), output, **scale)
    depth = kernel[0] * kernel[1] * channels // groups
    # LCE reads the multiplier of a zero-padded convolution even where none is used.
    constants = {"multiplier": rng.normal(0, 1 / np.sqrt(depth), outputs), "bias": rng.normal(0, 1, outputs)}
    if output == "int32":
        constants["thresholds"] = rng.integers(depth // 2 - 3, depth // 2 + 4, outputs)
    model.bconv(packed, out, filters, channels_in=channels, **constants, **options)
    model.output(out)
    return model.bytes()


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.data())
def test_bconv_equals_lce(data):
    draw = data.draw
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    groups = draw(st.sampled_from((1, 1, *tested.GROUPS)))
    channels = draw(channel_counts) if groups == 1 else 32 * groups
    outputs = draw(channel_counts) if groups == 1 else groups * draw(st.integers(1, 40))
    kernel, stride, dilation = (draw(pairs(span)) for span in (tested.KERNELS, tested.STRIDES, tested.DILATIONS))
    height, width = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    output = draw(st.sampled_from(("float32", *tested.OUTPUTS)))
    padding = draw(st.sampled_from(list(tested.PADDINGS.values())))
    activation = draw(st.sampled_from(list(tested.ACTIVATIONS.values()))) if output != "int32" else lce_model.NONE
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation)]
    # LCE's correction for zero padding assumes that the window fits into the image. VALID padding needs a whole window.
    assume(reach[0] <= height and reach[1] <= width)
    zero_padded = padding == tested.PADDINGS["SAME with zeros"]
    reference = zero_padded and (output != "float32" or activation)
    if reference:
        assume(channels % 2 == 0)  # LCE's only kernel for this case needs an even number of channels
    model = bconv_model(
        rng,
        (draw(st.integers(*tested.BATCHES)), height, width, channels),
        outputs,
        kernel,
        groups,
        output,
        stride_height=stride[0],
        stride_width=stride[1],
        dilation_height_factor=dilation[0],
        dilation_width_factor=dilation[1],
        fused_activation_function=activation,
        **padding,
    )
    x = rng.normal(0, 1, _input_shape(model)).astype(np.float32)
    theirs = run_lce(model, [x], use_reference_bconv=reference, use_indirect_bgemm=groups > 1 and not reference)[0]
    threads = draw(st.integers(1, 3))
    for kernels in KERNELS:
        ours = run(model, [x], kernels=kernels, num_threads=threads)[0]
        if output == "float32":
            close(ours, theirs)
        else:
            np.testing.assert_array_equal(ours, theirs)


def _input_shape(model):
    return delegated(model).get_input_details()[0]["shape"]


def test_float_bconv_has_the_bits_of_lces_reference_kernel(kernels, rng):
    # The convolution pads with zeros. The runtime evaluates the formula of LCE's reference kernel in the same order, so
    # a later LceQuantize finds the same signs.
    model = bconv_model(rng, (2, 9, 9, 64), 64, (3, 3))
    x = rng.normal(0, 1, (2, 9, 9, 64)).astype(np.float32)
    theirs = run_lce(model, [x], use_reference_bconv=True)[0]
    np.testing.assert_array_equal(run(model, [x], kernels=kernels)[0], theirs)


@pytest.mark.parametrize("channels", [1, 40, 64])
def test_products_that_cancel_at_the_border_give_zero(kernels, rng, channels):
    # On an image of ones, the second and third columns of each filter cancel each other. At the left border, the first
    # column lies on zero padding, so the result is 0.
    filters = np.ones((channels, 3, 3, 2), np.float32)
    filters[:, :, 2] = -1
    model = lce_model.Model()
    x = model.input((1, 5, 6, 2))
    packed, out = model.tensor((1, 5, 6, 1), "int32"), model.tensor((1, 5, 6, channels))
    model.custom("LceQuantize", [x], [packed])
    model.bconv(packed, out, filters, multiplier=rng.normal(0, 0.1, channels), bias=np.zeros(channels))
    model.output(out)
    ours = run(model.bytes(), [np.ones((1, 5, 6, 2), np.float32)], kernels=kernels)[0]
    np.testing.assert_array_equal(ours[:, :, 0], np.zeros((1, 5, channels)))
    assert np.all(ours[:, :, 1:] != 0)


@pytest.mark.parametrize("operators", [64, 200])
@pytest.mark.parametrize("threads", [1, 2])
def test_long_chain_of_elementwise_operators(kernels, rng, operators, threads):
    from tensorflow.lite.python import schema_py_generated as schema

    model = lce_model.Model()
    x = model.input((1, 5, 7, 33))
    packed, value = model.tensor((1, 5, 7, 2), "int32"), model.tensor((1, 5, 7, 40))
    model.custom("LceQuantize", [x], [packed])
    model.bconv(packed, value, signs(rng, 40, 3, 3, 33), multiplier=np.ones(40), bias=np.zeros(40), pad_values=1)
    for i in range(operators):
        following = model.tensor((1, 5, 7, 40))
        operand = model.constant(rng.normal(size=40) if i % 2 else rng.choice([-1.0, 1.0], 40))
        name, table = ("ADD", schema.AddOptionsT()) if i % 2 else ("MUL", schema.MulOptionsT())
        model.builtin(name, [value, operand], [following], table)
        value = following
    model.output(value)
    data = rng.normal(0, 1, (1, 5, 7, 33)).astype(np.float32)
    ours = run(model.bytes(), [data], kernels=kernels, num_threads=threads)[0]
    np.testing.assert_array_equal(ours, run_lce(model.bytes(), [data])[0])


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 5, 33), (3, 64), (1, 7, 100)])
def test_quantize_dequantize(kernels, rng, shape):
    model = lce_model.Model()
    x = model.input(shape)
    packed = model.tensor((*shape[:-1], lce_model.words(shape[-1])), "int32")
    out = model.tensor(shape)
    model.custom("LceQuantize", [x], [packed])
    model.custom("LceDequantize", [packed], [out])
    model.output(packed)
    model.output(out)
    x = rng.normal(0, 1, shape).astype(np.float32)
    x.flat[::3] = 0.0
    x.flat[0] = -0.0
    ours, theirs = run(model.bytes(), [x], kernels=kernels), run_lce(model.bytes(), [x])
    for a, b in zip(ours, theirs):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", tested.TYPES[1:])
def test_quantize_dequantize_bytes(rng, dtype):
    shape = (2, 3, 5, 40)
    quantization = {"scale": 0.3, "zero_point": 4} if dtype == "int8" else {}
    model = lce_model.Model()
    x = model.input(shape, dtype, **quantization)
    packed = model.tensor((2, 3, 5, 2), "int32")
    out = model.tensor(shape, dtype, **quantization)
    model.custom("LceQuantize", [x], [packed])
    model.custom("LceDequantize", [packed], [out])
    model.output(packed)
    model.output(out)
    value = (
        rng.integers(-128, 128, shape).astype(np.int8) if dtype == "int8" else rng.integers(0, 2, shape).astype(bool)
    )
    ours, theirs = run(model.bytes(), [value]), run_lce(model.bytes(), [value])
    for a, b in zip(ours, theirs):
        np.testing.assert_array_equal(a, b)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.integers(0, 2**32),
    st.tuples(st.integers(1, 3), st.integers(3, 9), st.integers(3, 9)),
    channel_counts,
    st.tuples(*[st.integers(*tested.WINDOWS)] * 4),
    st.sampled_from([lce_model.VALID, lce_model.SAME]),
)
def test_bmaxpool_equals_lce(seed, shape, channels, window, padding):
    rng = np.random.default_rng(seed)
    model = lce_model.Model()
    x = model.input((*shape, channels))
    packed = model.tensor((*shape, lce_model.words(channels)), "int32")
    out = model.tensor((1, 1, 1, lce_model.words(channels)), "int32")
    model.custom("LceQuantize", [x], [packed])
    model.custom(
        "LceBMaxPool2d",
        [packed],
        [out],
        {
            "filter_height": window[0],
            "filter_width": window[1],
            "stride_height": window[2],
            "stride_width": window[3],
            "padding": padding,
        },
    )
    model.output(out)
    x = rng.normal(0, 1, (*shape, channels)).astype(np.float32)
    np.testing.assert_array_equal(run(model.bytes(), [x], num_threads=2)[0], run_lce(model.bytes(), [x])[0])


def test_bconv_takes_a_scale_for_every_element_of_its_output(kernels, rng):
    # LCE's converter folds a learned [height, width, channels] scale into the convolution, but LCE's interpreter cannot
    # run the resulting file.
    model = lce_model.Model()
    x = model.input((2, 5, 6, 33))
    packed = model.tensor((2, 5, 6, 2), "int32")
    out = model.tensor((2, 5, 6, 40))
    model.custom("LceQuantize", [x], [packed])
    filters, scale, bias = signs(rng, 40, 3, 3, 33), rng.normal(0, 1, (5, 6, 40)), rng.normal(0, 1, (5, 6, 40))
    model.bconv(packed, out, filters, multiplier=scale, bias=bias)
    model.output(out)
    value = rng.normal(0, 1, (2, 5, 6, 33)).astype(np.float32)
    padded = np.pad(np.where(value < 0, -1.0, 1.0), ((0, 0), (1, 1), (1, 1), (0, 0)))
    dot = sum(padded[:, y : y + 5, x : x + 6] @ filters[:, y, x].T for y in range(3) for x in range(3))
    close(run(model.bytes(), [value], kernels=kernels)[0], dot * scale + bias)


def test_resized_input(kernels, rng):
    model = bconv_model(rng, (1, 5, 5, 48), 64, (3, 3))
    interpreter = delegated(model, kernels=kernels)
    index = interpreter.get_input_details()[0]["index"]
    for shape in [(1, 5, 5, 48), (3, 9, 4, 48), (1, 1, 1, 48), (2, 12, 12, 48)]:
        interpreter.resize_tensor_input(index, shape)
        interpreter.allocate_tensors()
        x = rng.normal(0, 1, shape).astype(np.float32)
        interpreter.set_tensor(index, x)
        interpreter.invoke()
        detail = interpreter.get_output_details()[0]
        assert tuple(detail["shape"]) == (*shape[:3], 64)
        found = interpreter.get_tensor(detail["index"])
        if min(shape[1:3]) >= 3:
            close(found, _lce_resized(model, x))


def _lce_resized(model, x):
    # LCE's Python interpreter cannot resize inputs, so the file is rewritten for another shape.
    import flatbuffers
    from tensorflow.lite.python import schema_py_generated as schema

    parsed = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(model, 0))
    for tensor in parsed.subgraphs[0].tensors[:2]:
        tensor.shape = [*list(x.shape[:3]), tensor.shape[3]]
    builder = flatbuffers.Builder(1024)
    builder.Finish(parsed.Pack(builder), b"TFL3")
    return run_lce(bytes(builder.Output()), [x])[0]
