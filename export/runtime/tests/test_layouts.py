"""Compares single operators with LCE's interpreter: convolutions (depthwise, transposed), resizing, moves of values."""

import lce_model
import numpy as np
import pytest
import r2b_runtime
from conftest import outputs_of, run, run_lce

pytest.importorskip("larq_compute_engine")

import drawing
import tested
from drawn_graphs import Motifs

# For each operator: the method of `Motifs` that draws it, and the tolerance, relative to the largest absolute value of
# LCE's output. The tolerance is 0 where values are only moved, and for DEPTHWISE_CONV_2D, which adds in the same order
# as LCE. In TRANSPOSE_CONV the orders differ: LCE first sums each pixel's products over the channels, then adds these
# sums to the bias.
OPERATORS = {
    "DEPTHWISE_CONV_2D": ("depthwise", 0),
    "TRANSPOSE_CONV": ("transpose_conv", 3e-6),
    "CONCATENATION": ("concat", 0),
    "SPLIT": ("split", 0),
    "STRIDED_SLICE": ("strided_slice", 0),
    "PAD": ("pad", 0),
    "RESIZE_BILINEAR": ("resize_bilinear", 1e-7),
}
SINGLE = 40  # graphs for each operator


def single(method, seed):
    """Draws a graph of one operator, LceQuantize and LceDequantize.

    Without the two binary operators, the delegate would leave the drawn one to the interpreter.

    Returns the graph and the operator's outputs, or None if the drawn operator would be too large.
    """
    rng = np.random.default_rng(seed)
    graph = Motifs(rng)
    graph.rough = True
    made = getattr(graph, method)(graph.input)
    if made is None:
        return None
    outputs = list(made) if isinstance(made, list) else [made]
    graph.dequantize(graph.quantize(outputs[0]))
    return graph, outputs


@pytest.mark.parametrize("name", OPERATORS)
def test_a_single_operator_agrees_with_lces_interpreter(name):
    method, tolerance = OPERATORS[name]
    compared = 0
    for seed in range(SINGLE):
        drawn = single(method, [seed, 5])
        if drawn is None:
            continue
        graph, outputs = drawn
        model = graph.written(graph.operators, outputs)
        x = np.random.default_rng(seed).normal(0, 1, graph.input.shape).astype(np.float32)
        expected = run_lce(model, [x])
        for kernels in r2b_runtime.available_kernels():
            for ours, theirs in zip(run(model, [x], kernels=kernels, num_threads=1 + seed % 3), expected):
                assert ours.shape == theirs.shape
                if tolerance:
                    # The portable kernels round each product before they add it.
                    most = tolerance * (2 if kernels == "portable" else 1)
                    np.testing.assert_allclose(ours, theirs, rtol=0, atol=most * np.abs(theirs).max())
                else:
                    np.testing.assert_array_equal(ours, theirs)
        compared += 1
    assert compared > SINGLE / 2


def test_numbers_are_rounded_half_to_even(kernels):
    model = lce_model.Model()
    x, out = model.input((1, 19)), model.tensor((1, 19))
    model.builtin("ROUND", [x], [out])
    model.output(out)
    large = [2.0**22 + 0.5, 2.0**23 - 0.5, 2.0**23 + 1, 2.0**24 + 2, 1e30]
    value = np.float32([[0, 0.25, 0.5, 0.75, 1.5, 2.5, 3.5, *large, *(-v for v in (0.5, 1.5, 2.5, *large[1:]))]])
    (ours,) = outputs_of(r2b_runtime.Interpreter(model.bytes(), engine="r2b", kernels=kernels), [value])
    np.testing.assert_array_equal(ours, np.rint(value))


@pytest.mark.parametrize("channels", tested.DEPTHWISE_CHANNELS)
@pytest.mark.parametrize("multiplier", tested.MULTIPLIERS)
def test_depthwise_convolution_equals_that_of_lces_interpreter(channels, multiplier, rng, kernels):
    """RELU6, ADD, SUB and LceQuantize follow the convolution and can run in its step."""
    graph = Motifs(rng)
    graph.begin((1, 7, 9, channels))
    table = drawing.options(
        "DepthwiseConv2DOptions", strideH=1, strideW=1, dilationHFactor=1, dilationWFactor=1, depthMultiplier=multiplier
    )
    outputs = channels * multiplier
    constants = [(rng.normal(size=(1, 3, 3, outputs)), "float32"), (rng.normal(size=outputs), "float32")]
    x = graph.builtin("DEPTHWISE_CONV_2D", [graph.input], (1, 7, 9, outputs), table, constants)
    y = graph.clamp(x, "RELU6")
    total = graph.arithmetic(y, x, "ADD")
    signs = graph.dequantize(graph.quantize(graph.arithmetic(total, name="SUB")))
    model = graph.written(graph.operators, [total, signs])
    value = rng.normal(0, 1, graph.input.shape).astype(np.float32)
    for ours, theirs in zip(run(model, [value], kernels=kernels, num_threads=2), run_lce(model, [value])):
        np.testing.assert_array_equal(ours, theirs)


def layout(name, shape, inputs=1, constants=(), table=None, output=(1, 1, 1, 1), places=(0,)):
    """The bytes of a model of one operator, `name`, with options `table` and outputs of shape `output`.

    Its operands at the positions `places` are `inputs` inputs of the model, of shape `shape`. The others are
    `constants`, pairs (value, dtype).
    """
    model = lce_model.Model()
    values = [model.input(shape) for _ in range(inputs)]
    others = [model.constant(np.asarray(value), dtype) for value, dtype in constants]
    operands = [None] * (len(values) + len(others))
    for place, value in zip(places, values):
        operands[place] = value
    for value in others:
        operands[operands.index(None)] = value
    out = model.tensor(output)
    outs = [out] * 1 if name != "SPLIT" else [out, model.tensor(output)]
    model.builtin(name, operands, outs, table)
    for value in outs:
        model.output(value)
    return model.bytes()


def weights(*shape):
    return (np.ones(shape), "float32")


def ints(*values):
    return (np.int32(values), "int32")


UNIT = {"strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}
DEPTHWISE = [weights(1, 3, 3, 8)], drawing.options("DepthwiseConv2DOptions", **UNIT)
TRANSPOSED = [ints(1, 8, 8, 3), weights(3, 2, 2, 2)], drawing.options("TransposeConvOptions", strideH=2, strideW=2)
JOINED = [], drawing.options("ConcatenationOptions", axis=3)
HALVES = [(np.int32(3), "int32")], drawing.options("SplitOptions", numSplits=2)
SLICE = [ints(0, 2), ints(1, 4), ints(1, 1)], drawing.options("StridedSliceOptions")
PADS = [(np.int32([[0, 0], [1, 2]]), "int32")], drawing.options("PadOptions")
LARGER = [ints(8, 8)], drawing.options("ResizeBilinearOptions")
# For each case: a model of one operator, the shape to which its first input is then resized, and the error message.
REFUSED = {
    "depthwise": (
        layout("DEPTHWISE_CONV_2D", (1, 4, 4, 4), 1, *DEPTHWISE),
        (1, 4, 4, 3),
        r"input \[1, 4, 4, 3\] and filter \[1, 3, 3, 8\] do not fit each other; "
        r"the filter's outputs must be a multiple",
    ),
    "transposed": (
        layout("TRANSPOSE_CONV", (1, 4, 4, 2), 1, *TRANSPOSED, places=(2,)),
        (1, 5, 4, 2),
        r"the file's output shape \[1, 8, 8, 3\] is not what filter \[3, 2, 2, 2\] makes of the input \[1, 5, 4, 2\]",
    ),
    "concat": (
        layout("CONCATENATION", (1, 4, 4, 2), 2, *JOINED, places=(0, 1)),
        (1, 5, 4, 2),
        r"inputs \[1, 5, 4, 2\] and \[1, 4, 4, 2\] differ in more than axis 3",
    ),
    "concat without that axis": (
        layout("CONCATENATION", (1, 4, 4, 2), 1, *JOINED),
        (4, 4, 2),
        r"input \[4, 4, 2\] has no axis 3",
    ),
    "split": (
        layout("SPLIT", (1, 4, 4, 2), 1, *HALVES, places=(1,)),
        (1, 4, 4, 3),
        r"axis 3 of the input \[1, 4, 4, 3\] does not divide into 2 equal parts",
    ),
    "slice of nothing": (
        layout("STRIDED_SLICE", (1, 4), 1, *SLICE),
        (1, 2),
        r"the slice of the input \[1, 2\] is empty; resize the model's input",
    ),
    "slice of another rank": (
        layout("STRIDED_SLICE", (1, 4), 1, *SLICE),
        (1, 4, 2),
        r"begin, end and strides do not fit the input \[1, 4, 2\]",
    ),
    "pad of another rank": (
        layout("PAD", (1, 4), 1, *PADS),
        (1, 4, 2),
        r"2 pairs of paddings do not fit the input \[1, 4, 2\]",
    ),
    "resize of another rank": (
        layout("RESIZE_BILINEAR", (1, 4, 4, 2), 1, *LARGER),
        (4, 4, 2),
        r"input \[4, 4, 2\] must have 4 dimensions",
    ),
    "more than four dimensions": (
        layout("RESIZE_BILINEAR", (1, 4, 4, 2), 1, *LARGER),
        (1, 1, 4, 4, 2),
        "tensors of more than 4 dimensions are not supported",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_operands_that_do_not_fit(case):
    model, shape, message = REFUSED[case]
    interpreter = r2b_runtime.Interpreter(model, engine="r2b")
    number = interpreter.get_input_details()[0]["index"]
    with pytest.raises(RuntimeError, match=rf"^[A-Z_0-9]+ \(node 0\): {message}"):
        interpreter.resize_tensor_input(number, shape)


def test_padding_that_makes_a_tensor_too_large_is_refused():
    amounts = [(np.int32([[0, 0], [2**31 - 1, 2**31 - 1]]), "int32")]
    with pytest.raises(
        RuntimeError, match=r"PAD \(node 0\): axis 1 of the output would have 4294967298 elements, more"
    ):
        r2b_runtime.Interpreter(layout("PAD", (1, 4), 1, amounts), engine="r2b")


@pytest.mark.parametrize(
    ("name", "table", "constants"),
    [
        ("STRIDED_SLICE", {"newAxisMask": 1}, [ints(0, 0), ints(1, 1), ints(1, 1)]),
        ("STRIDED_SLICE", {"ellipsisMask": 1}, [ints(0, 0), ints(1, 1), ints(1, 1)]),
        ("STRIDED_SLICE", {}, [ints(0, 0), ints(1, 1), ints(1, 0)]),  # a stride of zero
        ("STRIDED_SLICE", {}, [ints(0), ints(1), ints(1)]),  # limits of another rank
        ("PAD", None, [(np.int32([[0, 0], [-1, 0]]), "int32")]),
        ("PAD", None, [ints(1)]),
        ("RESIZE_BILINEAR", {}, [ints(8, 8)]),  # an input of two dimensions
        ("CONCATENATION", {"axis": 2}, []),
        ("CONCATENATION", {"axis": 0, "fusedActivationFunction": lce_model.RELU}, []),
    ],
)
def test_forms_that_the_engine_does_not_run(name, table, constants):
    kind = {"STRIDED_SLICE": "StridedSlice", "RESIZE_BILINEAR": "ResizeBilinear", "CONCATENATION": "Concatenation"}
    options = None if table is None else drawing.options(f"{kind[name]}Options", **table)
    with pytest.raises(RuntimeError, match=rf'{name} \(node 0\): the engine does not run .* engine="litert"'):
        r2b_runtime.Interpreter(layout(name, (2, 4), 1, constants, options), engine="r2b")
