"""Builds a random graph of operators with random settings and constants, and writes it as a model file.

In most graphs, constants are small multiples of powers of two. Sums are then exact in any order, so that signs do not
depend on rounding. In the other graphs, called rough, constants are normally distributed.
"""

import dataclasses
import math
import typing

import lce_model
import numpy as np
from tensorflow.lite.python import schema_py_generated as schema

CHANNELS = (1, 3, 8, 31, 32, 33, 48, 64, 64, 96, 128)
SIZES = (1, 2, 3, 5, 7, 8, 9, 12, 14, 17, 32)
BATCHES = (1, 1, 1, 2, 3)
MOST_VALUES = 1 << 16  # in the input, or in an operator's outputs together
MOST_PRODUCTS = 1 << 22  # in a convolution or dense layer; 16 times as many in a binary convolution
ACTIVATIONS = (lce_model.NONE, lce_model.NONE, lce_model.RELU, lce_model.RELU_N1_TO_1, lce_model.RELU6)


@dataclasses.dataclass(eq=False)
class Value:
    """A tensor. If `dtype` is "bits", the file's shape counts words of 32 channels, but `shape` counts channels."""

    shape: tuple
    dtype: str = "float32"
    consumers: int = 0

    @property
    def channels(self):
        return self.shape[-1]

    @property
    def is_map(self):
        return len(self.shape) == 4

    @property
    def stored(self):
        """Shape and type in the file."""
        if self.dtype == "bits":
            return (*self.shape[:-1], lce_model.words(self.channels)), "int32"
        return self.shape, self.dtype


@dataclasses.dataclass
class Operator:
    name: str
    inputs: list
    outputs: list
    write: typing.Callable  # (model, indices of the inputs, *indices of the outputs)


def options(kind, **fields):
    """Creates an operator's options table; `kind`, such as "Conv2DOptions", and `fields` use the schema's names."""
    table = getattr(schema, f"{kind}T")()
    for name, value in fields.items():
        assert hasattr(table, name), name
        setattr(table, name, value)
    return table


def extent(size, kernel, stride, dilation, padding):
    reach = (kernel - 1) * dilation + 1
    return -(-size // stride) if padding == lce_model.SAME else (size - reach) // stride + 1


class Drawing:
    """A graph that is being built; `rng` makes all random choices."""

    def __init__(self, rng):
        self.rng = rng
        self.rough = rng.random() < 0.25
        while True:
            shape = (self.one(BATCHES), self.one(SIZES), self.one(SIZES), self.one(CHANNELS))
            if math.prod(shape) <= MOST_VALUES:
                break
        self.begin(shape)

    def begin(self, shape):
        """Starts the graph anew, with a float32 input of this shape."""
        self.input = Value(shape)
        self.operators, self.values = [], [self.input]

    # ---- random numbers ----

    def one(self, choices):
        return choices[int(self.rng.integers(len(choices)))]

    def chance(self, probability):
        return self.rng.random() < probability

    def numbers(self, shape, most=4, unit=0.25):
        """Draws constants: multiples of `unit`, at most ±`most` * `unit`, or normally distributed in a rough graph."""
        if self.rough:
            return self.rng.normal(0, most * unit / 2, shape)
        return self.rng.integers(-most, most + 1, shape) * unit

    def scales(self, shape):
        if self.rough:
            return self.rng.normal(0, 0.6, shape)
        return self.rng.choice([-1.0, -0.5, 0.25, 0.5, 0.5, 1.0], shape)

    def value(self, dtype="float32", **conditions):
        """Picks a value of the graph at random, preferably a recent one; None if no value meets the conditions.

        `conditions` are attributes of `Value` and what they must equal.
        """
        found = [
            v
            for v in self.values
            if v.dtype == dtype and all(getattr(v, name) == wanted for name, wanted in conditions.items())
        ]
        if not found:
            return None
        return found[-1 - min(int(self.rng.exponential(1.5)), len(found) - 1)]

    # ---- operators ----

    def add(self, name, inputs, shape, write, dtype="float32"):
        """Adds an operator and returns its output. If the output would be too large, adds nothing and returns None."""
        outputs = self.add_several(name, inputs, [shape], write, dtype)
        return outputs and outputs[0]

    def add_several(self, name, inputs, shapes, write, dtype="float32"):
        """Adds an operator and returns its outputs. If they would be too large, adds nothing and returns None."""
        if sum(map(math.prod, shapes)) > MOST_VALUES:
            return None
        outputs = [Value(tuple(int(d) for d in shape), dtype) for shape in shapes]
        for value in inputs:
            value.consumers += 1
        self.operators.append(Operator(name, list(inputs), outputs, write))
        self.values += outputs
        return outputs

    def builtin(self, name, inputs, shape, table=None, constants=()):
        """Adds an operator of TensorFlow Lite; `constants`, each (value, dtype), become its last inputs."""

        def write(model, indices, out):
            model.builtin(name, [*indices, *(model.constant(*c) for c in constants)], [out], table)

        return self.add(name, inputs, shape, write)

    def quantize(self, x):
        return self.add(
            "LceQuantize", [x], x.shape, lambda model, i, out: model.custom("LceQuantize", i, [out]), dtype="bits"
        )

    def dequantize(self, bits):
        return self.add(
            "LceDequantize", [bits], bits.shape, lambda model, i, out: model.custom("LceDequantize", i, [out])
        )

    def window(self, shape, kernels=(1, 2, 3, 5), dilations=(1,)):
        """Draws a window that fits into the map: kernel, stride and dilation, each (height, width), and padding."""
        kernel, stride, dilation = [], [], []
        for size in shape[1:3]:
            k, d = self.one(kernels), self.one(dilations)
            while (k - 1) * d + 1 > size:
                k, d = (k, 1) if d > 1 else (self.one([n for n in (1, 2, 3) if n < k]), 1)
            kernel.append(k)
            dilation.append(d)
            stride.append(self.one((1, 1, 1, 2, 3)))
        if self.chance(0.5):
            stride = [stride[0]] * 2
        return kernel, stride, dilation, self.one((lce_model.SAME, lce_model.SAME, lce_model.VALID))

    def bconv(self, bits, dtype=None, like=None, stride=None):
        """Adds a binary convolution; returns None if it would be too large.

        `like` is the number of output channels. If it is given, the convolution also has SAME padding, `stride`
        (default: 1), one group, no dilation, no activation, and a kernel of 3x3, or smaller on a smaller map. Otherwise
        all settings are random.
        """
        n, h, w, channels = bits.shape
        dtype = dtype or self.one(("float32", "float32", "float32", "int8", "bits"))
        groups = self.one([g for g in (1, 1, 1, 2, 4) if g == 1 or channels % (32 * g) == 0])
        kernel, strides, dilation, padding = self.window(bits.shape, dilations=(1, 1, 2))
        outputs = self.one(CHANNELS) * groups if groups > 1 else self.one(CHANNELS)
        if like is not None:
            groups, outputs, strides, dilation, padding = 1, like, [stride or 1] * 2, [1, 1], lce_model.SAME
            kernel = [min(3, h), min(3, w)]
        ones = self.chance(0.5)
        if padding == lce_model.SAME and channels % 2:
            ones = True  # LCE's exact kernel pads with zeros only if the number of channels is even
        if math.prod(kernel) * channels // groups * h * w * n * outputs > MOST_PRODUCTS * 16:
            return None
        activation = lce_model.NONE if dtype == "bits" or like is not None else self.one(ACTIVATIONS)
        depth = math.prod(kernel) * channels // groups
        filters = self.rng.choice(np.float32([-1, 1]), (outputs, *kernel, channels // groups))
        size = 2.0 ** -round(math.log2(depth) / 2)
        constants = {"multiplier": self.scales(outputs) * size, "bias": self.numbers(outputs, unit=0.125)}
        if dtype == "bits":
            constants["thresholds"] = self.rng.integers(depth // 2 - 2, depth // 2 + 3, outputs)
        settings = {
            "channels_in": channels,
            "padding": padding,
            "pad_values": int(ones),
            "stride_height": strides[0],
            "stride_width": strides[1],
            "dilation_height_factor": dilation[0],
            "dilation_width_factor": dilation[1],
            "fused_activation_function": activation,
        }
        size = [extent(s, *window, padding) for s, *window in zip((h, w), kernel, strides, dilation)]
        return self.add(
            f"LceBconv2d to {dtype}",
            [bits],
            (n, *size, outputs),
            lambda model, i, out: model.bconv(i[0], out, filters, **constants, **settings),
            dtype,
        )

    def bmaxpool(self, bits):
        kernel, stride, _, padding = self.window(bits.shape, kernels=(1, 2, 3))
        settings = {
            "filter_height": kernel[0],
            "filter_width": kernel[1],
            "stride_height": stride[0],
            "stride_width": stride[1],
            "padding": padding,
        }
        size = [extent(s, k, t, 1, padding) for s, k, t in zip(bits.shape[1:3], kernel, stride)]
        return self.add(
            "LceBMaxPool2d",
            [bits],
            (bits.shape[0], *size, bits.channels),
            lambda model, i, out: model.custom("LceBMaxPool2d", i, [out], settings),
            "bits",
        )

    def window_options(self, name, strides, dilation, padding, **others):
        """The options of a convolution, with a random activation."""
        return options(
            name,
            padding=padding,
            strideH=strides[0],
            strideW=strides[1],
            dilationHFactor=dilation[0],
            dilationWFactor=dilation[1],
            fusedActivationFunction=self.one(ACTIVATIONS),
            **others,
        )

    def conv(self, x, outputs=None, kernel=None, stride=None):
        n, h, w, channels = x.shape
        kernels, strides, dilation, padding = self.window(x.shape, dilations=(1, 1, 1, 2))
        if kernel:
            kernels, strides, dilation = [kernel] * 2, [stride or 1] * 2, [1, 1]
        if max(strides) > 1:
            dilation = [1, 1]  # TensorFlow Lite has no dilation with strides
        outputs = outputs or self.one(CHANNELS)
        depth = math.prod(kernels) * channels
        if depth * outputs * n * h * w > MOST_PRODUCTS:
            return None
        weights = self.scales((outputs, *kernels, channels)) * 2.0 ** -round(math.log2(depth) / 2)
        table = self.window_options("Conv2DOptions", strides, dilation, padding)
        size = [extent(s, *window, padding) for s, *window in zip((h, w), kernels, strides, dilation)]
        bias = self.numbers(outputs, unit=0.125)
        return self.builtin("CONV_2D", [x], (n, *size, outputs), table, [(weights, "float32"), (bias, "float32")])

    def pool(self, x, name=None, kernel=None, stride=None, padding=None):
        kernels, strides, _, drawn = self.window(x.shape, kernels=(1, 2, 3))
        if kernel:
            kernels, strides = list(kernel), [stride or 1] * 2
        padding = drawn if padding is None else padding
        table = options(
            "Pool2DOptions",
            padding=padding,
            filterHeight=kernels[0],
            filterWidth=kernels[1],
            strideH=strides[0],
            strideW=strides[1],
            fusedActivationFunction=lce_model.NONE if kernel else self.one(ACTIVATIONS),
        )
        size = [extent(s, k, t, 1, padding) for s, k, t in zip(x.shape[1:3], kernels, strides)]
        name = name or self.one(("MAX_POOL_2D", "AVERAGE_POOL_2D"))
        return self.builtin(name, [x], (x.shape[0], *size, x.channels), table)

    def average(self, x, keep_dims=None):
        """Adds the average of each channel over the map, as AVERAGE_POOL_2D or MEAN.

        If `keep_dims` is None, MEAN may drop the axes of height and width; else it keeps them.
        """
        form = self.one(("pool", "keep", "flat")) if keep_dims is None else self.one(("pool", "keep"))
        if form == "pool":
            return self.pool(x, "AVERAGE_POOL_2D", x.shape[1:3], 1, lce_model.VALID)
        n, channels = x.shape[0], x.channels
        shape = (n, 1, 1, channels) if form == "keep" else (n, channels)
        axes = [1, 2] if self.chance(0.7) else [2, 1]
        return self.builtin("MEAN", [x], shape, options("ReducerOptions", keepDims=form == "keep"), [(axes, "int32")])

    def arithmetic(self, x, other=None, name=None):
        """Adds ADD, SUB or MUL of `x` and `other`, or of `x` and a constant if `other` is None.

        The two operands are in random order, but a constant is never the first input of SUB.
        """
        name = name or self.one(("ADD", "ADD", "MUL", "MUL", "SUB"))
        table = options(f"{name.title()}Options", fusedActivationFunction=self.one(ACTIVATIONS))
        if other is not None:
            pair = [x, other] if self.chance(0.5) else [other, x]
            rank = max(len(v.shape) for v in pair)
            shapes = [(1,) * (rank - len(v.shape)) + v.shape for v in pair]
            return self.builtin(name, pair, [max(d) for d in zip(*shapes)], table)
        kinds = [(x.channels,), (1,) * (len(x.shape) - 1) + (x.channels,), (1,), ()]
        if x.is_map:
            kinds += [(1, *x.shape[1:]), x.shape[1:], (1, *x.shape[1:3], 1), x.shape]
        shape = self.one(kinds)
        constant = self.scales(shape) if name == "MUL" else self.numbers(shape)
        last = name == "SUB" or self.chance(0.7)

        def write(model, indices, out):
            second = model.constant(constant)
            model.builtin(name, [indices[0], second] if last else [second, indices[0]], [out], table)

        return self.add(name, [x], x.shape, write)

    def prelu(self, x):
        slopes = self.one(([0.25, 0.5, 0.75], [0, 0.5, 1], [-0.5, 0.5, 2]))
        shape = (1,) * (len(x.shape) - 2) + (x.channels,)
        return self.builtin("PRELU", [x], x.shape, constants=[(self.rng.choice(slopes, shape), "float32")])

    def clamp(self, x, name=None):
        return self.builtin(name or self.one(("RELU", "RELU6", "RELU_N1_TO_1")), [x], x.shape)

    def logistic(self, x):
        return self.builtin("LOGISTIC", [x], x.shape)

    def softmax(self, x):
        return self.builtin("SOFTMAX", [x], x.shape, options("SoftmaxOptions", beta=self.one((1.0, 0.5))))

    def dense(self, x, outputs=None, keep=None):
        flat = math.prod(x.shape[1:]) if len(x.shape) == 2 or x.shape[1:3] == (1, 1) else x.channels
        keep = (x.is_map and self.chance(0.3)) if keep is None else keep
        outputs = outputs or self.one((1, 5, 8, 10, 32, 40, 64))
        if math.prod(x.shape) * outputs > MOST_PRODUCTS:
            return None
        weights = self.scales((outputs, flat)) * 2.0 ** -round(math.log2(flat) / 2)
        table = options("FullyConnectedOptions", keepNumDims=keep, fusedActivationFunction=self.one(ACTIVATIONS))
        shape = (*x.shape[:-1], outputs) if keep else (math.prod(x.shape) // flat, outputs)
        constants = [(weights, "float32"), (self.numbers(outputs, unit=0.125), "float32")]
        return self.builtin("FULLY_CONNECTED", [x], shape, table, constants)

    def reshape(self, x, shape):
        stored = (*shape[:-1], lce_model.words(shape[-1])) if x.dtype == "bits" else shape

        def write(model, indices, out):
            new = model.constant(np.int32(stored), "int32")
            model.builtin("RESHAPE", [*indices, new], [out], options("ReshapeOptions"))

        return self.add("RESHAPE", [x], shape, write, x.dtype)

    def reshaped(self, x):
        n, h, w, channels = x.shape
        shapes = [(n, h * w, 1, channels), (n, 1, h * w, channels), (n, w, h, channels)]
        if x.dtype == "float32" and h * w * channels <= 4096:
            shapes.append((n, h * w * channels))
        return self.reshape(x, self.one(shapes))

    # ---- the file ----

    def written(self, operators, outputs):
        """Returns the bytes of a `.tflite` file with these operators, in this order, and these outputs."""
        model = lce_model.Model()
        indices = {id(self.input): model.input(self.input.shape)}
        for value in (output for operator in operators for output in operator.outputs):
            quantization = {"scale": 0.25, "zero_point": 3} if value.dtype == "int8" else {}
            indices[id(value)] = model.tensor(*value.stored, **quantization)
        for operator in operators:
            operator.write(
                model, [indices[id(v)] for v in operator.inputs], *(indices[id(v)] for v in operator.outputs)
            )
        for value in outputs:
            model.output(indices[id(value)])
        return model.bytes()
