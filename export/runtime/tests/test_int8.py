"""Tests that int8 convolutions and dense layers equal LiteRT's reference kernels exactly.

LiteRT's other kernels round differently: those of its default resolver (ruy) and of XNNPACK differ from the reference
by one in some values.
"""

import drawing
import lce_model
import numpy as np
import pytest
import r2b_runtime
import tested
from conftest import outputs_of
from int8_model import activation, drawn_convolution, numbers, quantised_input, scale, stem, values, weighted

litert = pytest.importorskip("ai_edge_litert.interpreter")


def reference(model, inputs):
    interpreter = litert.Interpreter(
        model_content=model, experimental_op_resolver_type=litert.OpResolverType.BUILTIN_REF
    )
    interpreter.allocate_tensors()
    return outputs_of(interpreter, inputs)


def ours(model, inputs, **options):
    interpreter = r2b_runtime.Interpreter(model, engine="r2b", profile=True, **options)
    interpreter.allocate_tensors()
    return outputs_of(interpreter, inputs), [text for _, _, text in r2b_runtime.profile(interpreter)[1]]


def equal(mine, theirs):
    for a, b in zip(mine, theirs, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("kind", ["uint8", "int8", "float32"])
@pytest.mark.parametrize("seed", range(12))
def test_convolution_equals_the_reference(kernels, seed, kind):
    rng = np.random.default_rng([seed, 1])
    model, given = drawn_convolution(rng, kind)
    expected = reference(model, [given])
    for threads in (1, int(rng.integers(2, 5))):
        equal(ours(model, [given], kernels=kernels, num_threads=threads)[0], expected)


@pytest.mark.parametrize("seed", range(12))
def test_dense_layer_equals_the_reference(kernels, seed):
    rng = np.random.default_rng([seed, 2])
    model = lce_model.Model()
    keeps = bool(seed % 3 == 0)
    shape = (2, 3, 5, int(rng.choice(tested.BYTE_CHANNELS))) if keeps else (int(rng.integers(1, 4)), 67)
    outputs = int(rng.choice((1, 10, 33, 100)))
    given, x, unit = quantised_input(rng, model, str(rng.choice(("uint8", "int8", "float32"))), shape)
    table = drawing.options("FullyConnectedOptions", keepNumDims=keeps, fusedActivationFunction=activation(rng))
    for tensor in weighted(
        rng, model, "FULLY_CONNECTED", x, unit, (outputs, shape[-1]), (*shape[:-1], outputs), seed % 4 == 0, table
    ):
        model.output(tensor)
    expected = reference(model.bytes(), [given])
    for threads in (1, 3):
        equal(ours(model.bytes(), [given], kernels=kernels, num_threads=threads)[0], expected)


@pytest.mark.parametrize("to", ["int8", "uint8"])
@pytest.mark.parametrize("kind", ["float32", "int8", "uint8"])
def test_quantize_and_dequantize_equal_the_reference(kernels, rng, kind, to):
    for shape in ((2, 5, 7, 3), (3, 40)):
        model = lce_model.Model()
        unit, shift = scale(rng), {"uint8": 128}
        quantised = {} if kind == "float32" else {"scale": unit, "zero_point": 5 + shift.get(kind, 0)}
        x, real = model.input(shape, kind, **quantised), model.tensor(shape)
        result = model.tensor(shape, to, scale=0.7 * unit, zero_point=-100 + shift.get(to, 0))
        model.builtin("QUANTIZE", [x], [result], drawing.options("QuantizeOptions"))
        model.builtin("DEQUANTIZE", [result], [real], drawing.options("DequantizeOptions"))
        for tensor in (result, real):
            model.output(tensor)
        given = values(rng, shape, unit) if kind == "float32" else numbers(rng, shape, kind)
        equal(ours(model.bytes(), [given], kernels=kernels, num_threads=2)[0], reference(model.bytes(), [given]))


def test_quantize_beside_convolutions_whose_inputs_are_padded_copies(kernels, rng):
    """Each copy is a further tensor of the graph. The steps that exist already must not refer to moved tensors."""
    model, shape = lce_model.Model(), (1, 6, 5, 3)
    quantised = [(model.input(shape), model.tensor(shape, "uint8", scale=0.03, zero_point=99)) for _ in range(5)]
    for x, result in quantised:
        model.builtin("QUANTIZE", [x], [result], drawing.options("QuantizeOptions"))
    for x, _ in quantised:
        convolved = model.tensor((1, 6, 5, 8))
        options = drawing.options("Conv2DOptions", padding=lce_model.SAME, strideH=1, strideW=1)
        weights = model.constant(rng.normal(size=(8, 3, 3, 3)))
        model.builtin("CONV_2D", [x, weights, model.constant(np.zeros(8))], [convolved], options)
        model.output(convolved)
    for _, result in quantised:
        model.output(result)
    given = [values(rng, shape, 0.03) for _ in quantised]
    mine, theirs = ours(model.bytes(), given, kernels=kernels)[0], reference(model.bytes(), given)
    for one, other in zip(mine[:5], theirs[:5], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    equal(mine[5:], theirs[5:])


def test_quantize_rounds_to_nearest_and_halves_away_from_zero(kernels):
    halves = np.arange(-140, 140, dtype=np.float32) + np.float32(0.5)
    given = np.concatenate([halves, np.nextafter(halves, np.float32(0)), np.nextafter(halves, np.float32(np.inf))])
    whole = np.trunc(given)
    nearest = whole + np.copysign(np.abs(given - whole) >= 0.5, given)
    given = np.concatenate([given, np.float32([np.inf, -np.inf, np.nan, -0.0])])
    expected = np.concatenate([np.clip(nearest + 3, -128, 127), [127, -128, 127, 3]]).astype(np.int8)
    model = lce_model.Model()
    x, result = model.input((1, given.size)), model.tensor((1, given.size), "int8", scale=1.0, zero_point=3)
    model.builtin("QUANTIZE", [x], [result], drawing.options("QuantizeOptions"))
    model.output(result)
    equal(ours(model.bytes(), [given[None]], kernels=kernels)[0], [expected[None]])


@pytest.mark.parametrize("shape", [(2, 9, 7, 3), (1, 12, 5, 64)])
def test_operators_that_move_int8_numbers_equal_the_reference(kernels, rng, shape):
    model, unit = lce_model.Model(), {"dtype": "int8", "scale": 0.1, "zero_point": -7}
    n, h, w, channels = shape
    x = model.input(shape, **unit)
    for padding, window in ((lce_model.SAME, 3), (lce_model.VALID, 2)):
        size = [drawing.extent(extent, window, 2, 1, padding) for extent in (h, w)]
        pooled = model.tensor((n, *size, channels), **unit)
        fields = {"filterHeight": window, "filterWidth": window, "strideH": 2, "strideW": 2}
        model.builtin(
            "MAX_POOL_2D", [x], [pooled], drawing.options("Pool2DOptions", padding=padding, **fields), version=2
        )
        model.output(pooled)
    flat_shape = (n, h * w, channels)
    padded, flat = model.tensor((n, h + 3, w + 2, channels), **unit), model.tensor(flat_shape, **unit)
    amounts = model.constant([[0, 0], [1, 2], [2, 0], [0, 0]], "int32")
    model.builtin("PAD", [x, amounts], [padded], drawing.options("PadOptions"), version=2)
    model.builtin("RESHAPE", [x, model.constant(flat_shape, "int32")], [flat])
    for tensor in (padded, flat):
        model.output(tensor)
    given = numbers(rng, shape)
    expected = reference(model.bytes(), [given])
    for threads in (1, 3):
        found, steps = ours(model.bytes(), [given], kernels=kernels, num_threads=threads)
        equal(found, expected)
    assert [step.split()[0] for step in steps] == ["pool-int8", "pool-int8", "surround-int8", "copy"]


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_quantize_and_dequantize_are_fused_with_their_neighbours(kernels, rng, threads):
    model, given = stem(rng)
    outputs, steps = ours(model, [given], kernels=kernels, num_threads=threads)
    equal(outputs, reference(model, [given]))
    assert [step.split(":")[0].split()[0] for step in steps] == ["pool", "pool", "conv-int8"]
    operators = [step.split(": ")[1].split(" (")[0] for step in steps]
    assert operators == [
        "CONV_2D QUANTIZE DEQUANTIZE MAX_POOL_2D",
        "AVERAGE_POOL_2D QUANTIZE",
        "CONV_2D DEQUANTIZE",
    ]


# The engine takes the maxima of the convolution's int32 sums, before requantisation, if that cannot change the result.
# It could change if sums are shifted to the left, which can overflow 32 bits (`unit` 1e-9), or if a slope is negative.
@pytest.mark.parametrize("padding", [lce_model.SAME, lce_model.VALID])
@pytest.mark.parametrize(("unit", "slope"), [(1.0, 0.25), (1e-9, 0.25), (1.0, -0.5), (1.0, None)])
def test_int8_convolution_fused_with_max_pool_equals_the_reference(kernels, rng, padding, unit, slope):
    model = lce_model.Model()
    given, x, step = quantised_input(rng, model, "uint8", (1, 12, 17, 3))
    scales, outputs = np.float32([scale(rng) for _ in range(40)]), 40
    filter_shape, shape = (outputs, 3, 3, 3), (1, 12, 17, outputs)
    weights = model.tensor(filter_shape, "int8", rng.integers(-127, 128, filter_shape), scale=scales)
    bias = model.tensor((outputs,), "int32", rng.integers(-9000, 9000, outputs), scale=np.float32(step) * scales)
    quantised = model.tensor(shape, "int8", scale=float(np.float32(unit * step * scales.mean() * 300)), zero_point=-7)
    table = drawing.options("Conv2DOptions", strideH=1, strideW=1, dilationHFactor=1, dilationWFactor=1)
    model.builtin("CONV_2D", [x, weights, bias], [quantised], table, version=3)
    real = model.tensor(shape)
    model.builtin("DEQUANTIZE", [quantised], [real], drawing.options("DequantizeOptions"))
    if slope is not None:
        sloped = model.tensor(shape)
        model.builtin("PRELU", [real, model.constant(np.full((1, 1, outputs), slope, np.float32))], [sloped])
        real = sloped
    size = [drawing.extent(extent, 3, 2, 1, padding) for extent in shape[1:3]]
    pooled = model.tensor((1, *size, outputs))
    window = {"filterHeight": 3, "filterWidth": 3, "strideH": 2, "strideW": 2}
    model.builtin("MAX_POOL_2D", [real], [pooled], drawing.options("Pool2DOptions", padding=padding, **window))
    model.output(pooled)
    expected = reference(model.bytes(), [given])
    for threads in (1, 3):
        found, steps = ours(model.bytes(), [given], kernels=kernels, num_threads=threads)
        equal(found, expected)
    assert [step.split()[0] for step in steps] == ["pool"]


def test_binary_convolution_rounds_to_int8_before_dequantize(kernels, rng):
    lce = pytest.importorskip("larq_compute_engine.tflite.python.interpreter")
    model = lce_model.Model()
    x, bits = model.input((1, 5, 6, 32)), model.tensor((1, 5, 6, 1), "int32")
    model.custom("LceQuantize", [x], [bits])
    signed, real = model.tensor((1, 5, 6, 40), "int8", scale=0.375, zero_point=-4), model.tensor((1, 5, 6, 40))
    model.bconv(
        bits,
        signed,
        rng.choice([-1.0, 1.0], (40, 3, 3, 32)),
        multiplier=np.full(40, 0.1),
        bias=np.ones(40),
        pad_values=1,
    )
    model.builtin("DEQUANTIZE", [signed], [real], drawing.options("DequantizeOptions"))
    model.output(real)
    given = rng.normal(size=(1, 5, 6, 32)).astype(np.float32)
    expected = lce.Interpreter(model.bytes()).interpreter.predict([given])
    equal(ours(model.bytes(), [given], kernels=kernels)[0], expected)


@pytest.mark.parametrize("engine", ["r2b", "litert"])
def test_delegate_and_engine_run_int8_beside_binary_operators(kernels, rng, engine):
    model = lce_model.Model()
    given, x, unit = quantised_input(rng, model, "uint8", (2, 9, 11, 3))
    table = drawing.options("Conv2DOptions", strideH=2, strideW=2, dilationHFactor=1, dilationWFactor=1)
    _, real = weighted(rng, model, "CONV_2D", x, unit, (33, 3, 3, 3), (2, 5, 6, 33), True, table)
    bits, signs = model.tensor((2, 5, 6, 2), "int32"), model.tensor((2, 5, 6, 33))
    model.custom("LceQuantize", [real], [bits])
    model.custom("LceDequantize", [bits], [signs])
    for tensor in (real, signs):
        model.output(tensor)
    interpreter = r2b_runtime.Interpreter(model.bytes(), 2, kernels=kernels, engine=engine, profile=True)
    interpreter.allocate_tensors()
    found, signs = outputs_of(interpreter, [given])
    np.testing.assert_array_equal(signs, np.where(found < 0, -1, 1))
    assert r2b_runtime.profile(interpreter)[1][0][2].startswith("conv-int8 2x5x6x33: CONV_2D QUANTIZE DEQUANTIZE")
    again = r2b_runtime.Interpreter(model.bytes(), kernels="portable", engine="r2b")
    again.allocate_tensors()
    equal([found], outputs_of(again, [given])[:1])


def flawed(input_scale=0.1, zero_point=0, scales=None, bias="int32", weights_zero=0, dimension=0, outputs=5, size=3):
    """The bytes of a model of one convolution, whose quantisation the arguments can make invalid.

    The filter covers the whole input, `size` x `size` pixels.
    """
    model = lce_model.Model()
    x = model.input((1, size, size, 2), "int8", scale=input_scale, zero_point=zero_point)
    scales = np.full(outputs, 0.1) if scales is None else scales
    weights = model.tensor(
        (outputs, size, size, 2), "int8", np.ones((outputs, size, size, 2)), scale=scales, zero_point=weights_zero
    )
    model._graph.tensors[weights].quantization.quantizedDimension = dimension
    b = model.tensor((outputs,), bias, np.zeros(outputs))
    out = model.tensor((1, 1, 1, outputs), "int8", scale=0.5)
    table = drawing.options("Conv2DOptions", padding=1, strideH=1, strideW=1, dilationHFactor=1, dilationWFactor=1)
    model.builtin("CONV_2D", [x, weights, b], [out], table, version=3)
    model.output(out)
    return model.bytes()


@pytest.mark.parametrize(
    ("flaw", "message"),
    [
        ({"input_scale": 0.0}, "the input of an int8 operator must have a finite scale above 0; it is 0;"),
        ({"input_scale": np.inf}, "the input of an int8 operator must have a finite scale above 0; it is infinite"),
        ({"input_scale": np.nan}, "must have a finite scale above 0; it is not a number"),
        ({"input_scale": [0.1, 0.2]}, "the input of an int8 operator must have one scale; it has 2"),
        ({"zero_point": 128}, "must have a zero point within -128 to 127; it is 128"),
        ({"zero_point": 2**40}, "must have a zero point within -128 to 127"),
        ({"scales": [0.1, 0.1]}, "one scale, or one for each of the 5 output channels; they have 2"),
        (
            {"scales": [0.1, 0.1, -0.1, 0.1, 0.1]},
            "a scale of int8 weights must be finite and above 0; number 2 is negative",
        ),
        ({"dimension": 3}, "the scales of int8 weights must be those of dimension 0, .*; they are of dimension 3"),
        ({"weights_zero": 1}, "int8 weights must have the zero point 0; number 0 is 1"),
        ({"bias": "float32"}, "the bias of an int8 operator must be a constant vector of 5 int32 numbers"),
        ({"size": 200, "outputs": 1}, "adds up 80000 int8 products; a 32-bit sum holds at most 65536"),
    ],
)
def test_flawed_quantisation_is_refused(flaw, message):
    with pytest.raises((RuntimeError, ValueError), match=rf"CONV_2D \(node 0\): .*{message}"):
        r2b_runtime.Interpreter(flawed(**flaw), engine="r2b")


def test_flawed_quantisation_of_quantize_is_refused():
    model = lce_model.Model()
    x, out = model.input((1, 4)), model.tensor((1, 4), "uint8", scale=0.1, zero_point=-1)
    model.builtin("QUANTIZE", [x], [out], drawing.options("QuantizeOptions"))
    model.output(out)
    with pytest.raises(
        RuntimeError, match=r"QUANTIZE \(node 0\): the output must have a zero point within 0 to 255; it is -1"
    ):
        r2b_runtime.Interpreter(model.bytes(), engine="r2b")


@pytest.mark.parametrize(("kind", "to"), [("float32", "int8"), ("int8", "float32"), ("int32", "int8")])
def test_reshape_to_another_type_is_refused(kind, to):
    """RESHAPE copies bytes, so it would write beyond the end of an output whose type is smaller than the input's."""
    model = lce_model.Model()
    scales = {"scale": 0.1, "zero_point": 0}
    x = model.input((1, 40), kind, **(scales if kind == "int8" else {}))
    out = model.tensor((2, 20), to, **(scales if to == "int8" else {}))
    model.builtin("RESHAPE", [x, model.constant([2, 20], "int32")], [out])
    model.output(out)
    with pytest.raises(RuntimeError, match=r"RESHAPE \(node 0\): the engine does not run this operator"):
        r2b_runtime.Interpreter(model.bytes(), engine="r2b")
