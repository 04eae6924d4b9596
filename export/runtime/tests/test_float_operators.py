"""Compares every float operator that the delegate runs with the same operator of the stock interpreter."""

import lce_model
import numpy as np
import pytest
import r2b_runtime
import tested
from conftest import delegated, run
from tensorflow.lite.python import schema_py_generated as schema

SHAPE = (2, 9, 7, 40)


def conv(rng, model, x):
    options = schema.Conv2DOptionsT()
    options.strideH, options.strideW, options.dilationHFactor, options.dilationWFactor = 2, 1, 1, 1
    options.fusedActivationFunction = 1
    out = model.tensor((2, 5, 7, 33))
    weights = model.constant(rng.normal(0, 0.1, (33, 3, 3, 40)))
    model.builtin("CONV_2D", [x, weights, model.constant(rng.normal(size=33))], [out], options)
    return out


def pool(name, padding, shape):
    def add(rng, model, x):
        options = schema.Pool2DOptionsT()
        options.padding, options.filterHeight, options.filterWidth, options.strideH, options.strideW = (
            padding,
            3,
            2,
            2,
            2,
        )
        out = model.tensor(shape)
        model.builtin(name, [x], [out], options)
        return out

    return add


def mean(keep_dims):
    def add(rng, model, x):
        options = schema.ReducerOptionsT()
        options.keepDims = keep_dims
        out = model.tensor((2, 1, 1, 40) if keep_dims else (2, 40))
        model.builtin("MEAN", [x, model.constant([1, 2], "int32")], [out], options)
        return out

    return add


def binary(name, operand):
    def add(rng, model, x):
        options = getattr(schema, f"{name.title()}OptionsT")()
        out = model.tensor(SHAPE)
        model.builtin(name, [x, model.constant(rng.normal(size=operand))], [out], options)
        return out

    return add


def extreme(name, operand):
    def add(rng, model, x):
        out = model.tensor(SHAPE)
        model.builtin(name, [x, model.constant(rng.normal(size=operand))], [out], schema.MaximumMinimumOptionsT())
        return out

    return add


def prelu(low, high):
    def add(rng, model, x):
        out = model.tensor(SHAPE)
        model.builtin("PRELU", [x, model.constant(rng.uniform(low, high, (1, 1, 40)))], [out])
        return out

    return add


def unary(name, options=None):
    def add(rng, model, x):
        out = model.tensor(SHAPE)
        model.builtin(name, [x], [out], options)
        return out

    return add


def softmax(rng, model, x):
    options = schema.SoftmaxOptionsT()
    options.beta = 0.7
    return unary("SOFTMAX", options)(rng, model, x)


def reshape(rng, model, x):
    out = model.tensor((2, 63, 1, 40))
    model.builtin("RESHAPE", [x, model.constant([2, 63, 1, 40], "int32")], [out], schema.ReshapeOptionsT())
    return out


def dense(keep_dims):
    def add(rng, model, x):
        options = schema.FullyConnectedOptionsT()
        options.keepNumDims = keep_dims
        options.fusedActivationFunction = 3
        out = model.tensor((2, 9, 7, 13) if keep_dims else (126, 13))
        weights = model.constant(rng.normal(0, 0.2, (13, 40)))
        model.builtin("FULLY_CONNECTED", [x, weights, model.constant(rng.normal(size=13))], [out], options)
        return out

    return add


def table(kind, **fields):
    options = getattr(schema, f"{kind}OptionsT")()
    for name, value in fields.items():
        setattr(options, name, value)
    return options


def depthwise(multiplier, padding, shape):
    def add(rng, model, x):
        fields = {"strideH": 2, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1, "fusedActivationFunction": 1}
        options = table("DepthwiseConv2D", padding=padding, depthMultiplier=multiplier, **fields)
        out = model.tensor(shape)
        weights = model.constant(rng.normal(0, 0.3, (1, 3, 3, shape[3])))
        model.builtin("DEPTHWISE_CONV_2D", [x, weights, model.constant(rng.normal(size=shape[3]))], [out], options)
        return out

    return add


def transpose_conv(rng, model, x):
    out = model.tensor((2, 18, 14, 12))
    shape, weights = model.constant([2, 18, 14, 12], "int32"), model.constant(rng.normal(0, 0.1, (12, 3, 3, 40)))
    model.builtin("TRANSPOSE_CONV", [shape, weights, x], [out], table("TransposeConv", strideH=2, strideW=2))
    return out


def concatenation(rng, model, x):
    out = model.tensor((2, 9, 7, 85))
    constant = model.constant(rng.normal(size=(2, 9, 7, 5)))
    model.builtin("CONCATENATION", [x, constant, x], [out], table("Concatenation", axis=-1))
    return out


def split(rng, model, x):
    outs = [model.tensor((2, 9, 7, 10)) for _ in range(4)]
    model.builtin("SPLIT", [model.constant(3, "int32"), x], outs, table("Split", numSplits=4))
    return outs[2]


def strided_slice(rng, model, x):
    out = model.tensor((2, 4, 3, 20))
    limits = [model.constant(values, "int32") for values in ([0, 1, -1, 20], [0, -1, 0, 40], [1, 2, -2, 1])]
    model.builtin("STRIDED_SLICE", [x, *limits], [out], table("StridedSlice", beginMask=1, endMask=1))
    return out


def pad(name, *value):
    def add(rng, model, x):
        out = model.tensor((2, 12, 9, 44))
        amounts = model.constant([[0, 0], [1, 2], [2, 0], [3, 1]], "int32")
        model.builtin(name, [x, amounts, *map(model.constant, value)], [out])
        return out

    return add


def resize_bilinear(**fields):
    def add(rng, model, x):
        out = model.tensor((2, 13, 14, 40))
        model.builtin(
            "RESIZE_BILINEAR", [x, model.constant([13, 14], "int32")], [out], table("ResizeBilinear", **fields)
        )
        return out

    return add


FORMS = {
    "CONV_2D": [conv],
    "MAX_POOL_2D": [pool("MAX_POOL_2D", 0, (2, 5, 4, 40)), pool("MAX_POOL_2D", 1, (2, 4, 3, 40))],
    "AVERAGE_POOL_2D": [pool("AVERAGE_POOL_2D", 0, (2, 5, 4, 40)), pool("AVERAGE_POOL_2D", 1, (2, 4, 3, 40))],
    "MEAN": [mean(True), mean(False)],
    "ADD": [binary("ADD", 40), binary("ADD", SHAPE[1:]), binary("ADD", (2, 1, 1, 40))],
    "SUB": [binary("SUB", 40), binary("SUB", 1)],
    "MUL": [binary("MUL", 40), binary("MUL", (2, 9, 7, 1)), binary("MUL", 1)],
    "PRELU": [prelu(0, 0.9), prelu(-1, 2)],
    "RELU": [unary("RELU")],
    "RELU6": [unary("RELU6")],
    "RELU_N1_TO_1": [unary("RELU_N1_TO_1")],
    "MINIMUM": [extreme("MINIMUM", 40), extreme("MINIMUM", SHAPE[1:])],
    "MAXIMUM": [extreme("MAXIMUM", 40), extreme("MAXIMUM", (2, 9, 1, 1))],
    "ROUND": [unary("ROUND")],
    "LOGISTIC": [unary("LOGISTIC")],
    "SOFTMAX": [softmax],
    "RESHAPE": [reshape],
    "FULLY_CONNECTED": [dense(False), dense(True)],
    "DEPTHWISE_CONV_2D": [
        depthwise(1, 0, (2, 5, 7, 40)),
        depthwise(1, 1, (2, 4, 5, 40)),
        depthwise(2, 0, (2, 5, 7, 80)),
    ],
    "TRANSPOSE_CONV": [transpose_conv],
    "RESIZE_BILINEAR": [resize_bilinear(), resize_bilinear(alignCorners=True), resize_bilinear(halfPixelCenters=True)],
    "CONCATENATION": [concatenation],
    "SPLIT": [split],
    "STRIDED_SLICE": [strided_slice],
    "PAD": [pad("PAD")],
    "PADV2": [pad("PADV2", 0.5)],
}
# The delegate runs these operators as other ones, whose names appear in the descriptions of its steps.
STEP_NAMES = {"PADV2": "PAD", "SUB": "ADD", "RELU6": "RELU", "RELU_N1_TO_1": "RELU"}


def test_every_operator_of_the_readme_has_a_test():
    assert tuple(FORMS) == tested.FLOAT_OPERATORS


@pytest.mark.parametrize(("name", "form"), [(name, i) for name, forms in FORMS.items() for i in range(len(forms))])
def test_float_operator(kernels, rng, name, form):
    model = lce_model.Model()
    x = model.input(SHAPE)
    value = FORMS[name][form](rng, model, x)
    shape = tuple(model._graph.tensors[value].shape)
    packed = model.tensor((*shape[:-1], lce_model.words(shape[-1])), "int32")
    unpacked = model.tensor(shape)
    model.custom("LceQuantize", [value], [packed])  # the delegate claims float operators only beside binary ones
    model.custom("LceDequantize", [packed], [unpacked])
    model.output(value)
    model.output(unpacked)
    data = rng.normal(0, 2, SHAPE).astype(np.float32)
    threads = int(rng.integers(1, 4))
    ours, signs = run(model.bytes(), [data], kernels=kernels, num_threads=threads)
    stock, _ = run(model.bytes(), [data], claim="binary")
    np.testing.assert_allclose(ours, stock, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(signs, np.where(ours < 0, -1, 1))
    interpreter = delegated(model.bytes(), kernels=kernels, profile=True)
    interpreter.allocate_tensors()
    interpreter.invoke()
    steps = " ".join(text for _, _, text in r2b_runtime.profile(interpreter.delegate)[1])
    assert STEP_NAMES.get(name, name) in steps, f"the delegate left {name} to the interpreter: {steps}"
