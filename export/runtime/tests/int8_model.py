"""Writes small random models with int8 convolutions and dense layers."""

import drawing
import lce_model
import numpy as np
import tested

ZERO_POINTS = (-128, 127, 0, -17, 3)
EXTREMES = {"int8": (-128, 127), "uint8": (0, 255)}


def scale(rng):
    """A random scale: one like a converter's, or a power of two, which makes ties in rounding frequent."""
    return float(np.float32(rng.uniform(0.001, 0.1) if rng.random() < 0.6 else 2.0 ** -rng.integers(4, 9)))


def numbers(rng, shape, dtype="int8"):
    low, high = EXTREMES[dtype]
    return rng.integers(low, high + 1, shape).astype(dtype)


def values(rng, shape, unit):
    """Random floats to quantise with scale `unit`; some lie halfway between int8 numbers, some outside their range."""
    x = rng.normal(0, 80, shape)
    return (np.where(rng.random(shape) < 0.3, np.round(2 * x) / 2, x) * unit).astype(np.float32)


def quantised_input(rng, model, kind, shape):
    """Adds an input of type `kind` (float32, uint8 or int8) and, unless it is int8, a QUANTIZE to int8.

    Returns random values for the input, the index of the int8 tensor, and its scale.
    """
    unit, zero_point = scale(rng), int(rng.choice(ZERO_POINTS))
    if kind == "int8":
        return numbers(rng, shape), model.input(shape, "int8", scale=unit, zero_point=zero_point), unit
    signed = model.tensor(shape, "int8", scale=unit, zero_point=zero_point)
    unsigned = {"dtype": "uint8", "scale": unit, "zero_point": zero_point + 128}
    x = model.input(shape, **(unsigned if kind == "uint8" else {}))
    model.builtin("QUANTIZE", [x], [signed], drawing.options("QuantizeOptions"))
    given = values(rng, shape, unit) if kind == "float32" else numbers(rng, shape, "uint8")
    return given, signed, unit


def weighted(rng, model, name, x, unit, filter_shape, out_shape, per_channel, table):
    """Adds operator `name` with random int8 weights, and a DEQUANTIZE of its output.

    `x` is the index of the operator's int8 input, `unit` the scale of that input, and `table` the operator's options.
    With `per_channel`, each output channel has its own scale of weights. Returns the indices of the int8 and of the
    float32 output.
    """
    outputs = filter_shape[0]
    scales = np.float32([scale(rng) for _ in range(outputs if per_channel else 1)])
    weights = model.tensor(filter_shape, "int8", rng.integers(-127, 128, filter_shape), scale=scales)
    bias = model.tensor((outputs,), "int32", rng.integers(-3000, 3000, outputs), scale=np.float32(unit) * scales)
    usual = unit * float(scales.mean()) * 60 * np.sqrt(np.prod(filter_shape[1:]))
    quantised = model.tensor(
        out_shape,
        "int8",
        scale=float(np.float32(usual)) if rng.random() < 0.8 else unit,
        zero_point=int(rng.choice(ZERO_POINTS)),
    )
    model.builtin(name, [x, weights, bias], [quantised], table, version=3 if name == "CONV_2D" else 4)
    real = model.tensor(out_shape)
    model.builtin("DEQUANTIZE", [quantised], [real], drawing.options("DequantizeOptions"))
    return quantised, real


def activation(rng):
    return tested.ACTIVATIONS[str(rng.choice(tested.BYTE_ACTIVATIONS))]


def drawn_convolution(rng, kind):
    """Returns the bytes of a model of one int8 convolution, and random values for its input of type `kind`."""
    model = lce_model.Model()
    batch, h, w = int(rng.integers(1, tested.BATCHES[1] + 1)), int(rng.integers(1, 14)), int(rng.integers(1, 40))
    channels, outputs = (int(rng.choice(tested.BYTE_CHANNELS)) for _ in range(2))
    given, x, unit = quantised_input(rng, model, kind, (batch, h, w, channels))
    kernel = [int(rng.integers(1, min(tested.BYTE_KERNELS[1], size) + 1)) for size in (h, w)]
    dilation = [int(rng.integers(1, 3)) if 2 * (k - 1) + 1 <= size else 1 for k, size in zip(kernel, (h, w))]
    strides = [1, 1] if max(dilation) > 1 else [int(rng.integers(1, tested.STRIDES[1] + 1)) for _ in range(2)]
    padding = int(rng.choice((lce_model.SAME, lce_model.VALID)))
    size = [drawing.extent(s, k, t, d, padding) for s, k, t, d in zip((h, w), kernel, strides, dilation)]
    table = drawing.options(
        "Conv2DOptions",
        padding=padding,
        strideH=strides[0],
        strideW=strides[1],
        dilationHFactor=dilation[0],
        dilationWFactor=dilation[1],
        fusedActivationFunction=activation(rng),
    )
    quantised, real = weighted(
        rng,
        model,
        "CONV_2D",
        x,
        unit,
        (outputs, *kernel, channels),
        (batch, *size, outputs),
        rng.random() < 0.7,
        table,
    )
    # The model's outputs are the int8 and the float tensor, or one of the two.
    for tensor in ([quantised, real], [real], [quantised])[int(rng.integers(3))]:
        model.output(tensor)
    return model.bytes(), given


def stem(rng, kind="uint8", size=(21, 30), outputs=40):
    """Returns the bytes of a model and random values for its input, an image of `size` (height, width).

    The model is a 7x7 int8 convolution of stride 2 with `outputs` channels, a max pool and an average pool on floats,
    and a 1x1 int8 convolution.
    """
    model = lce_model.Model()
    h, w = size
    given, x, unit = quantised_input(rng, model, kind, (1, h, w, 3))
    h, w = -(-h // 2), -(-w // 2)
    table = drawing.options("Conv2DOptions", strideH=2, strideW=2, dilationHFactor=1, dilationWFactor=1)
    _, real = weighted(rng, model, "CONV_2D", x, unit, (outputs, 7, 7, 3), (1, h, w, outputs), True, table)
    for name, kernel in (("MAX_POOL_2D", 3), ("AVERAGE_POOL_2D", 2)):
        h, w = -(-h // 2), -(-w // 2)
        pooled = model.tensor((1, h, w, outputs))
        table = drawing.options("Pool2DOptions", filterHeight=kernel, filterWidth=kernel, strideH=2, strideW=2)
        model.builtin(name, [real], [pooled], table)
        real = pooled
    signed = model.tensor((1, h, w, outputs), "int8", scale=0.05, zero_point=3)
    model.builtin("QUANTIZE", [real], [signed], drawing.options("QuantizeOptions"))
    table = drawing.options("Conv2DOptions", strideH=1, strideW=1, dilationHFactor=1, dilationWFactor=1)
    _, real = weighted(rng, model, "CONV_2D", signed, 0.05, (64, 1, 1, outputs), (1, h, w, 64), True, table)
    model.output(real)
    return model.bytes(), given
